//! The sum of rows times weights: from per-token log-probabilities to a loss.

use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, arity};
use crate::shape::Type;
use crate::{Result, Shape};

/// `y = Σₜ x[t]·w[t]`, one number.
#[derive(Clone, Debug)]
pub(crate) struct WeightedSum;

impl Graph<'_> {
    /// `x` and `weights`, both (T) → (1). The weights are data and get no gradient.
    pub fn weighted_sum(&mut self, x: Value, weights: Value) -> Result<Value> {
        self.push(WeightedSum.into(), &[x, weights])
    }
}

impl Operator for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted_sum"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x, weights] = arity(inputs)?;
        if x.shape != weights.shape {
            return Err(format!("{} and weights {} differ", x.shape, weights.shape));
        }
        Ok(Type::f32(Shape::fixed(&[1])))
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        Ok(vec![Some(g.mul(at.inputs[1], at.dy)?), None])
    }

    fn reference(&self, run: &mut RefRun) {
        run.out[0] = run.input(0).iter().zip(run.input(1)).map(|(x, w)| x * w).sum();
    }

    fn cpu(&self, run: &mut CpuRun) {
        run.out[0] = run.f32(0).iter().zip(run.f32(1)).map(|(x, w)| f64::from(x * w)).sum::<f64>() as f32;
    }
}
