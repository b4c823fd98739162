//! Sums over rows and over columns: the gradients of what every row, or every column, was given.

use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::rms_norm::rows_per_task;
use crate::ops::{Backward, Operator, arity};
use crate::shape::{Dim, Type};
use crate::{Result, Shape};

/// `y[c] = Σₜ x[t, c]` over all parts of `width` numbers, whether or not they are rows of their own.
#[derive(Clone, Debug)]
pub(crate) struct SumRows {
    width: usize,
}

/// `y[t] = Σ_c x[t, c]`.
#[derive(Clone, Debug)]
pub(crate) struct SumColumns;

impl Graph<'_> {
    /// (T, …, C) → (C), for a `C` that divides what comes before the end of a row.
    pub(crate) fn sum_rows(&mut self, x: Value, width: usize) -> Result<Value> {
        self.push(SumRows { width }.into(), &[x])
    }

    /// The sum of each row: (T, …) → (T, 1). With [`mul`](Self::mul) before it, the inner product of rows.
    pub fn sum_columns(&mut self, x: Value) -> Result<Value> {
        self.push(SumColumns.into(), &[x])
    }
}

impl Operator for SumRows {
    fn name(&self) -> &'static str {
        "sum_rows"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x] = arity(inputs)?;
        if self.width == 0 || !x.shape.inner().is_multiple_of(self.width) {
            return Err(format!("{} has no parts of {}", x.shape, self.width));
        }
        Ok(Type::f32(Shape::fixed(&[self.width])))
    }

    fn adds(&self) -> bool {
        true
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
        wootz_kernels::sum_rows(run.isa, run.pool, run.f32(0), run.out, run.adds);
    }
}

impl Operator for SumColumns {
    fn name(&self) -> &'static str {
        "sum_columns"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x] = arity(inputs)?;
        match x.shape.dims() {
            &[rows @ Dim::Rows(..), ..] => Ok(Type::f32((rows, 1))),
            _ => Err(format!("expected rows, got {}", x.shape)),
        }
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let ty = g.ty(at.inputs[0]);
        let ones = g.fill(1.0, ty)?;
        Ok(vec![Some(g.mul(ones, at.dy)?)])
    }

    fn reference(&self, run: &mut RefRun) {
        let rows = run.input(0).chunks_exact(run.types[0].shape.inner());
        run.out.iter_mut().zip(rows).for_each(|(sum, row)| *sum = row.iter().sum());
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, width) = (run.f32(0), run.types[0].shape.inner());
        run.pool.rows(run.out, 1, rows_per_task(width), |first, sums| {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = x[(first + i) * width..][..width].iter().sum();
            }
        });
    }
}
