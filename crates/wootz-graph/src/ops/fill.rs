//! A constant: the gradient that a backward pass starts from.

use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::Operator;
use crate::shape::Type;
use crate::Result;

/// `y = number` everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Fill {
    pub number: f32,
    pub ty: Type,
}

impl Graph<'_> {
    /// `number` in every place of a value of this type.
    pub(crate) fn fill(&mut self, number: f32, ty: Type) -> Result<Value> {
        self.push(Fill { number, ty }.into(), &[])
    }
}

impl Operator for Fill {
    fn name(&self) -> &'static str {
        "fill"
    }

    fn infer(&self, _inputs: &[Type]) -> Result<Type, String> {
        Ok(self.ty)
    }

    fn reference(&self, run: &mut RefRun) {
        run.out.fill(f64::from(self.number));
    }

    fn cpu(&self, run: &mut CpuRun) {
        run.out.fill(self.number);
    }
}
