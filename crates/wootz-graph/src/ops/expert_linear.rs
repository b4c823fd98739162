//! Mixture of experts: one grouped product over exactly T·k rows, and the weighted sum back to T.
//!
//! Source: Shazeer et al. 2017, arXiv:1701.06538; grouping rows by expert: Gale et al. 2022, arXiv:2211.15841.

use wootz_kernels::{ExpertPart, ExpertRows};

use crate::batch::Batch;
use crate::cost::{Cost, n_elements};
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Operator, Takes, arity};
use crate::param::{Param, ParamKind};
use crate::shape::{Dim, Shape, Type};
use crate::Result;

/// `y[t·k + i] = w[ids[t, i]] · x[t]`, or `· x[t·k + i]` when `x` has a row for each choice.
#[derive(Clone, Debug)]
pub(crate) struct ExpertLinear;

/// `y[t] = Σᵢ weights[t, i]·x[t·k + i]`, in order of expert.
#[derive(Clone, Debug)]
pub(crate) struct Combine;

impl Graph<'_> {
    /// `x` (T, C) or (T·k, C) through the experts `ids` (T, k) of `w` (E, n, C) → (T·k, n).
    pub fn expert_linear(&mut self, x: Value, ids: Value, w: Param) -> Result<Value> {
        let w = self.weight(w);
        self.push(ExpertLinear.into(), &[x, ids, w])
    }

    /// Rows `x` (T·k, C) summed with `weights` (T, k) → (T, C).
    pub fn combine(&mut self, x: Value, weights: Value) -> Result<Value> {
        self.push(Combine.into(), &[x, weights])
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
        let mut rows: Vec<u32> = (0..ids.len() as u32).collect();
        rows.sort_by_key(|&row| ids[row as usize]);
        let sources: Vec<u32> = rows.iter().map(|row| row / repeats as u32).collect();
        let mut offsets = vec![0u32; experts.len() + 1];
        ids.iter().for_each(|&id| offsets[id as usize + 1] += 1);
        for e in 0..experts.len() {
            offsets[e + 1] += offsets[e];
        }
        let rows = ExpertRows { offsets: &offsets, sources: &sources, targets: &rows };
        let part = ExpertPart { weights: &experts, biases: None, out: run.out };
        wootz_kernels::grouped_linear(run.isa, run.pool, x, rows, &mut [part]);
    }
}

fn n_experts(stack: &Type) -> usize {
    let [n, k] = [stack.shape.dims()[1], stack.shape.dims()[2]].map(|dim| Shape::new(&[dim]).inner());
    stack.shape.inner() / (n * k)
}

impl Operator for Combine {
    fn name(&self) -> &'static str {
        "combine"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x, weights] = arity(inputs)?;
        let k = weights.shape.width();
        match (x.shape.rows(), weights.shape.rows()) {
            (Some((a, n)), Some((b, m))) if a == b && n == m * k => {
                Ok(Type::f32((Dim::Rows(b, m), x.shape.inner())))
            }
            _ => Err(format!("expected rows for every weight {}, got {}", weights.shape, x.shape)),
        }
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, weights, width, k) = (run.input(0), run.input(1), run.width(0), run.width(1));
        run.out.fill(0.0);
        for (i, (x, weight)) in x.chunks_exact(width).zip(weights).enumerate() {
            let y = &mut run.out[i / k * width..][..width];
            y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, weights, width, k) = (run.f32(0), run.f32(1), run.width(0), run.width(1));
        run.pool.rows(run.out, width, 4, |first, rows| {
            rows.fill(0.0);
            for (t, y) in rows.chunks_exact_mut(width).enumerate() {
                for i in (first + t) * k..(first + t + 1) * k {
                    let x = &x[i * width..][..width];
                    y.iter_mut().zip(x).for_each(|(y, x)| *y += weights[i] * x);
                }
            }
        });
    }
}
