//! Layer norm. Ba et al. 2016, arXiv:1607.06450.

use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::Operator;
use crate::param::Param;
use crate::shape::Type;
use crate::{Result, Shape};

/// `y = (x − mean) / sqrt(var + eps) · w + b` over the last dimension.
#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    eps: f32,
    has_bias: bool,
}

impl Graph<'_> {
    /// Norm of each row of the last dimension, scaled by `w` (C) and shifted by `b` (C) → the shape of `x`.
    pub fn layer_norm(&mut self, x: Value, w: Option<Param>, b: Option<Param>, eps: f32) -> Result<Value> {
        let mut inputs = vec![x];
        inputs.extend([w, b].into_iter().flatten().map(|param| self.weight(param)));
        self.push(LayerNorm { eps, has_bias: b.is_some() }.into(), &inputs)
    }
}

impl Operator for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let x = inputs[0].shape;
        if inputs.len() < 1 + usize::from(self.has_bias) * 2 {
            return Err("a norm with a bias has a weight".to_owned());
        }
        let fits = |w: &Shape| w.inner() == x.width();
        match inputs[1..].iter().find(|w| !fits(&w.shape)) {
            Some(w) => Err(format!("weight {} does not fit rows of {x}", w.shape)),
            None => Ok(inputs[0]),
        }
    }

    fn reference(&self, run: &mut RefRun) {
        let width = run.width(0);
        let w = (run.n_inputs() > 1).then(|| run.input(1));
        let b = self.has_bias.then(|| run.input(2));
        for (x, y) in run.input(0).chunks_exact(width).zip(run.out.chunks_exact_mut(width)) {
            let mean = x.iter().sum::<f64>() / width as f64;
            let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let r = 1.0 / (var + f64::from(self.eps)).sqrt();
            for i in 0..width {
                y[i] = (x[i] - mean) * r * w.map_or(1.0, |w| w[i]) + b.map_or(0.0, |b| b[i]);
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let width = run.width(0);
        let w = (run.n_inputs() > 1).then(|| run.f32(1));
        let b = self.has_bias.then(|| run.f32(2));
        wootz_kernels::layer_norm(run.isa, run.pool, run.f32(0), width, w, b, self.eps, run.out);
    }
}
