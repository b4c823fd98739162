//! Schedule-free AdamW: an average of all steps in place of a falling rate.
//!
//! Source: Defazio et al. 2024, arXiv:2405.15682, alg. 1; weights of the average are lr² as in its authors' code.

use super::{Rule, StateMut, Step, check, correction};

/// Gradients are taken at `y = (1−β₁)z + β₁x`, which the weights are while training; `z` follows the gradient, `x` averages `z`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleFree {
    /// β₁, β₂
    pub betas: [f32; 2],
    /// ε
    pub eps: f32,
    fast: Vec<f32>,
    square: Vec<f32>,
    /// The sum of the average's weights, and the largest rate so far
    sums: [f32; 2],
}

impl ScheduleFree {
    /// For a tensor of `n` weights.
    pub fn new(n: usize, betas: [f32; 2], eps: f32) -> Self {
        Self { betas, eps, fast: vec![0.0; n], square: vec![0.0; n], sums: [0.0; 2] }
    }

    /// From the weights of training, `y`, to those that are used, `x`.
    pub fn to_average(&self, weights: &mut [f32]) {
        let beta1 = self.betas[0];
        weights.iter_mut().zip(&self.fast).for_each(|(w, &z)| *w += (1.0 - 1.0 / beta1) * (z - *w));
    }

    /// And back.
    pub fn to_training(&self, weights: &mut [f32]) {
        let beta1 = self.betas[0];
        weights.iter_mut().zip(&self.fast).for_each(|(w, &z)| *w += (1.0 - beta1) * (z - *w));
    }
}

impl Rule for ScheduleFree {
    fn step(&mut self, weights: &mut [f32], grad: &[f32], at: &Step) {
        check(weights, grad, self.fast.len());
        if at.step == 1 {
            self.fast.copy_from_slice(weights);
        }
        let [beta1, beta2] = self.betas;
        let lr_max = self.sums[1].max(at.lr);
        let weight = lr_max * lr_max;
        let sum = self.sums[0] + weight;
        (self.sums[0], self.sums[1]) = (sum, lr_max);
        let share = if sum > 0.0 { weight / sum } else { 0.0 };
        let square_part = correction(beta2, at.step);
        let states = self.fast.iter_mut().zip(&mut self.square);
        for ((y, &g), (z, v)) in weights.iter_mut().zip(grad).zip(states) {
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            let direction = g / ((*v / square_part).sqrt() + self.eps) + at.weight_decay * *y;
            *y += share * (*z - *y) + at.lr * (beta1 * (1.0 - share) - 1.0) * direction;
            *z -= at.lr * direction;
        }
    }

    fn state(&mut self) -> Vec<(&'static str, StateMut<'_>)> {
        vec![
            ("fast", StateMut::F32(&mut self.fast)),
            ("square", StateMut::F32(&mut self.square)),
            ("sums", StateMut::F32(&mut self.sums)),
        ]
    }
}
