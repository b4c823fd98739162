//! The sum of all rows, in row order: the gradient of what every row was given.

use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Operator, arity};
use crate::shape::Type;
use crate::{Result, Shape};

/// `y[c] = Σₜ x[t, c]`.
#[derive(Clone, Debug)]
pub(crate) struct SumRows;

impl Graph<'_> {
    /// (T, C) → (C).
    pub(crate) fn sum_rows(&mut self, x: Value) -> Result<Value> {
        self.push(SumRows.into(), &[x])
    }
}

impl Operator for SumRows {
    fn name(&self) -> &'static str {
        "sum_rows"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x] = arity(inputs)?;
        Ok(Type::f32(Shape::fixed(&[x.shape.inner()])))
    }

    fn reference(&self, run: &mut RefRun) {
        let x = run.input(0);
        run.out.fill(0.0);
        for row in x.chunks_exact(run.out.len()) {
            for (sum, x) in run.out.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let x = run.f32(0);
        run.out.fill(0.0);
        for row in x.chunks_exact(run.out.len()) {
            for (sum, x) in run.out.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}
