//! RMSprop.
//!
//! Source: Hinton 2012, lecture 6e; ε outside of the root and decay in the gradient, as in `torch.optim.RMSprop`.

use super::{Rule, StateMut, Step, check};

/// `v ← αv + (1−α)g²`, `w ← w − lr·g/(√v + ε)`.
#[derive(Debug, Clone, PartialEq)]
pub struct RmsProp {
    /// α
    pub alpha: f32,
    /// ε
    pub eps: f32,
    square: Vec<f32>,
}

impl RmsProp {
    /// For a tensor of `n` weights.
    pub fn new(n: usize, alpha: f32, eps: f32) -> Self {
        Self { alpha, eps, square: vec![0.0; n] }
    }
}

impl Rule for RmsProp {
    fn step(&mut self, weights: &mut [f32], grad: &[f32], at: &Step) {
        check(weights, grad, self.square.len());
        for ((w, &g), v) in weights.iter_mut().zip(grad).zip(&mut self.square) {
            let g = g + at.weight_decay * *w;
            *v = self.alpha * *v + (1.0 - self.alpha) * g * g;
            *w -= at.lr * g / (v.sqrt() + self.eps);
        }
    }

    fn state(&mut self) -> Vec<(&'static str, StateMut<'_>)> {
        vec![("square", StateMut::F32(&mut self.square))]
    }
}
