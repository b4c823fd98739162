//! Rows divided by what they sum to: soft-max (router scores, class probabilities), and plain sums.
//!
//! Elsewhere: rows divided by their length ([`normalize`](Graph::normalize)), which shares the gradient.

use wootz_kernels::Divided;

use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, arity};
use crate::shape::Type;
use crate::Result;

/// `y = eˣ / Σ eˣ` over the last dimension, or `y = x / Σ x`.
#[derive(Clone, Debug)]
pub(crate) struct Softmax {
    exponential: bool,
}

/// The gradient of a division of rows, from its output `y`: soft-max `dx = y∘(dy − Σ dy∘y)`, by the sum `dx = (dy − Σ dy∘y) / Σ x`,
/// by the length `dx = (dy − y·Σ dy∘y) / ‖x‖`.
#[derive(Clone, Debug)]
pub(crate) struct DividedGrad(pub Divided);

impl Graph<'_> {
    /// Softmax of each row of the last dimension.
    pub fn softmax(&mut self, x: Value) -> Result<Value> {
        self.push(Softmax { exponential: true }.into(), &[x])
    }

    /// Each row of the last dimension divided by its sum (plus 1e-20, as DeepSeek's router does).
    pub fn normalize_sum(&mut self, x: Value) -> Result<Value> {
        self.push(Softmax { exponential: false }.into(), &[x])
    }
}

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        if self.exponential { "softmax" } else { "normalize_sum" }
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        arity::<1>(inputs).map(|[x]| x)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let (x, y) = (at.inputs[0], at.output);
        let dx = match self.exponential {
            true => g.push(DividedGrad(Divided::Exponentials).into(), &[at.dy, y])?,
            false => g.push(DividedGrad(Divided::BySum).into(), &[at.dy, y, x])?,
        };
        Ok(vec![Some(dx)])
    }

    fn reference(&self, run: &mut RefRun) {
        let width = run.width(0);
        for (x, y) in run.input(0).chunks_exact(width).zip(run.out.chunks_exact_mut(width)) {
            let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for (y, x) in y.iter_mut().zip(x) {
                *y = if self.exponential { (x - max).exp() } else { *x };
            }
            let sum = y.iter().sum::<f64>() + if self.exponential { 0.0 } else { 1e-20 };
            y.iter_mut().for_each(|y| *y /= sum);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let width = run.width(0);
        if self.exponential {
            wootz_kernels::softmax(run.isa, run.pool, run.f32(0), width, run.out);
            return;
        }
        let x = run.f32(0);
        for (y, x) in run.out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let sum = x.iter().sum::<f32>() + 1e-20;
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x / sum);
        }
    }
}

impl Operator for DividedGrad {
    fn name(&self) -> &'static str {
        match self.0 {
            Divided::Exponentials => "softmax_grad",
            Divided::BySum => "normalize_sum_grad",
            Divided::ByLength => "normalize_grad",
        }
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[1])
    }

    fn reference(&self, run: &mut RefRun) {
        let width = run.width(1);
        let (dy, y, x) = (run.input(0), run.input(1), run.input(run.n_inputs() - 1));
        let rows = dy.chunks_exact(width).zip(y.chunks_exact(width)).zip(x.chunks_exact(width));
        for (((dy, y), x), dx) in rows.zip(run.out.chunks_exact_mut(width)) {
            let along: f64 = dy.iter().zip(y).map(|(dy, y)| dy * y).sum();
            let (sum, length) = (x.iter().sum::<f64>() + 1e-20, x.iter().map(|x| x * x).sum::<f64>().sqrt());
            for i in 0..width {
                dx[i] = match self.0 {
                    Divided::Exponentials => y[i] * (dy[i] - along),
                    Divided::BySum => (dy[i] - along) / sum,
                    Divided::ByLength if length < 1e-12 => dy[i] / 1e-12,
                    Divided::ByLength => (dy[i] - y[i] * along) / length,
                };
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (isa, pool, width) = (run.isa, run.pool, run.width(1));
        let (dy, y, x) = (run.f32(0), run.f32(1), run.f32(run.n_inputs() - 1));
        wootz_kernels::divided_grad(isa, pool, self.0, width, x, y, dy, run.out);
    }
}
