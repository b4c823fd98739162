//! A linear layer of its own for every head: MLA's way between heads and the shared latent.
//!
//! Source: DeepSeek-AI 2024, arXiv:2405.04434, §2.1 (the "absorbed" form).

use wootz_kernels::{ExpertPart, ExpertRows};

use crate::batch::Batch;
use crate::cost::{Cost, n_elements};
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Operator, Takes, arity};
use crate::param::{Param, ParamKind};
use crate::shape::{Dim, Type};
use crate::Result;

/// `y[t, h, n] = Σₖ x[t, h, k]·w[h, n, k]`.
#[derive(Clone, Debug)]
pub(crate) struct HeadLinear;

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
        let (n_heads, n_rows) = (heads.len() as u32, (x.len() / run.width(1)) as u32);
        let per_head = n_rows / n_heads;
        let rows: Vec<u32> =
            (0..n_heads).flat_map(|h| (0..per_head).map(move |t| t * n_heads + h)).collect();
        let offsets: Vec<u32> = (0..=n_heads).map(|h| h * per_head).collect();
        let rows = ExpertRows { offsets: &offsets, sources: &rows, targets: &rows };
        let part = ExpertPart { weights: &heads, biases: None, out: run.out };
        wootz_kernels::grouped_linear(run.isa, run.pool, x, rows, &mut [part]);
    }
}
