//! What an operator costs: arithmetic and memory traffic, summed over a plan.

use crate::batch::Batch;
use crate::shape::Type;

/// Arithmetic and memory traffic. Every number counts 4 bytes: what a weight is stored as, only its device knows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point (or integer) operations; a multiply-add counts two.
    pub flops: f64,
    /// Bytes read and written, each operand once.
    pub bytes: f64,
}

impl Cost {
    /// The cost of an operator that does `flops_each` operations per output number and touches every operand once.
    pub fn elementwise(inputs: &[Type], output: &Type, batch: &Batch, flops_each: f64) -> Self {
        let count = |ty: &Type| n_elements(ty, batch) as f64;
        let touched: f64 = inputs.iter().map(count).sum::<f64>() + count(output);
        Self { flops: flops_each * count(output), bytes: 4.0 * touched }
    }

    /// The cost of an operator that only moves numbers: what it writes is read once, beside these inputs.
    pub(crate) fn copy(inputs: &[Type], output: &Type, batch: &Batch) -> Self {
        let read: usize = inputs.iter().chain([output]).map(|ty| n_elements(ty, batch)).sum();
        Self { flops: 0.0, bytes: 4.0 * (read + n_elements(output, batch)) as f64 }
    }
}

impl std::ops::Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

/// How many numbers a value of this type holds in this batch.
pub(crate) fn n_elements(ty: &Type, batch: &Batch) -> usize {
    let rows = ty.shape.rows().map_or(1, |(axis, times)| batch.rows().of(axis) * times);
    rows * ty.shape.inner()
}
