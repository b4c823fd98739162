//! The same numbers seen through another shape. Costs nothing: the output is the input's buffer.

use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Takes, arity};
use crate::shape::{Shape, Type};
use crate::Result;

/// `y = x` with another shape.
#[derive(Clone, Debug)]
pub(crate) struct Reshape(Shape);

impl Graph<'_> {
    /// `x` through another shape with as many numbers a row.
    pub fn reshape(&mut self, x: Value, shape: impl Into<Shape>) -> Result<Value> {
        self.push(Reshape(shape.into()).into(), &[x])
    }
}

impl Operator for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x] = arity(inputs)?;
        let per_row = |shape: &Shape| shape.inner() * shape.rows().map_or(1, |(_, times)| times);
        let same_axis = x.shape.rows().map(|(axis, _)| axis) == self.0.rows().map(|(axis, _)| axis);
        if !same_axis || per_row(&x.shape) != per_row(&self.0) {
            return Err(format!("{} cannot be seen as {}", x.shape, self.0));
        }
        Ok(Type { shape: self.0, dtype: x.dtype })
    }

    fn takes(&self, _input: usize, _inputs: &[Type]) -> Takes {
        Takes::Anything
    }

    fn alias(&self) -> Option<usize> {
        Some(0)
    }

    fn cost(&self, _inputs: &[Type], _output: &Type, _batch: &Batch) -> Cost {
        Cost::default()
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let shape = g.ty(at.inputs[0]).shape;
        Ok(vec![Some(g.reshape(at.dy, shape)?)])
    }

    fn reference(&self, _run: &mut RefRun) {
        unreachable!("a plan gives a reshape its input's buffer")
    }

    fn cpu(&self, _run: &mut CpuRun) {
        unreachable!("a plan gives a reshape its input's buffer")
    }
}
