//! LAMB: AdamW whose step is as long as the weights are.
//!
//! Source: You et al. 2020, arXiv:1904.00962, alg. 2, with φ the identity and a ratio of 1 where a norm is 0.

use super::{Rule, StateMut, Step, check, correction};

/// `r = m̂/(√v̂ + ε) + λw`, `w ← w − lr·(‖w‖/‖r‖)·r`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lamb {
    /// β₁, β₂
    pub betas: [f32; 2],
    /// ε
    pub eps: f32,
    mean: Vec<f32>,
    square: Vec<f32>,
}

impl Lamb {
    /// For a tensor of `n` weights.
    pub fn new(n: usize, betas: [f32; 2], eps: f32) -> Self {
        Self { betas, eps, mean: vec![0.0; n], square: vec![0.0; n] }
    }
}

impl Rule for Lamb {
    fn step(&mut self, weights: &mut [f32], grad: &[f32], at: &Step) {
        check(weights, grad, self.mean.len());
        let [beta1, beta2] = self.betas;
        let (mean_part, square_part) = (correction(beta1, at.step), correction(beta2, at.step));
        let eps = self.eps;
        let direction =
            |w: f32, m: f32, v: f32| m / mean_part / ((v / square_part).sqrt() + eps) + at.weight_decay * w;
        // Twice over the rows instead of a row more: the norm of the step decides its length.
        let (mut weight_norm, mut step_norm) = (0.0_f64, 0.0_f64);
        let moments = self.mean.iter_mut().zip(&mut self.square);
        for ((&w, &g), (m, v)) in weights.iter().zip(grad).zip(moments) {
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            weight_norm += f64::from(w).powi(2);
            step_norm += f64::from(direction(w, *m, *v)).powi(2);
        }
        let ratio = match weight_norm > 0.0 && step_norm > 0.0 {
            true => (weight_norm / step_norm).sqrt() as f32,
            false => 1.0,
        };
        for (w, (&m, &v)) in weights.iter_mut().zip(self.mean.iter().zip(&self.square)) {
            *w -= at.lr * ratio * direction(*w, m, v);
        }
    }

    fn state(&mut self) -> Vec<(&'static str, StateMut<'_>)> {
        vec![("mean", StateMut::F32(&mut self.mean)), ("square", StateMut::F32(&mut self.square))]
    }
}
