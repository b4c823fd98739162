//! Root-mean-square norm. Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4.

use wootz_kernels::Norm;

use crate::device::cpu::{CpuRun, Out, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Part};
use crate::param::Param;
use crate::shape::Type;
use crate::Result;

/// `y = x / sqrt(mean(x²) + eps) · w` over groups of `width(w)` numbers; without `w`, the factor is 1.
#[derive(Clone, Debug)]
pub(crate) struct RmsNorm {
    eps: f32,
}

/// `dx = r·(w∘dy − x·r²·mean(x∘w∘dy))` with `r = 1 / sqrt(mean(x²) + eps)`, and `dw = Σₜ dy∘x·r`.
#[derive(Clone, Debug)]
pub(crate) struct RmsNormGrad {
    norm: RmsNorm,
    part: Part,
}

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
        let inputs = [&[at.dy], at.inputs].concat();
        at.parts(g, &inputs, |part| RmsNormGrad { norm: self.clone(), part }.into())
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

impl Operator for RmsNormGrad {
    fn name(&self) -> &'static str {
        "rms_norm_grad"
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
        let (dy, x, w) = (run.input(0), run.input(1), (run.n_inputs() == 3).then(|| run.input(2)));
        let width = w.map_or(run.width(1), <[f64]>::len);
        let factor = |i: usize| w.map_or(1.0, |w| w[i]);
        run.out.fill(0.0);
        for (row, (x, dy)) in x.chunks_exact(width).zip(dy.chunks_exact(width)).enumerate() {
            let r = self.norm.inverse_rms(x);
            let mean = (0..width).map(|i| x[i] * factor(i) * dy[i]).sum::<f64>() / width as f64;
            for i in 0..width {
                match self.part.index {
                    0 => run.out[row * width + i] = r * (factor(i) * dy[i] - x[i] * r * r * mean),
                    _ => run.out[i] += dy[i] * x[i] * r,
                }
            }
        }
    }

    fn cpu_parts(&self, run: &CpuRun, [dx, dw, ..]: Outs) {
        let (dy, x, weight) = (run.f32(0), run.f32(1), (run.n_inputs() == 3).then(|| run.f32(2)));
        let row_len = weight.map_or(run.width(1), <[f32]>::len);
        let norm = Norm { row_len, weight, eps: self.norm.eps, centred: false };
        if let Some(dx) = dx {
            dx.write(|dx| wootz_kernels::norm_input_grad(run.isa, run.pool, &norm, x, dy, dx));
        }
        if let Some(Out { numbers, adds }) = dw {
            wootz_kernels::norm_weight_grad(run.isa, run.pool, &norm, x, dy, numbers, adds);
        }
    }
}

/// Rows a task, so that a task is a few thousand numbers.
pub(crate) fn rows_per_task(width: usize) -> usize {
    (8192 / width.max(1)).max(1)
}
