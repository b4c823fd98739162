//! A range of the last dimension.

use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::rms_norm::rows_per_task;
use crate::ops::{Backward, Operator, arity};
use crate::shape::Type;
use crate::Result;

/// `y[t, i] = x[t, start + i]`.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    start: usize,
    len: usize,
}

/// Puts `dy` back at `start` of rows of `width`, zero elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct ColumnsGrad {
    start: usize,
    width: usize,
}

impl Graph<'_> {
    /// Columns `start..start + len` of the last dimension: (…, C) → (…, len).
    pub fn columns(&mut self, x: Value, start: usize, len: usize) -> Result<Value> {
        self.push(Columns { start, len }.into(), &[x])
    }
}

impl Operator for Columns {
    fn name(&self) -> &'static str {
        "columns"
    }

    fn detail(&self) -> String {
        format!("{}..{}", self.start, self.start + self.len)
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x] = arity(inputs)?;
        let end = self.start.saturating_add(self.len);
        if self.len == 0 || end > x.shape.width() {
            return Err(format!("columns {}..{end} of {}", self.start, x.shape));
        }
        Ok(Type::f32(x.shape.with_width(self.len)))
    }

    fn cost(&self, _inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::copy(&[], output, batch)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let width = g.width(at.inputs[0]);
        Ok(vec![Some(g.push(ColumnsGrad { start: self.start, width }.into(), &[at.dy])?)])
    }

    fn reference(&self, run: &mut RefRun) {
        for (x, y) in run.input(0).chunks_exact(run.width(0)).zip(run.out.chunks_exact_mut(self.len)) {
            y.copy_from_slice(&x[self.start..][..self.len]);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, width, Columns { start, len }) = (run.f32(0), run.width(0), self.clone());
        run.pool.rows(run.out, len, rows_per_task(len), |first, rows| {
            for (x, y) in x[first * width..].chunks_exact(width).zip(rows.chunks_exact_mut(len)) {
                y.copy_from_slice(&x[start..][..len]);
            }
        });
    }
}

impl Operator for ColumnsGrad {
    fn name(&self) -> &'static str {
        "columns_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [dy] = arity(inputs)?;
        Ok(Type::f32(dy.shape.with_width(self.width)))
    }

    fn reference(&self, run: &mut RefRun) {
        let len = run.width(0);
        run.out.fill(0.0);
        for (dy, dx) in run.input(0).chunks_exact(len).zip(run.out.chunks_exact_mut(self.width)) {
            dx[self.start..][..len].copy_from_slice(dy);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (dy, len, Self { start, width }) = (run.f32(0), run.width(0), self.clone());
        run.pool.rows(run.out, width, rows_per_task(width), |first, rows| {
            rows.fill(0.0);
            for (dy, dx) in dy[first * len..].chunks_exact(len).zip(rows.chunks_exact_mut(width)) {
                dx[start..][..len].copy_from_slice(dy);
            }
        });
    }
}
