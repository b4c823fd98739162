//! Rows rounded to 8 bits and back, each by its own largest number: what BitNet's matrices are given.
//!
//! Source: Ma et al. 2025, arXiv:2504.12285, §2; the constants are those of transformers' `BitLinear`. The gradient is
//!         that of the identity (straight through).

use crate::Result;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::rms_norm::rows_per_task;
use crate::ops::{Backward, Operator, arity};
use crate::shape::Type;

/// `y = clamp(round(s·x), −128, 127) / s` with `s = 127 / max(max|x|, 1e-5)` of the row; halves go to even.
#[derive(Clone, Debug)]
pub(crate) struct RoundRows;

impl Graph<'_> {
    /// Each row of the last dimension rounded to 8 bits of its largest number → the shape of `x`.
    pub fn round_rows(&mut self, x: Value) -> Result<Value> {
        self.push(RoundRows.into(), &[x])
    }
}

impl Operator for RoundRows {
    fn name(&self) -> &'static str {
        "round_rows"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        arity::<1>(inputs).map(|[x]| x)
    }

    fn gradient(&self, _g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        Ok(vec![Some(at.dy)])
    }

    fn reference(&self, run: &mut RefRun) {
        let width = run.width(0);
        for (x, y) in run.input(0).chunks_exact(width).zip(run.out.chunks_exact_mut(width)) {
            let scale = 127.0 / x.iter().fold(1e-5_f64, |max, x| max.max(x.abs()));
            for (y, x) in y.iter_mut().zip(x) {
                *y = (x * scale).round_ties_even().clamp(-128.0, 127.0) / scale;
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, width) = (run.f32(0), run.width(0));
        run.pool.rows(run.out, width, rows_per_task(width), |first, rows| {
            for (x, y) in x[first * width..].chunks_exact(width).zip(rows.chunks_exact_mut(width)) {
                let scale = 127.0 / x.iter().fold(1e-5_f32, |max, x| max.max(x.abs()));
                for (y, x) in y.iter_mut().zip(x) {
                    *y = (x * scale).round_ties_even().clamp(-128.0, 127.0) / scale;
                }
            }
        });
    }
}
