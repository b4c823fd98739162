//! Mamba's selective state space: a linear recurrence whose coefficients depend on the input.
//!
//! Source: Gu & Dao 2023, arXiv:2312.00752, alg. 2, with the simplified (Euler) discretisation of B.

use crate::Result;
use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::Operator;
use crate::ops::conv1d::{expect_inner, token_rows};
use crate::param::Param;
use crate::shape::Type;
use crate::state::State;

/// `h ← e^(dt·A)·h + dt·B·x`, `y = C·h + D·x`, for each channel and N numbers of state.
#[derive(Clone, Debug)]
pub(crate) struct SelectiveScan {
    state: Option<State>,
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
