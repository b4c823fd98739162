//! Keys and values on their way into attention: written to a state first, or passed on as rows.
//!
//! Where:  between an attention layer's projections and [`attend`](Graph::attend).
//! Idea:   with a state, new rows stand behind what their sequence has there already and attention reads the
//!         state; without one (training, encoders) keys and values are rows of the same batch.
//! Source: Kwon et al. 2023, PagedAttention, arXiv:2309.06180, for blocks and tables.

use wootz_kernels::Slot;

use crate::batch::{Batch, Sequence};
use crate::cost::{Cost, n_elements};
use crate::device::cpu::CpuRun;
use crate::device::reference::{RefRun, RefState};
use crate::graph::{Graph, Value};
use crate::ops::Operator;
use crate::shape::{Axis, Shape, Type};
use crate::state::{State, StateKind};
use crate::{Error, Result};

/// Keys and values to attend to.
#[derive(Clone, Copy, Debug)]
pub struct Kv {
    /// Keys as rows, or the node that appended them.
    pub(crate) k: Value,
    /// Values as rows; none when a state holds them.
    pub(crate) v: Option<Value>,
    pub(crate) state: Option<State>,
}

/// Writes the new rows' keys and values into a state. Its output is empty and stands for the state after that.
#[derive(Clone, Debug)]
pub(crate) struct Append {
    pub(crate) state: State,
    /// K·Dk.
    k_width: usize,
    /// K·Dv; none where values are part of keys.
    v_width: Option<usize>,
}

impl Graph<'_> {
    /// Appends `k` (T, K·Dk) and `v` (T, K·Dv) to a state; without one they pass through.
    pub fn append(&mut self, state: Option<State>, k: Value, v: Value) -> Result<Kv> {
        let Some(state) = state else { return Ok(Kv { k, v: Some(v), state: None }) };
        let StateKind::Kv { n_kv_heads, d_k, d_v, v_in_k: false, .. } = self.state_kind("append", state)? else {
            return Err(self.error("append", "expected a state of keys and values".to_owned()));
        };
        let op = Append { state, k_width: n_kv_heads * d_k, v_width: Some(n_kv_heads * d_v) };
        Ok(Kv { k: self.push(op.into(), &[k, v])?, v: None, state: Some(state) })
    }

    /// Appends `k` (T, Dk) whose first `d_v` numbers are the values as well (MLA's latent, one head for all).
    pub fn append_latent(&mut self, state: Option<State>, k: Value, d_v: usize) -> Result<Kv> {
        let Some(state) = state else {
            let v = self.columns(k, 0, d_v)?;
            return Ok(Kv { k, v: Some(v), state: None });
        };
        match self.state_kind("append", state)? {
            StateKind::Kv { n_kv_heads: 1, d_k, d_v: of_state, v_in_k: true, .. } if of_state == d_v => {
                let op = Append { state, k_width: d_k, v_width: None };
                Ok(Kv { k: self.push(op.into(), &[k])?, v: None, state: Some(state) })
            }
            other => Err(self.error("append", format!("expected a latent with values of {d_v}, got {other:?}"))),
        }
    }

    /// What a state keeps.
    pub(crate) fn state_kind(&self, op: &'static str, state: State) -> Result<StateKind, Error> {
        match self.states().get(state.0 as usize) {
            Some(spec) => Ok(spec.kind),
            None => Err(self.error(op, format!("state {} of {}", state.0, self.states().len()))),
        }
    }

    /// Checks that `state`, where there is one, is a recurrence of `len` numbers.
    pub(crate) fn expect_recurrent(&self, op: &'static str, state: Option<State>, len: usize) -> Result<()> {
        let Some(state) = state else { return Ok(()) };
        match self.state_kind(op, state)? {
            StateKind::Recurrent { len: of_state } if of_state == len => Ok(()),
            other => Err(self.error(op, format!("expected a recurrence of {len} numbers, got {other:?}"))),
        }
    }
}

impl Operator for Append {
    fn name(&self) -> &'static str {
        "append"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let widths = [Some(self.k_width), self.v_width];
        for (input, width) in inputs.iter().zip(widths.into_iter().flatten()) {
            if input.shape.rows() != Some((Axis::Tokens, 1)) || input.shape.inner() != width {
                return Err(format!("the state keeps rows (T, {width}), got {}", input.shape));
            }
        }
        Ok(Type::f32(Shape::fixed(&[0])))
    }

    fn cost(&self, inputs: &[Type], _output: &Type, batch: &Batch) -> Cost {
        let n: usize = inputs.iter().map(|ty| n_elements(ty, batch)).sum();
        Cost { flops: 0.0, bytes: 8.0 * n as f64 }
    }

    fn reference(&self, run: &mut RefRun) {
        let (batch, d_k) = (run.batch, self.k_width);
        let (k, v) = (run.input(0), self.v_width.map(|d_v| (run.input(1), d_v)));
        let RefState::Kv { keys, values, block_len, .. } = run.state(self.state) else {
            panic!("checked when the node was added: a state of keys and values");
        };
        for seq in &batch.sequences {
            for (i, t) in seq.rows.clone().enumerate() {
                let at = place(seq, seq.first_position + i, *block_len);
                keys[at * d_k..][..d_k].copy_from_slice(&k[t * d_k..][..d_k]);
                if let Some((v, d_v)) = v {
                    values[at * d_v..][..d_v].copy_from_slice(&v[t * d_v..][..d_v]);
                }
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (k, v) = (run.f32(0), if self.v_width.is_some() { run.f32(1) } else { &[] });
        let (isa, pool, batch) = (run.isa, run.pool, run.batch);
        let store = run.kv_state(self.state);
        let block_len = store.block_len();
        let slot = |seq: &Sequence, p: usize| Slot {
            block: seq.block_table[p / block_len],
            offset: (p % block_len) as u32,
        };
        let slots: Vec<Slot> = batch
            .sequences
            .iter()
            .flat_map(|seq| (0..seq.rows.len()).map(move |i| slot(seq, seq.first_position + i)))
            .collect();
        store.append(isa, pool, k, v, &slots);
    }
}

/// Where position `p` of a sequence lies in a state of blocks.
pub(crate) fn place(seq: &Sequence, p: usize, block_len: usize) -> usize {
    seq.block_table[p / block_len] as usize * block_len + p % block_len
}
