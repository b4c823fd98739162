//! Mamba-2's state space: one decay a head, and B and C shared by groups of heads.
//!
//! Source: Dao & Gu 2024, arXiv:2405.21060, §7, in its recurrent form.

use crate::Result;
use crate::batch::Batch;
use crate::cost::{Cost, n_elements};
use crate::device::cpu::{CpuRun, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Part};
use crate::ops::conv1d::{expect_inner, token_rows};
use crate::ops::selective_scan::{ScanInputs, with_scan_grads};
use crate::shape::{Dim, Type};
use crate::state::State;

/// `h ← e^(dt·A)·h + dt·x·Bᵀ`, `y = h·C + D·x`, for each head of P channels and N numbers of state a channel.
#[derive(Clone, Debug)]
pub(crate) struct SsdScan {
    state: Option<State>,
}

/// The gradients of a scan's inputs, by running it again. With `Gₜ = dyₜ·Cₜᵀ + aₜ₊₁·Gₜ₊₁` and `aₜ = e^(dtₜ·A)`: `dx = dt·G·B + D·dy`,
/// `ddt = Σ G∘(A·a·hₜ₋₁ + x·Bᵀ)`, `dB = Σ G·dt·x`, `dC = Σ dy·h`, `dA = Σₜ dt·a·Σ G∘hₜ₋₁`, `dD = Σₜ dy·x`. Only without a state.
#[derive(Clone, Debug)]
pub(crate) struct SsdScanGrad {
    part: Part,
}

impl Graph<'_> {
    /// `x` (T, H, P), `dt` (T, H), `b` and `c` (T, G, N), `a` and `d` (H) → (T, H, P). The state keeps H·P·N.
    pub fn ssd_scan(&mut self, inputs: ScanInputs, state: Option<State>) -> Result<Value> {
        let (a, d) = (self.weight(inputs.a), self.weight(inputs.d));
        let len = self.ty(inputs.x).shape.inner() * self.width(inputs.b);
        self.expect_recurrent("ssd_scan", state, len)?;
        let inputs = [inputs.x, inputs.dt, inputs.b, inputs.c, a, d];
        self.push(SsdScan { state }.into(), &inputs)
    }
}

/// Sizes of one scan, from its input types.
struct Sizes {
    n_heads: usize,
    /// P: channels a head.
    p: usize,
    n_groups: usize,
    n: usize,
}

impl Sizes {
    fn of(types: &[Type]) -> Self {
        let (n, p) = (types[2].shape.width(), types[0].shape.width());
        Sizes { n_heads: types[0].shape.inner() / p, p, n_groups: types[2].shape.inner() / n, n }
    }
}

impl Operator for SsdScan {
    fn name(&self) -> &'static str {
        "ssd_scan"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x, dt, b, c, a, d] = inputs else { return Err(format!("expected 6 inputs, got {}", inputs.len())) };
        token_rows(&[*x, *dt, *b, *c])?;
        let &[_, Dim::Fixed(n_heads), _] = x.shape.dims() else {
            return Err(format!("expected x (T, H, P), got {}", x.shape));
        };
        let &[_, Dim::Fixed(n_groups), _] = b.shape.dims() else {
            return Err(format!("expected B and C (T, G, N), got {} and {}", b.shape, c.shape));
        };
        if b.shape != c.shape || !n_heads.is_multiple_of(n_groups) {
            return Err(format!("{n_heads} heads cannot share B {} and C {}", b.shape, c.shape));
        }
        expect_inner("dt", &dt.shape, n_heads)?;
        expect_inner("A", &a.shape, n_heads)?;
        expect_inner("D", &d.shape, n_heads)?;
        Ok(*x)
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::elementwise(inputs, output, batch, 6.0 * inputs[2].shape.width() as f64)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        at.without(g, self.state)?;
        let inputs = [&[at.dy], at.inputs].concat();
        at.parts(g, &inputs, |part| SsdScanGrad { part }.into())
    }

    fn reference(&self, run: &mut RefRun) {
        let [x, dt, b, c, a, d] = [0, 1, 2, 3, 4, 5].map(|i| run.input(i));
        let Sizes { n_heads, p, n_groups, n } = Sizes::of(run.types);
        for seq in &run.batch.sequences {
            let mut state = run.slot(self.state, seq, n_heads * p * n);
            for t in seq.rows.clone() {
                for h in 0..n_heads {
                    let group = (t * n_groups + h * n_groups / n_heads) * n;
                    let dt = dt[t * n_heads + h];
                    let decay = (dt * a[h]).exp();
                    for i in 0..p {
                        let at = (t * n_heads + h) * p + i;
                        let cell = &mut state[(h * p + i) * n..][..n];
                        let mut y = d[h] * x[at];
                        for j in 0..n {
                            cell[j] = decay * cell[j] + dt * x[at] * b[group + j];
                            y += c[group + j] * cell[j];
                        }
                        run.out[at] = y;
                    }
                }
            }
            run.set_slot(self.state, seq, &state);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let [x, dt, b, c, a, d] = [0, 1, 2, 3, 4, 5].map(|i| run.f32(i));
        let Sizes { n_heads, p, n_groups, n } = Sizes::of(run.types);
        let (isa, pool, head_dim, n_state) = (run.isa, run.pool, p, n);
        let scan = wootz_kernels::SsdScan { x, dt, a, b, c, d: Some(d), n_heads, head_dim, n_groups, n_state };
        run.scan(self.state, n_heads * p * n, |seqs, states, out| {
            wootz_kernels::ssd_scan(isa, pool, &scan, seqs, states, out);
        });
    }
}

impl Operator for SsdScanGrad {
    fn name(&self) -> &'static str {
        "ssd_scan_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[1 + self.part.index])
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        // The scan twice and its adjoint, shared by six parts.
        let n_steps = n_elements(&inputs[0], batch) * inputs[3].shape.width();
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
        let Sizes { n_heads, p, n_groups, n } = Sizes::of(&run.types[1..]);
        run.out.fill(0.0);
        let mut add = |part: usize, at: usize, by: f64| {
            if part == self.part.index {
                run.out[at] += by;
            }
        };
        for seq in &run.batch.sequences {
            for (h, i, j) in (0..n_heads * p * n).map(|at| (at / (p * n), at / n % p, at % n)) {
                let decay = |t: usize| (dt[t * n_heads + h] * a[h]).exp();
                let of_x = |t: usize| (t * n_heads + h) * p + i;
                let of_state = |t: usize| (t * n_groups + h * n_groups / n_heads) * n + j;
                let mut states = vec![0.0];
                for t in seq.rows.clone() {
                    let step = dt[t * n_heads + h] * x[of_x(t)];
                    states.push(decay(t) * states[t - seq.rows.start] + step * b[of_state(t)]);
                }
                let mut carried = 0.0;
                for (k, t) in seq.rows.clone().enumerate().rev() {
                    let (x, dy, dt) = (x[of_x(t)], dy[of_x(t)], dt[t * n_heads + h]);
                    let (b, c) = (b[of_state(t)], c[of_state(t)]);
                    let (g, through) = (c * dy + carried, decay(t) * states[k]);
                    add(0, of_x(t), g * dt * b);
                    add(1, t * n_heads + h, g * (a[h] * through + b * x));
                    add(2, of_state(t), g * dt * x);
                    add(3, of_state(t), dy * states[k + 1]);
                    add(4, h, g * dt * through);
                    carried = decay(t) * g;
                    if j == 0 {
                        add(0, of_x(t), d[h] * dy);
                        add(5, h, dy * x);
                    }
                }
            }
        }
    }

    fn cpu_parts(&self, run: &CpuRun, outs: Outs) {
        let [dy, x, dt, b, c, a, d] = [0, 1, 2, 3, 4, 5, 6].map(|i| run.f32(i));
        let Sizes { n_heads, p, n_groups, n } = Sizes::of(&run.types[1..]);
        let (head_dim, n_state) = (p, n);
        let scan = wootz_kernels::SsdScan { x, dt, a, b, c, d: Some(d), n_heads, head_dim, n_groups, n_state };
        with_scan_grads(run, outs, |grads| {
            wootz_kernels::ssd_scan_grad(run.isa, run.pool, &scan, &run.scan_seqs(), dy, grads);
        });
    }
}
