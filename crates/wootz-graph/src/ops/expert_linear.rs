//! Mixture of experts: one grouped product over exactly T·k rows.
//!
//! Source: Shazeer et al. 2017, arXiv:1701.06538; grouping rows by expert: Gale et al. 2022, arXiv:2211.15841.

use wootz_kernels::{ExpertPart, ExpertRows};

use crate::batch::Batch;
use crate::cost::{Cost, n_elements};
use crate::device::cpu::{CpuRun, Out, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Part, Takes, arity};
use crate::param::{Param, ParamKind};
use crate::shape::{Dim, Shape, Type};
use crate::Result;

/// `y[t·k + i] = w[ids[t, i]] · x[t]`, or `· x[t·k + i]` when `x` has a row for each choice.
#[derive(Clone, Debug)]
pub(crate) struct ExpertLinear;

/// `dx[t] = Σᵢ w[ids[t, i]]ᵀ·dy[t·k + i]` in order of expert, and `dw[e] = Σ dy[t·k + i]·x[t]ᵀ` over the rows that went to `e`.
#[derive(Clone, Debug)]
pub(crate) struct ExpertLinearGrad {
    part: Part,
}

impl Graph<'_> {
    /// `x` (T, C) or (T·k, C) through the experts `ids` (T, k) of `w` (E, n, C) → (T·k, n).
    pub fn expert_linear(&mut self, x: Value, ids: Value, w: Param) -> Result<Value> {
        let w = self.weight(w);
        self.push(ExpertLinear.into(), &[x, ids, w])
    }
}

impl Operator for ExpertLinear {
    fn name(&self) -> &'static str {
        "expert_linear"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x, ids, w] = arity(inputs)?;
        let (&[Dim::Fixed(_), Dim::Fixed(n), Dim::Fixed(width)], Some((axis, times))) =
            (w.shape.dims(), ids.shape.rows())
        else {
            return Err(format!("expected a stack (E, n, k) and ids (T, k), got {} and {}", w.shape, ids.shape));
        };
        let k = ids.shape.width();
        let rows_fit = x.shape.rows() == Some((axis, times)) || x.shape.rows() == Some((axis, times * k));
        if x.shape.width() != width || !rows_fit {
            return Err(format!("weight {} takes rows of {width} numbers, got {}", w.shape, x.shape));
        }
        Ok(Type::f32((Dim::Rows(axis, times * k), n)))
    }

    fn takes(&self, input: usize, inputs: &[Type]) -> Takes {
        match input {
            1 => Takes::Ids { below: Some(n_experts(&inputs[2])) },
            2 => Takes::Weight(&[ParamKind::Stack]),
            _ => Takes::Numbers,
        }
    }

    /// Of the stack, at most as many matrices are read as there are rows.
    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let [n_rows, width] = [n_elements(&inputs[1], batch), inputs[2].shape.width()];
        let n_read = n_rows.min(n_experts(&inputs[2]));
        let matrix = output.shape.width() * width;
        let activations = Cost::elementwise(&inputs[..2], output, batch, 0.0);
        Cost {
            flops: 2.0 * (n_elements(output, batch) * width) as f64,
            bytes: activations.bytes + 4.0 * (n_read * matrix) as f64,
        }
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let inputs = [&[at.dy], at.inputs].concat();
        at.parts(g, &inputs, |part| ExpertLinearGrad { part }.into())
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, ids, w) = (run.input(0), run.input(1), run.input(2));
        let (width, n) = (run.width(2), run.out_ty.shape.width());
        let repeats = ids.len() * width / x.len().max(1);
        for (row, (y, &id)) in run.out.chunks_exact_mut(n).zip(ids).enumerate() {
            let x = &x[row / repeats * width..][..width];
            for (y, w) in y.iter_mut().zip(w[id as usize * n * width..].chunks_exact(width)) {
                *y = x.iter().zip(w).map(|(x, w)| x * w).sum();
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, ids, experts) = (run.f32(0), run.u32(1), run.stack(2));
        let repeats = (ids.len() * run.width(2) / x.len().max(1)).max(1);
        let sorted = SortedRows::new(ids, repeats, experts.len());
        let part = ExpertPart { weights: &experts, biases: None, out: run.out };
        wootz_kernels::grouped_linear(run.isa, run.pool, x, sorted.rows(), &mut [part]);
    }
}

/// Rows sorted by expert, those of one expert in their order.
struct SortedRows {
    offsets: Vec<u32>,
    sources: Vec<u32>,
    targets: Vec<u32>,
}

impl SortedRows {
    /// For rows of which `repeats` each read the same.
    fn new(ids: &[u32], repeats: usize, n_experts: usize) -> Self {
        let mut targets: Vec<u32> = (0..ids.len() as u32).collect();
        targets.sort_by_key(|&row| ids[row as usize]);
        let sources = targets.iter().map(|row| row / repeats as u32).collect();
        let mut offsets = vec![0u32; n_experts + 1];
        ids.iter().for_each(|&id| offsets[id as usize + 1] += 1);
        for e in 0..n_experts {
            offsets[e + 1] += offsets[e];
        }
        Self { offsets, sources, targets }
    }

    fn rows(&self) -> ExpertRows<'_> {
        ExpertRows { offsets: &self.offsets, sources: &self.sources, targets: &self.targets }
    }
}

fn n_experts(stack: &Type) -> usize {
    let [n, k] = [stack.shape.dims()[1], stack.shape.dims()[2]].map(|dim| Shape::new(&[dim]).inner());
    stack.shape.inner() / (n * k)
}

impl Operator for ExpertLinearGrad {
    fn name(&self) -> &'static str {
        "expert_linear_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[1 + self.part.index])
    }

    fn takes(&self, input: usize, inputs: &[Type]) -> Takes {
        match input {
            2 => Takes::Ids { below: Some(n_experts(&inputs[3])) },
            3 => Takes::Weight(&[ParamKind::Stack]),
            _ => Takes::Numbers,
        }
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let flops = 2.0 * (n_elements(&inputs[0], batch) * inputs[3].shape.width()) as f64;
        Cost { flops, ..Cost::elementwise(&inputs[..3], output, batch, 0.0) }
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }

    fn adds(&self) -> bool {
        true
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, x, ids, w) = (run.input(0), run.input(1), run.input(2), run.input(3));
        let (n, width) = (run.width(0), run.width(3));
        let repeats = ids.len() * width / x.len().max(1);
        run.out.fill(0.0);
        for (row, (dy, &id)) in dy.chunks_exact(n).zip(ids).enumerate() {
            let from = row / repeats * width;
            for (i, dy) in dy.iter().enumerate() {
                let at = (id as usize * n + i) * width;
                for j in 0..width {
                    match self.part.index {
                        0 => run.out[from + j] += dy * w[at + j],
                        _ => run.out[at + j] += dy * x[from + j],
                    }
                }
            }
        }
    }

    fn cpu_parts(&self, run: &CpuRun, [dx, _, dw, ..]: Outs) {
        let (dy, x, ids, experts) = (run.f32(0), run.f32(1), run.u32(2), run.stack(3));
        let repeats = (ids.len() * run.width(3) / x.len().max(1)).max(1);
        let sorted = SortedRows::new(ids, repeats, experts.len());
        let (isa, pool, rows) = (run.isa, run.pool, sorted.rows());
        if let Some(dx) = dx {
            dx.write(|dx| wootz_kernels::grouped_input_grad(isa, pool, dy, rows, &experts, dx));
        }
        if let Some(Out { numbers, adds }) = dw {
            wootz_kernels::grouped_weight_grad(isa, pool, x, dy, rows, &experts, numbers, adds);
        }
    }
}
