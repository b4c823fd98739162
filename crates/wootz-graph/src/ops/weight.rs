//! A weight as a value. The executor finds it among the loaded weights.

use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::ops::Operator;
use crate::param::Param;
use crate::shape::Type;

/// A declared weight.
#[derive(Clone, Debug)]
pub(crate) struct Weight {
    pub param: Param,
    pub ty: Type,
}

impl Operator for Weight {
    fn name(&self) -> &'static str {
        "weight"
    }

    fn infer(&self, _inputs: &[Type]) -> Result<Type, String> {
        Ok(self.ty)
    }

    fn cost(&self, _inputs: &[Type], _output: &Type, _batch: &Batch) -> Cost {
        Cost::default()
    }

    fn reference(&self, _run: &mut RefRun) {
        unreachable!("leaves are read from the loaded weights")
    }

    fn cpu(&self, _run: &mut CpuRun) {
        unreachable!("leaves are read from the loaded weights")
    }
}
