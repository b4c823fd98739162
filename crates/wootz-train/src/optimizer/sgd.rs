//! Stochastic gradient descent, with momentum or without.
//!
//! Source: Sutskever et al. 2013; the order of operations is PyTorch's (`torch.optim.SGD`): decay is part of the gradient.

use super::{Rule, StateMut, Step, check};

/// `v ← μ·v + g`, `w ← w − lr·v`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sgd {
    /// μ; 0 keeps no state
    pub momentum: f32,
    /// Whether the step looks ahead along the momentum
    pub nesterov: bool,
    velocity: Vec<f32>,
}

impl Sgd {
    /// For a tensor of `n` weights.
    pub fn new(n: usize, momentum: f32, nesterov: bool) -> Self {
        Self { momentum, nesterov, velocity: vec![0.0; if momentum == 0.0 { 0 } else { n }] }
    }
}

impl Rule for Sgd {
    fn step(&mut self, weights: &mut [f32], grad: &[f32], at: &Step) {
        if self.momentum == 0.0 {
            check(weights, grad, weights.len());
            weights.iter_mut().zip(grad).for_each(|(w, g)| *w -= at.lr * (g + at.weight_decay * *w));
            return;
        }
        check(weights, grad, self.velocity.len());
        for ((w, &g), v) in weights.iter_mut().zip(grad).zip(&mut self.velocity) {
            let g = g + at.weight_decay * *w;
            *v = self.momentum * *v + g;
            let direction = if self.nesterov { g + self.momentum * *v } else { *v };
            *w -= at.lr * direction;
        }
    }

    fn state(&mut self) -> Vec<(&'static str, StateMut<'_>)> {
        if self.velocity.is_empty() {
            Vec::new()
        } else {
            vec![("velocity", StateMut::F32(&mut self.velocity))]
        }
    }
}
