//! A run-time input: ids, positions, targets, embeddings from outside. The executor fills it from the batch.

use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::ops::Operator;
use crate::shape::Type;

/// A named input of the batch.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub name: &'static str,
    pub ty: Type,
}

impl Operator for Input {
    fn name(&self) -> &'static str {
        "input"
    }

    fn infer(&self, _inputs: &[Type]) -> Result<Type, String> {
        Ok(self.ty)
    }

    fn cost(&self, _inputs: &[Type], _output: &Type, _batch: &Batch) -> Cost {
        Cost::default()
    }

    fn reference(&self, _run: &mut RefRun) {
        unreachable!("leaves are read from the batch")
    }

    fn cpu(&self, _run: &mut CpuRun) {
        unreachable!("leaves are read from the batch")
    }
}
