//! Causal depthwise convolution over the tokens of each sequence, with the last inputs as state.
//!
//! Source: Gu & Dao 2023, arXiv:2312.00752, §3.4 (Mamba's short convolution).

use crate::Result;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Operator, arity};
use crate::param::Param;
use crate::shape::{Shape, Type};
use crate::state::State;

/// `y[t, c] = b[c] + Σⱼ w[c, j]·x[t − W + 1 + j, c]`.
#[derive(Clone, Debug)]
pub(crate) struct Conv1d {
    state: Option<State>,
}

impl Graph<'_> {
    /// `x` (T, C) with `w` (C, W) and `b` (C) → (T, C). The state keeps (W − 1)·C numbers.
    pub fn conv1d(&mut self, x: Value, w: Param, b: Option<Param>, state: Option<State>) -> Result<Value> {
        let mut inputs = vec![x, self.weight(w)];
        inputs.extend(b.map(|b| self.weight(b)));
        self.push(Conv1d { state }.into(), &inputs)
    }
}

/// One sequence: `past` holds its last W − 1 rows and is moved on.
fn convolve<F>(x: &[F], w: &[F], b: Option<&[F]>, past: &mut [F], y: &mut [F], channels: usize)
where
    F: Copy + Default + std::ops::Mul<Output = F> + std::ops::AddAssign,
{
    let width = w.len() / channels;
    let mut window = past.to_vec();
    for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
        window.extend_from_slice(x);
        for c in 0..channels {
            y[c] = b.map_or(F::default(), |b| b[c]);
            for j in 0..width {
                y[c] += w[c * width + j] * window[j * channels + c];
            }
        }
        window.drain(..channels);
    }
    past.copy_from_slice(&window);
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
        if w.shape.inner() != x.shape.inner() * w.shape.width() {
            return Err(format!("weight {} does not fit rows {}", w.shape, x.shape));
        }
        Ok(*x)
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, w, b) = (run.input(0), run.input(1), (run.n_inputs() == 3).then(|| run.input(2)));
        let channels = run.types[0].shape.inner();
        let past_len = w.len() - channels;
        for seq in &run.batch.sequences {
            let rows = seq.rows.start * channels..seq.rows.end * channels;
            let mut past = run.slot(self.state, seq, past_len);
            convolve(&x[rows.clone()], w, b, &mut past, &mut run.out[rows], channels);
            run.set_slot(self.state, seq, &past);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, w, b) = (run.f32(0), run.f32(1), (run.n_inputs() == 3).then(|| run.f32(2)));
        let channels = run.types[0].shape.inner();
        let past_len = w.len() - channels;
        for seq in &run.batch.sequences {
            let rows = seq.rows.start * channels..seq.rows.end * channels;
            let mut past = run.slot(self.state, seq, past_len);
            convolve(&x[rows.clone()], w, b, &mut past, &mut run.out[rows], channels);
            run.set_slot(self.state, seq, &past);
        }
    }
}

/// Checks that `inputs` are rows of one axis.
pub(crate) fn same_rows(inputs: &[Type]) -> Result<(), String> {
    let [first, rest @ ..] = inputs else { return arity::<1>(inputs).map(|_| ()) };
    match rest.iter().find(|ty| ty.shape.rows() != first.shape.rows()) {
        Some(other) => Err(format!("{} and {} have other rows", first.shape, other.shape)),
        None => Ok(()),
    }
}

/// A vector's shape, for errors.
pub(crate) fn expect_inner(what: &str, shape: &Shape, inner: usize) -> Result<(), String> {
    if shape.inner() == inner { Ok(()) } else { Err(format!("expected {what} of {inner} numbers, got {shape}")) }
}
