//! Lion: only the sign of the direction counts.
//!
//! Source: Chen et al. 2023, arXiv:2302.06675, alg. 2.

use super::{Rule, StateMut, Step, check};

/// `w ← w − lr·(sign(β₁m + (1−β₁)g) + λw)`, `m ← β₂m + (1−β₂)g`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lion {
    /// β₁, β₂
    pub betas: [f32; 2],
    mean: Vec<f32>,
}

impl Lion {
    /// For a tensor of `n` weights.
    pub fn new(n: usize, betas: [f32; 2]) -> Self {
        Self { betas, mean: vec![0.0; n] }
    }
}

impl Rule for Lion {
    fn step(&mut self, weights: &mut [f32], grad: &[f32], at: &Step) {
        check(weights, grad, self.mean.len());
        let [beta1, beta2] = self.betas;
        let kept = 1.0 - at.lr * at.weight_decay;
        for ((w, &g), m) in weights.iter_mut().zip(grad).zip(&mut self.mean) {
            let direction = beta1 * *m + (1.0 - beta1) * g;
            // `signum` of 0 would be 1.
            let sign = f32::from(direction > 0.0) - f32::from(direction < 0.0);
            *w = *w * kept - at.lr * sign;
            *m = beta2 * *m + (1.0 - beta2) * g;
        }
    }

    fn state(&mut self) -> Vec<(&'static str, StateMut<'_>)> {
        vec![("mean", StateMut::F32(&mut self.mean))]
    }
}
