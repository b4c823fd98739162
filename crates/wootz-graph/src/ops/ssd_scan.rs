//! Mamba-2's state space: one decay a head, and B and C shared by groups of heads.
//!
//! Source: Dao & Gu 2024, arXiv:2405.21060, §7, in its recurrent form.

use crate::Result;
use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::Operator;
use crate::ops::conv1d::{expect_inner, token_rows};
use crate::ops::selective_scan::ScanInputs;
use crate::shape::{Dim, Type};
use crate::state::State;

/// `h ← e^(dt·A)·h + dt·x·Bᵀ`, `y = h·C + D·x`, for each head of P channels and N numbers of state a channel.
#[derive(Clone, Debug)]
pub(crate) struct SsdScan {
    state: Option<State>,
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
