//! Softmax over the last dimension: router scores, class probabilities.

use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Operator, arity};
use crate::shape::Type;
use crate::Result;

/// `y = eˣ / Σ eˣ` over the last dimension, or `y = x / Σ x`.
#[derive(Clone, Debug)]
pub(crate) struct Softmax {
    exponential: bool,
}

impl Graph<'_> {
    /// Softmax of each row of the last dimension.
    pub fn softmax(&mut self, x: Value) -> Result<Value> {
        self.push(Softmax { exponential: true }.into(), &[x])
    }

    /// Each row of the last dimension divided by its sum (plus 1e-20, as DeepSeek's router does).
    pub fn normalize_sum(&mut self, x: Value) -> Result<Value> {
        self.push(Softmax { exponential: false }.into(), &[x])
    }
}

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        if self.exponential { "softmax" } else { "normalize_sum" }
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        arity::<1>(inputs).map(|[x]| x)
    }

    fn reference(&self, run: &mut RefRun) {
        let width = run.width(0);
        for (x, y) in run.input(0).chunks_exact(width).zip(run.out.chunks_exact_mut(width)) {
            let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for (y, x) in y.iter_mut().zip(x) {
                *y = if self.exponential { (x - max).exp() } else { *x };
            }
            let sum = y.iter().sum::<f64>() + if self.exponential { 0.0 } else { 1e-20 };
            y.iter_mut().for_each(|y| *y /= sum);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let width = run.width(0);
        if self.exponential {
            wootz_kernels::softmax(run.isa, run.pool, run.f32(0), width, run.out);
            return;
        }
        let x = run.f32(0);
        for (y, x) in run.out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let sum = x.iter().sum::<f32>() + 1e-20;
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x / sum);
        }
    }
}
