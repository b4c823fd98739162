//! Mamba's selective state space: a linear recurrence whose coefficients depend on the input.
//!
//! Source: Gu & Dao 2023, arXiv:2312.00752, alg. 2, with the simplified (Euler) discretisation of B.

use wootz_kernels::ScanGrads;

use crate::Result;
use crate::batch::Batch;
use crate::cost::{Cost, n_elements};
use crate::device::cpu::{CpuRun, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Part};
use crate::ops::conv1d::{expect_inner, token_rows};
use crate::param::Param;
use crate::shape::Type;
use crate::state::State;

/// `h ← e^(dt·A)·h + dt·B·x`, `y = C·h + D·x`, for each channel and N numbers of state.
#[derive(Clone, Debug)]
pub(crate) struct SelectiveScan {
    state: Option<State>,
}

/// The gradients of a scan's inputs, by running it again. With `gₜ = Cₜ·dyₜ + aₜ₊₁·gₜ₊₁` and `aₜ = e^(dtₜ·A)`: `dx = Σ g·dt·B + D·dy`,
/// `ddt = Σ g·(A·a·hₜ₋₁ + B·x)`, `dB = Σ_c g·dt·x`, `dC = Σ_c dy·h`, `dA = Σₜ g·dt·a·hₜ₋₁`, `dD = Σₜ dy·x`. Only without a state.
#[derive(Clone, Debug)]
pub(crate) struct SelectiveScanGrad {
    part: Part,
}

/// The inputs of a scan.
#[derive(Clone, Copy, Debug)]
pub struct ScanInputs {
    /// (T, C).
    pub x: Value,
    /// (T, C), positive.
    pub dt: Value,
    /// (T, N).
    pub b: Value,
    /// (T, N).
    pub c: Value,
    /// (C, N), negative: `−e^A_log`.
    pub a: Param,
    /// (C).
    pub d: Param,
}

impl Graph<'_> {
    /// The recurrence over each sequence → (T, C). The state keeps C·N numbers.
    pub fn selective_scan(&mut self, inputs: ScanInputs, state: Option<State>) -> Result<Value> {
        let (a, d) = (self.weight(inputs.a), self.weight(inputs.d));
        self.expect_recurrent("selective_scan", state, self.ty(a).shape.inner())?;
        let inputs = [inputs.x, inputs.dt, inputs.b, inputs.c, a, d];
        self.push(SelectiveScan { state }.into(), &inputs)
    }
}

impl Operator for SelectiveScan {
    fn name(&self) -> &'static str {
        "selective_scan"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x, dt, b, c, a, d] = inputs else { return Err(format!("expected 6 inputs, got {}", inputs.len())) };
        token_rows(&[*x, *dt, *b, *c])?;
        let (channels, n) = (x.shape.inner(), b.shape.inner());
        expect_inner("dt", &dt.shape, channels)?;
        expect_inner("C", &c.shape, n)?;
        expect_inner("A", &a.shape, channels * n)?;
        expect_inner("D", &d.shape, channels)?;
        Ok(*x)
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::elementwise(inputs, output, batch, 7.0 * inputs[2].shape.inner() as f64)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        at.without(g, self.state)?;
        let inputs = [&[at.dy], at.inputs].concat();
        at.parts(g, &inputs, |part| SelectiveScanGrad { part }.into())
    }

    fn reference(&self, run: &mut RefRun) {
        let [x, dt, b, c, a, d] = [0, 1, 2, 3, 4, 5].map(|i| run.input(i));
        let (channels, n) = (d.len(), a.len() / d.len());
        for seq in &run.batch.sequences {
            let mut state = run.slot(self.state, seq, a.len());
            for t in seq.rows.clone() {
                for i in 0..channels {
                    let (x, dt) = (x[t * channels + i], dt[t * channels + i]);
                    let h = &mut state[i * n..][..n];
                    let mut y = d[i] * x;
                    for j in 0..n {
                        h[j] = (dt * a[i * n + j]).exp() * h[j] + dt * b[t * n + j] * x;
                        y += c[t * n + j] * h[j];
                    }
                    run.out[t * channels + i] = y;
                }
            }
            run.set_slot(self.state, seq, &state);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let [x, dt, b, c, a, d] = [0, 1, 2, 3, 4, 5].map(|i| run.f32(i));
        let (isa, pool) = (run.isa, run.pool);
        let scan = wootz_kernels::SelectiveScan { x, dt, a, b, c, d: Some(d), n_channels: d.len() };
        run.scan(self.state, a.len(), |seqs, states, out| {
            wootz_kernels::selective_scan(isa, pool, &scan, seqs, states, out);
        });
    }
}

impl Operator for SelectiveScanGrad {
    fn name(&self) -> &'static str {
        "selective_scan_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[1 + self.part.index])
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        // The scan twice and its adjoint, shared by six parts.
        let n_steps = n_elements(&inputs[0], batch) * inputs[3].shape.inner();
        Cost { flops: 5.0 * n_steps as f64, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }

    fn adds(&self) -> bool {
        true
    }

    fn reference(&self, run: &mut RefRun) {
        let [dy, x, dt, b, c, a, d] = [0, 1, 2, 3, 4, 5, 6].map(|i| run.input(i));
        let (channels, n) = (d.len(), a.len() / d.len());
        run.out.fill(0.0);
        let mut add = |part: usize, at: usize, by: f64| {
            if part == self.part.index {
                run.out[at] += by;
            }
        };
        for seq in &run.batch.sequences {
            for (i, j) in (0..channels).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let decay = |t: usize| (dt[t * channels + i] * a[i * n + j]).exp();
                let mut states = vec![0.0];
                for t in seq.rows.clone() {
                    let at = t * channels + i;
                    states.push(decay(t) * states[t - seq.rows.start] + dt[at] * b[t * n + j] * x[at]);
                }
                let mut carried = 0.0;
                for (k, t) in seq.rows.clone().enumerate().rev() {
                    let (at, of_state) = (t * channels + i, t * n + j);
                    let (g, through) = (c[of_state] * dy[at] + carried, decay(t) * states[k]);
                    add(0, at, g * dt[at] * b[of_state]);
                    add(1, at, g * (a[i * n + j] * through + b[of_state] * x[at]));
                    add(2, of_state, g * dt[at] * x[at]);
                    add(3, of_state, dy[at] * states[k + 1]);
                    add(4, i * n + j, g * dt[at] * through);
                    carried = decay(t) * g;
                }
            }
            for (t, i) in seq.rows.clone().flat_map(|t| (0..channels).map(move |i| (t, i))) {
                add(0, t * channels + i, d[i] * dy[t * channels + i]);
                add(5, i, dy[t * channels + i] * x[t * channels + i]);
            }
        }
    }

    fn cpu_parts(&self, run: &CpuRun, outs: Outs) {
        let [dy, x, dt, b, c, a, d] = [0, 1, 2, 3, 4, 5, 6].map(|i| run.f32(i));
        let scan = wootz_kernels::SelectiveScan { x, dt, a, b, c, d: Some(d), n_channels: d.len() };
        with_scan_grads(run, outs, |grads| {
            wootz_kernels::selective_scan_grad(run.isa, run.pool, &scan, &run.scan_seqs(), dy, grads);
        });
    }
}

/// Calls `kernel` with room for all gradients of a scan, of which those of its weights may be added to others.
pub(crate) fn with_scan_grads(run: &CpuRun, outs: Outs, kernel: impl FnOnce(ScanGrads)) {
    let mut own: [Vec<f32>; 6] = Default::default();
    let mut outs = outs;
    for (i, (own, out)) in own.iter_mut().zip(&outs).enumerate() {
        if out.as_ref().is_none_or(|out| out.adds) {
            *own = vec![0.0; n_elements(&run.types[1 + i], run.batch)];
        }
    }
    {
        let mut places = own.iter_mut().zip(&mut outs).map(|(own, out)| match out {
            Some(out) if !out.adds => &mut *out.numbers,
            _ => &mut own[..],
        });
        let mut next = || places.next().expect("six gradients");
        kernel(ScanGrads { dx: next(), ddt: next(), db: next(), dc: next(), da: next(), dd: next() });
    }
    for (own, out) in own.iter().zip(outs) {
        if let Some(out) = out.filter(|out| out.adds) {
            out.numbers.iter_mut().zip(own).for_each(|(sum, term)| *sum += term);
        }
    }
}
