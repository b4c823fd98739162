//! From the tokens of a sequence to one vector: sentence embeddings.
//!
//! Source: Reimers & Gurevych 2019, arXiv:1908.10084, §3.

use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Operator, arity};
use crate::shape::{Axis, Dim, Type};
use crate::Result;

/// Which tokens speak for a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all.
    Mean,
    /// The largest number of each column.
    Max,
    /// The first.
    Cls,
    /// The last.
    Last,
}

/// One row for each sequence.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Pooling);

/// `y = x / max(‖x‖, 1e-12)`.
#[derive(Clone, Debug)]
pub(crate) struct Normalize;

impl Graph<'_> {
    /// `x` (T, C) → (B, C). A sequence without tokens gives zeros.
    pub fn pool(&mut self, x: Value, pooling: Pooling) -> Result<Value> {
        self.push(Pool(pooling).into(), &[x])
    }

    /// Each row divided by its length.
    pub fn normalize(&mut self, x: Value) -> Result<Value> {
        self.push(Normalize.into(), &[x])
    }
}

impl Operator for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn detail(&self) -> String {
        format!("{:?}", self.0).to_lowercase()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x] = arity(inputs)?;
        match x.shape.rows() {
            Some((Axis::Tokens, 1)) => Ok(Type::f32((Dim::Rows(Axis::Sequences, 1), x.shape.inner()))),
            _ => Err(format!("expected rows (T, C), got {}", x.shape)),
        }
    }

    /// Column by column.
    fn reference(&self, run: &mut RefRun) {
        let (x, width) = (run.input(0), run.out_ty.shape.inner());
        for (b, seq) in run.batch.sequences.iter().enumerate() {
            for c in 0..width {
                let column: Vec<f64> = seq.rows.clone().map(|t| x[t * width + c]).collect();
                run.out[b * width + c] = match (self.0, &column[..]) {
                    (_, []) => 0.0,
                    (Pooling::Mean, column) => column.iter().sum::<f64>() / column.len() as f64,
                    (Pooling::Max, column) => column.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    (Pooling::Cls, [first, ..]) => *first,
                    (Pooling::Last, [.., last]) => *last,
                };
            }
        }
    }

    /// Row by row.
    fn cpu(&self, run: &mut CpuRun) {
        let (x, width) = (run.f32(0), run.out_ty.shape.inner());
        for (seq, y) in run.batch.sequences.iter().zip(run.out.chunks_exact_mut(width)) {
            let mut rows = x[seq.rows.start * width..seq.rows.end * width].chunks_exact(width);
            let chosen = if self.0 == Pooling::Last { rows.next_back() } else { rows.next() };
            let Some(chosen) = chosen else {
                y.fill(0.0);
                continue;
            };
            y.copy_from_slice(chosen);
            for row in rows {
                match self.0 {
                    Pooling::Mean => y.iter_mut().zip(row).for_each(|(y, x)| *y += x),
                    Pooling::Max => y.iter_mut().zip(row).for_each(|(y, x)| *y = y.max(*x)),
                    Pooling::Cls | Pooling::Last => {}
                }
            }
            if self.0 == Pooling::Mean {
                y.iter_mut().for_each(|y| *y /= seq.rows.len() as f32);
            }
        }
    }
}

impl Operator for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        arity::<1>(inputs).map(|[x]| x)
    }

    fn reference(&self, run: &mut RefRun) {
        let width = run.width(0);
        for (x, y) in run.input(0).chunks_exact(width).zip(run.out.chunks_exact_mut(width)) {
            let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x / norm);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let width = run.width(0);
        for (x, y) in run.f32(0).chunks_exact(width).zip(run.out.chunks_exact_mut(width)) {
            let norm = x.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x / norm);
        }
    }
}
