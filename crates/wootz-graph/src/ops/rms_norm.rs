//! Root-mean-square norm. Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4.

use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator};
use crate::param::Param;
use crate::shape::Type;
use crate::{Result, Shape};

/// `y = x / sqrt(mean(x²) + eps) · w` over groups of `width(w)` numbers; without `w`, the factor is 1.
#[derive(Clone, Debug)]
pub(crate) struct RmsNorm {
    eps: f32,
}

/// `dx = r·(w∘dy − x·r²·mean(x∘w∘dy))` with `r = 1 / sqrt(mean(x²) + eps)`.
#[derive(Clone, Debug)]
pub(crate) struct RmsNormInputGrad(RmsNorm);

/// `dw = Σₜ dy∘x·r`.
#[derive(Clone, Debug)]
pub(crate) struct RmsNormWeightGrad(RmsNorm);

impl Graph<'_> {
    /// Norm of each group of `C` numbers, scaled by `w` (C) → the shape of `x`. A `w` narrower than the last
    /// dimension norms heads one by one; a `w` of a head's width that `x` (T, H, D) ends in likewise.
    pub fn rms_norm(&mut self, x: Value, w: Param, eps: f32) -> Result<Value> {
        let w = self.weight(w);
        self.push(RmsNorm { eps }.into(), &[x, w])
    }

    /// Norm of each row of the last dimension, not scaled.
    pub fn rms_norm_plain(&mut self, x: Value, eps: f32) -> Result<Value> {
        self.push(RmsNorm { eps }.into(), &[x])
    }
}

impl Operator for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let (x, w) = match inputs {
            [x] => (x, x.shape.width()),
            [x, w] => (x, w.shape.inner()),
            _ => return Err(format!("expected 1 or 2 inputs, got {}", inputs.len())),
        };
        if !x.shape.width().is_multiple_of(w) {
            return Err(format!("weight ({w}) does not divide rows of {}", x.shape));
        }
        Ok(*x)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let x = at.inputs[0];
        let mut inputs = vec![x, at.dy];
        inputs.extend(at.inputs.get(1));
        let dx = g.push(RmsNormInputGrad(self.clone()).into(), &inputs)?;
        let mut grads = vec![Some(dx)];
        if let Some(&w) = at.inputs.get(1) {
            let dw = || g.push(RmsNormWeightGrad(self.clone()).into(), &[x, at.dy, w]);
            grads.push(at.wanted[1].then(dw).transpose()?);
        }
        Ok(grads)
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, w) = (run.input(0), (run.n_inputs() == 2).then(|| run.input(1)));
        let width = w.map_or(run.width(0), <[f64]>::len);
        for (x, y) in x.chunks_exact(width).zip(run.out.chunks_exact_mut(width)) {
            let r = self.inverse_rms(x);
            for i in 0..width {
                y[i] = x[i] * r * w.map_or(1.0, |w| w[i]);
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let w = (run.n_inputs() == 2).then(|| run.f32(1));
        let width = w.map_or(run.width(0), <[f32]>::len);
        wootz_kernels::rms_norm(run.isa, run.pool, run.f32(0), width, w, self.eps, run.out);
    }
}

impl RmsNorm {
    fn inverse_rms(&self, x: &[f64]) -> f64 {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        1.0 / (mean + f64::from(self.eps)).sqrt()
    }
}

impl Operator for RmsNormInputGrad {
    fn name(&self) -> &'static str {
        "rms_norm_input_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[0])
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, dy, w) = (run.input(0), run.input(1), (run.n_inputs() == 3).then(|| run.input(2)));
        let width = w.map_or(run.width(0), <[f64]>::len);
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
        for ((x, dy), dx) in rows.zip(run.out.chunks_exact_mut(width)) {
            let r = self.0.inverse_rms(x);
            let mean = (0..width).map(|i| x[i] * w.map_or(1.0, |w| w[i]) * dy[i]).sum::<f64>() / width as f64;
            for i in 0..width {
                dx[i] = r * (w.map_or(1.0, |w| w[i]) * dy[i] - x[i] * r * r * mean);
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, dy, w) = (run.f32(0), run.f32(1), (run.n_inputs() == 3).then(|| run.f32(2)));
        let width = w.map_or(run.width(0), <[f32]>::len);
        let eps = self.0.eps;
        run.pool.rows(run.out, width, rows_per_task(width), |first, rows| {
            let from = first * width;
            for (i, dx) in rows.chunks_exact_mut(width).enumerate() {
                let at = from + i * width..from + (i + 1) * width;
                let (x, dy) = (&x[at.clone()], &dy[at]);
                let r = 1.0 / (x.iter().map(|x| x * x).sum::<f32>() / width as f32 + eps).sqrt();
                let factor = |i: usize| w.map_or(1.0, |w| w[i]);
                let mean = (0..width).map(|i| x[i] * factor(i) * dy[i]).sum::<f32>() / width as f32;
                for i in 0..width {
                    dx[i] = r * (factor(i) * dy[i] - x[i] * r * r * mean);
                }
            }
        });
    }
}

impl Operator for RmsNormWeightGrad {
    fn name(&self) -> &'static str {
        "rms_norm_weight_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(Type::f32(Shape::fixed(&[inputs[2].shape.inner()])))
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, dy, width) = (run.input(0), run.input(1), run.input(2).len());
        run.out.fill(0.0);
        for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
            let r = self.0.inverse_rms(x);
            for (i, dw) in run.out.iter_mut().enumerate() {
                *dw += dy[i] * x[i] * r;
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, dy, width) = (run.f32(0), run.f32(1), run.f32(2).len());
        run.out.fill(0.0);
        for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
            let r = 1.0 / (x.iter().map(|x| x * x).sum::<f32>() / width as f32 + self.0.eps).sqrt();
            for (i, dw) in run.out.iter_mut().enumerate() {
                *dw += dy[i] * x[i] * r;
            }
        }
    }
}

/// Rows a task, so that a task is a few thousand numbers.
pub(crate) fn rows_per_task(width: usize) -> usize {
    (8192 / width.max(1)).max(1)
}
