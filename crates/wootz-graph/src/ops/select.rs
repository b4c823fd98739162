//! Chosen rows of a value: the tokens whose output somebody wants.

use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Takes, arity};
use crate::shape::{Axis, Dim, Shape, Type};
use crate::Result;

/// `y[o] = x[rows[o]]`.
#[derive(Clone, Debug)]
pub(crate) struct Select;

/// `dx[rows[o]] = dy[o]`, added where a row was chosen twice, zero elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct SelectGrad {
    shape: Shape,
}

impl Graph<'_> {
    /// The rows of `x` (T, C) that the batch asks for → (O, C).
    pub fn select_outputs(&mut self, x: Value) -> Result<Value> {
        let rows = self.input("outputs", Type::u32((Dim::Rows(Axis::Outputs, 1),)));
        self.push(Select.into(), &[x, rows])
    }
}

impl Operator for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x, rows] = arity(inputs)?;
        match x.shape.rows() {
            Some((Axis::Tokens, 1)) => Ok(Type::f32(rows.shape.with_width(x.shape.inner()))),
            _ => Err(format!("expected rows (T, C), got {}", x.shape)),
        }
    }

    /// That the rows exist is checked with the batch.
    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if input == 1 { Takes::Ids { below: None } } else { Takes::Numbers }
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::copy(&inputs[1..], output, batch)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let shape = g.ty(at.inputs[0]).shape;
        Ok(vec![Some(g.push(SelectGrad { shape }.into(), &[at.dy, at.inputs[1]])?), None])
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, rows, width) = (run.input(0), run.input(1), run.types[0].shape.inner());
        for (y, &row) in run.out.chunks_exact_mut(width).zip(rows) {
            y.copy_from_slice(&x[row as usize * width..][..width]);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, rows, width) = (run.f32(0), run.u32(1), run.types[0].shape.inner());
        for (y, &row) in run.out.chunks_exact_mut(width).zip(rows) {
            y.copy_from_slice(&x[row as usize * width..][..width]);
        }
    }
}

impl Operator for SelectGrad {
    fn name(&self) -> &'static str {
        "select_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        arity::<2>(inputs).map(|_| Type::f32(self.shape))
    }

    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if input == 1 { Takes::Ids { below: None } } else { Takes::Numbers }
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::copy(&inputs[1..], output, batch)
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, rows, width) = (run.input(0), run.input(1), self.shape.inner());
        run.out.fill(0.0);
        for (dy, &row) in dy.chunks_exact(width).zip(rows) {
            let dx = &mut run.out[row as usize * width..][..width];
            dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (dy, rows, width) = (run.f32(0), run.u32(1), self.shape.inner());
        run.out.fill(0.0);
        for (dy, &row) in dy.chunks_exact(width).zip(rows) {
            let dx = &mut run.out[row as usize * width..][..width];
            dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy);
        }
    }
}
