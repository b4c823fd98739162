//! Adam, and AdamW with decay apart from the gradient.
//!
//! Source: Kingma & Ba 2015, arXiv:1412.6980, alg. 1; Loshchilov & Hutter 2019, arXiv:1711.05101, alg. 2.

use super::{Rule, StateMut, Step, check, correction};

/// `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`, `w ← w − lr·m̂/(√v̂ + ε)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    /// β₁, β₂
    pub betas: [f32; 2],
    /// ε
    pub eps: f32,
    /// Whether decay shrinks the weights (AdamW) instead of joining the gradient (Adam)
    pub decoupled: bool,
    mean: Vec<f32>,
    square: Vec<f32>,
}

impl Adam {
    /// AdamW for a tensor of `n` weights.
    pub fn adam_w(n: usize, betas: [f32; 2], eps: f32) -> Self {
        Self { betas, eps, decoupled: true, mean: vec![0.0; n], square: vec![0.0; n] }
    }

    /// Adam for a tensor of `n` weights.
    pub fn plain(n: usize, betas: [f32; 2], eps: f32) -> Self {
        Self { decoupled: false, ..Self::adam_w(n, betas, eps) }
    }
}

impl Rule for Adam {
    fn step(&mut self, weights: &mut [f32], grad: &[f32], at: &Step) {
        check(weights, grad, self.mean.len());
        let [beta1, beta2] = self.betas;
        let step_size = at.lr / correction(beta1, at.step);
        let root = correction(beta2, at.step).sqrt();
        let (kept, joined) = match self.decoupled {
            true => (1.0 - at.lr * at.weight_decay, 0.0),
            false => (1.0, at.weight_decay),
        };
        let moments = self.mean.iter_mut().zip(&mut self.square);
        for ((w, &g), (m, v)) in weights.iter_mut().zip(grad).zip(moments) {
            let g = g + joined * *w;
            *w *= kept;
            *m += (1.0 - beta1) * (g - *m);
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *w -= step_size * *m / (v.sqrt() / root + self.eps);
        }
    }

    fn state(&mut self) -> Vec<(&'static str, StateMut<'_>)> {
        vec![("mean", StateMut::F32(&mut self.mean)), ("square", StateMut::F32(&mut self.square))]
    }
}
