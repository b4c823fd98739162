//! A linear layer of its own for every head: MLA's way between heads and the shared latent.
//!
//! Source: DeepSeek-AI 2024, arXiv:2405.04434, §2.1 (the "absorbed" form).

use wootz_kernels::{ExpertPart, ExpertRows};

use crate::batch::Batch;
use crate::cost::{Cost, n_elements};
use crate::device::cpu::{CpuRun, Out, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Part, Takes, arity};
use crate::param::{Param, ParamKind};
use crate::shape::{Dim, Type};
use crate::Result;

/// `y[t, h, n] = Σₖ x[t, h, k]·w[h, n, k]`.
#[derive(Clone, Debug)]
pub(crate) struct HeadLinear;

/// `dx[t, h] = w[h]ᵀ·dy[t, h]`, and `dw[h] = Σₜ dy[t, h]·x[t, h]ᵀ`.
#[derive(Clone, Debug)]
pub(crate) struct HeadLinearGrad {
    part: Part,
}

impl Graph<'_> {
    /// `x` (T, H, k) through `w` (H, n, k) → (T, H, n).
    pub fn head_linear(&mut self, x: Value, w: Param) -> Result<Value> {
        let w = self.weight(w);
        self.push(HeadLinear.into(), &[x, w])
    }
}

impl Operator for HeadLinear {
    fn name(&self) -> &'static str {
        "head_linear"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x, w] = arity(inputs)?;
        match (x.shape.dims(), w.shape.dims()) {
            ([Dim::Rows(..), h, k], [wh, Dim::Fixed(n), wk]) if h == wh && k == wk => {
                Ok(Type::f32(x.shape.with_width(*n)))
            }
            _ => Err(format!("weight {} takes heads (T, H, k), got {}", w.shape, x.shape)),
        }
    }

    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if input == 1 { Takes::Weight(&[ParamKind::Stack]) } else { Takes::Numbers }
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let flops = 2.0 * (n_elements(output, batch) * inputs[1].shape.width()) as f64;
        Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let inputs = [&[at.dy], at.inputs].concat();
        at.parts(g, &inputs, |part| HeadLinearGrad { part }.into())
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, w, k, n) = (run.input(0), run.input(1), run.width(1), run.out_ty.shape.width());
        let n_heads = w.len() / (n * k);
        for (i, (x, y)) in x.chunks_exact(k).zip(run.out.chunks_exact_mut(n)).enumerate() {
            for (y, w) in y.iter_mut().zip(w[i % n_heads * n * k..].chunks_exact(k)) {
                *y = x.iter().zip(w).map(|(x, w)| x * w).sum();
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, heads) = (run.f32(0), run.stack(1));
        let (rows, offsets) = rows_by_head(heads.len(), x.len() / run.width(1));
        let rows = ExpertRows { offsets: &offsets, sources: &rows, targets: &rows };
        let part = ExpertPart { weights: &heads, biases: None, out: run.out };
        wootz_kernels::grouped_linear(run.isa, run.pool, x, rows, &mut [part]);
    }
}

/// Rows sorted by head, and where each head's begin.
fn rows_by_head(n_heads: usize, n_rows: usize) -> (Vec<u32>, Vec<u32>) {
    let (n_heads, per_head) = (n_heads as u32, (n_rows / n_heads) as u32);
    let rows = (0..n_heads).flat_map(|h| (0..per_head).map(move |t| t * n_heads + h)).collect();
    (rows, (0..=n_heads).map(|h| h * per_head).collect())
}

impl Operator for HeadLinearGrad {
    fn name(&self) -> &'static str {
        "head_linear_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[1 + self.part.index])
    }

    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if input == 2 { Takes::Weight(&[ParamKind::Stack]) } else { Takes::Numbers }
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let flops = 2.0 * (n_elements(&inputs[0], batch) * inputs[2].shape.width()) as f64;
        Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }

    fn adds(&self) -> bool {
        true
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, x, w, n, k) = (run.input(0), run.input(1), run.input(2), run.width(0), run.width(2));
        let n_heads = w.len() / (n * k);
        run.out.fill(0.0);
        for (row, dy) in dy.chunks_exact(n).enumerate() {
            for (i, dy) in dy.iter().enumerate() {
                let (from, at) = (row * k, (row % n_heads * n + i) * k);
                for j in 0..k {
                    match self.part.index {
                        0 => run.out[from + j] += dy * w[at + j],
                        _ => run.out[at + j] += dy * x[from + j],
                    }
                }
            }
        }
    }

    fn cpu_parts(&self, run: &CpuRun, [dx, dw, ..]: Outs) {
        let (dy, x, heads, n) = (run.f32(0), run.f32(1), run.stack(2), run.width(0));
        let (rows, offsets) = rows_by_head(heads.len(), dy.len() / n);
        let rows = ExpertRows { offsets: &offsets, sources: &rows, targets: &rows };
        let (isa, pool) = (run.isa, run.pool);
        if let Some(dx) = dx {
            dx.write(|dx| wootz_kernels::grouped_input_grad(isa, pool, dy, rows, &heads, dx));
        }
        if let Some(Out { numbers, adds }) = dw {
            wootz_kernels::grouped_weight_grad(isa, pool, x, dy, rows, &heads, numbers, adds);
        }
    }
}
