//! Layer norm. Ba et al. 2016, arXiv:1607.06450.

use wootz_kernels::Norm;

use crate::device::cpu::{CpuRun, Out, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Part};
use crate::param::Param;
use crate::shape::Type;
use crate::{Result, Shape};

/// `y = (x − mean) / sqrt(var + eps) · w + b` over the last dimension.
#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    eps: f32,
    has_bias: bool,
}

/// `dx = r·(g − mean(g) − x̂·mean(g∘x̂))` with `g = w∘dy` and `x̂ = (x − mean)·r`, and `dw = Σₜ dy∘x̂`, `db = Σₜ dy`.
#[derive(Clone, Debug)]
pub(crate) struct LayerNormGrad {
    eps: f32,
    part: Part,
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

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let inputs = [&[at.dy], at.inputs].concat();
        at.parts(g, &inputs, |part| LayerNormGrad { eps: self.eps, part }.into())
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

impl Operator for LayerNormGrad {
    fn name(&self) -> &'static str {
        "layer_norm_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[1 + self.part.index])
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }

    fn adds(&self) -> bool {
        true
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, x, w) = (run.input(0), run.input(1), (run.n_inputs() > 2).then(|| run.input(2)));
        let width = run.width(1);
        run.out.fill(0.0);
        for (row, (x, dy)) in x.chunks_exact(width).zip(dy.chunks_exact(width)).enumerate() {
            let mean_of = |f: &dyn Fn(usize) -> f64| (0..width).map(f).sum::<f64>() / width as f64;
            let mean = mean_of(&|i| x[i]);
            let r = 1.0 / (mean_of(&|i| (x[i] - mean).powi(2)) + f64::from(self.eps)).sqrt();
            let normed = |i: usize| (x[i] - mean) * r;
            let g = |i: usize| dy[i] * w.map_or(1.0, |w| w[i]);
            let (of_g, of_product) = (mean_of(&g), mean_of(&|i| g(i) * normed(i)));
            for (i, dy) in dy.iter().enumerate() {
                match self.part.index {
                    0 => run.out[row * width + i] = r * (g(i) - of_g - normed(i) * of_product),
                    1 => run.out[i] += dy * normed(i),
                    _ => run.out[i] += dy,
                }
            }
        }
    }

    fn cpu_parts(&self, run: &CpuRun, [dx, dw, db, ..]: Outs) {
        let (isa, pool, row_len) = (run.isa, run.pool, run.width(1));
        let (dy, x, weight) = (run.f32(0), run.f32(1), (run.n_inputs() > 2).then(|| run.f32(2)));
        let norm = Norm { row_len, weight, eps: self.eps, centred: true };
        if let Some(dx) = dx {
            dx.write(|dx| wootz_kernels::norm_input_grad(isa, pool, &norm, x, dy, dx));
        }
        if let Some(Out { numbers, adds }) = dw {
            wootz_kernels::norm_weight_grad(isa, pool, &norm, x, dy, numbers, adds);
        }
        if let Some(Out { numbers, adds }) = db {
            wootz_kernels::sum_rows(isa, pool, dy, numbers, adds);
        }
    }
}
