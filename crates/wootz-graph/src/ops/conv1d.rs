//! Causal depthwise convolution over the tokens of each sequence, with the last inputs as state.
//!
//! Source: Gu & Dao 2023, arXiv:2312.00752, §3.4 (Mamba's short convolution).

use crate::Result;
use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::{CpuRun, Out, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Part};
use crate::param::Param;
use crate::shape::{Axis, Shape, Type};
use crate::state::State;

/// `y[t, c] = b[c] + Σⱼ w[c, j]·x[t − W + 1 + j, c]`.
#[derive(Clone, Debug)]
pub(crate) struct Conv1d {
    state: Option<State>,
}

/// `dx[t, c] = Σⱼ w[c, j]·dy[t + W − 1 − j, c]`, `dw[c, j] = Σₜ dy[t, c]·x[t − W + 1 + j, c]` within each sequence, and
/// `db = Σₜ dy`. Only without a state.
#[derive(Clone, Debug)]
pub(crate) struct Conv1dGrad {
    part: Part,
}

impl Graph<'_> {
    /// `x` (T, C) with `w` (C, W) and `b` (C) → (T, C). The state keeps (W − 1)·C numbers.
    pub fn conv1d(&mut self, x: Value, w: Param, b: Option<Param>, state: Option<State>) -> Result<Value> {
        let w = self.weight(w);
        self.expect_recurrent("conv1d", state, (self.width(w) - 1) * self.ty(x).shape.inner())?;
        let mut inputs = vec![x, w];
        inputs.extend(b.map(|b| self.weight(b)));
        self.push(Conv1d { state }.into(), &inputs)
    }
}

impl Operator for Conv1d {
    fn name(&self) -> &'static str {
        "conv1d"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let (x, w) = match inputs {
            [x, w] | [x, w, _] => (x, w),
            _ => return Err(format!("expected 2 or 3 inputs, got {}", inputs.len())),
        };
        token_rows(&[*x])?;
        if w.shape.inner() != x.shape.inner() * w.shape.width() {
            return Err(format!("weight {} does not fit rows {}", w.shape, x.shape));
        }
        if let Some(b) = inputs.get(2) {
            expect_inner("a bias", &b.shape, x.shape.inner())?;
        }
        Ok(*x)
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::elementwise(inputs, output, batch, 2.0 * inputs[1].shape.width() as f64)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        at.without(g, self.state)?;
        let inputs = [&[at.dy], at.inputs].concat();
        at.parts(g, &inputs, |part| Conv1dGrad { part }.into())
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, w, b) = (run.input(0), run.input(1), (run.n_inputs() == 3).then(|| run.input(2)));
        let (channels, width) = (run.types[0].shape.inner(), run.width(1));
        for seq in &run.batch.sequences {
            // The rows before the sequence's first, then its own.
            let mut rows = run.slot(self.state, seq, (width - 1) * channels);
            rows.extend_from_slice(&x[seq.rows.start * channels..seq.rows.end * channels]);
            for (i, t) in seq.rows.clone().enumerate() {
                for c in 0..channels {
                    let taps = (0..width).map(|j| w[c * width + j] * rows[(i + j) * channels + c]);
                    run.out[t * channels + c] = b.map_or(0.0, |b| b[c]) + taps.sum::<f64>();
                }
            }
            let past = rows.split_off(seq.rows.len() * channels);
            run.set_slot(self.state, seq, &past);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let bias = (run.n_inputs() == 3).then(|| run.f32(2));
        let n_channels = run.types[0].shape.inner();
        let conv = wootz_kernels::Conv1d { x: run.f32(0), n_channels, weight: run.f32(1), bias };
        let (isa, pool, state_len) = (run.isa, run.pool, (run.width(1) - 1) * n_channels);
        run.scan(self.state, state_len, |seqs, states, out| {
            wootz_kernels::conv1d_update(isa, pool, &conv, seqs, states, out);
        });
    }
}

impl Operator for Conv1dGrad {
    fn name(&self) -> &'static str {
        "conv1d_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[1 + self.part.index])
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let width = inputs[2].shape.width();
        let flops = 2.0 * (crate::cost::n_elements(&inputs[0], batch) * width) as f64;
        Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }

    fn adds(&self) -> bool {
        true
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, x, w) = (run.input(0), run.input(1), run.input(2));
        let (channels, width) = (run.types[1].shape.inner(), run.width(2));
        run.out.fill(0.0);
        for seq in &run.batch.sequences {
            for (t, c) in seq.rows.clone().flat_map(|t| (0..channels).map(move |c| (t, c))) {
                let dy = dy[t * channels + c];
                if self.part.index == 2 {
                    run.out[c] += dy;
                    continue;
                }
                // Rows before the sequence's first are zeros that nobody gave.
                for from in seq.rows.start.max((t + 1).saturating_sub(width))..=t {
                    let j = width - 1 - (t - from);
                    match self.part.index {
                        0 => run.out[from * channels + c] += w[c * width + j] * dy,
                        _ => run.out[c * width + j] += x[from * channels + c] * dy,
                    }
                }
            }
        }
    }

    fn cpu_parts(&self, run: &CpuRun, [dx, dw, db, ..]: Outs) {
        let (isa, pool, seqs) = (run.isa, run.pool, run.scan_seqs());
        let (dy, n_channels) = (run.f32(0), run.types[1].shape.inner());
        let conv = wootz_kernels::Conv1d { x: run.f32(1), n_channels, weight: run.f32(2), bias: None };
        let both = |dx: Option<&mut [f32]>, dw: Option<&mut [f32]>| {
            wootz_kernels::conv1d_grad(isa, pool, &conv, &seqs, dy, dx, dw);
        };
        let dx = dx.map(|dx| dx.numbers);
        match dw {
            Some(dw) => dw.write(|dw| both(dx, Some(dw))),
            None => both(dx, None),
        }
        if let Some(Out { numbers, adds }) = db {
            wootz_kernels::sum_rows(isa, pool, dy, numbers, adds);
        }
    }
}

/// Checks that `inputs` are rows of the new tokens.
pub(crate) fn token_rows(inputs: &[Type]) -> Result<(), String> {
    match inputs.iter().find(|ty| ty.shape.rows() != Some((Axis::Tokens, 1))) {
        Some(other) => Err(format!("expected rows (T, …), got {}", other.shape)),
        None => Ok(()),
    }
}

/// A vector's shape, for errors.
pub(crate) fn expect_inner(what: &str, shape: &Shape, inner: usize) -> Result<(), String> {
    if shape.inner() == inner { Ok(()) } else { Err(format!("expected {what} of {inner} numbers, got {shape}")) }
}
