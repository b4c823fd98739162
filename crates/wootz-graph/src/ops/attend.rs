//! Attention over ragged rows, with or without a state that keeps keys and values between steps.
//!
//! Where:  the middle of every transformer layer.
//! Idea:   queries see keys of their own sequence only. With a state, the new keys are appended first and all
//!         are read from it; without one (training, encoders) they are rows of the same batch.
//! Source: Vaswani et al. 2017; grouped queries: Ainslie et al. 2023; ALiBi: Press et al. 2022; the online
//!         soft-max and its backward pass: Dao 2023, arXiv:2307.08691 (kernels).

use wootz_kernels::{
    AttendForward, AttendGrads, AttendSeq, AttendSpec, DenseSeq, Slot, Visible, attend_dense_backward,
};

use crate::batch::{Batch, Sequence};
use crate::cost::Cost;
use crate::device::cpu::CpuRun;
use crate::device::reference::{RefRun, RefState};
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator};
use crate::shape::{Shape, Type};
use crate::state::State;
use crate::Result;

/// What an attention layer computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// H.
    pub n_heads: usize,
    /// K; H is a multiple of it.
    pub n_kv_heads: usize,
    /// Width of queries and keys.
    pub d_k: usize,
    /// Width of values.
    pub d_v: usize,
    /// Multiplies the scores, usually `1/√D`.
    pub scale: f32,
    /// `c·tanh(score/c)` before the mask.
    pub softcap: Option<f32>,
    /// How many positions before its own a query sees; `None` is all.
    pub back: Option<usize>,
    /// How many positions after its own a query sees; `None` is all, 0 is causal.
    pub ahead: Option<usize>,
    /// Slope of a linear penalty on distance, one for each head.
    pub alibi_slopes: Option<Vec<f32>>,
}

impl Attention {
    /// Whether a query at `i` sees a key at `j`.
    fn sees(&self, i: usize, j: usize) -> bool {
        let within = |distance: usize, limit: Option<usize>| limit.is_none_or(|limit| distance <= limit);
        within(i.saturating_sub(j), self.back) && within(j.saturating_sub(i), self.ahead)
    }

    fn kernel_spec(&self) -> AttendSpec<'_> {
        AttendSpec {
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            d_k: self.d_k,
            d_v: self.d_v,
            scale: self.scale,
            softcap: self.softcap,
            visible: Visible { back: self.back, ahead: self.ahead },
            sinks: None,
            alibi_slopes: self.alibi_slopes.as_deref(),
        }
    }

    /// Pairs of query and key that see each other in this batch.
    fn n_pairs(&self, batch: &Batch, stateful: bool) -> usize {
        let pairs = |seq: &Sequence| {
            let (first, n) = if stateful { (seq.first_position, seq.rows.len()) } else { (0, seq.rows.len()) };
            let n_keys = if stateful { first + n } else { seq.key_rows.len() };
            let visible = |i: usize| {
                let end = self.ahead.map_or(n_keys, |ahead| n_keys.min(i + ahead + 1));
                end - self.back.map_or(0, |back| i.saturating_sub(back)).min(end)
            };
            (first..first + n).map(visible).sum::<usize>()
        };
        batch.sequences.iter().map(pairs).sum()
    }
}

/// Keys and values to attend to.
#[derive(Clone, Copy, Debug)]
pub struct Kv {
    /// Keys as rows, or the node that appended them.
    k: Value,
    /// Values as rows; none when a state holds them.
    v: Option<Value>,
    state: Option<State>,
}

/// Writes the new rows' keys and values into a state.
#[derive(Clone, Debug)]
pub(crate) struct Append {
    state: State,
}

/// `y[i, h] = Σⱼ softmaxⱼ(scale·q[i, h]·k[j, h·K/H])·v[j, h·K/H]`.
#[derive(Clone, Debug)]
pub(crate) struct Attend {
    spec: Attention,
    state: Option<State>,
}

/// The gradients of q, k and v, side by side in each row. Only without a state.
#[derive(Clone, Debug)]
pub(crate) struct AttendGrad {
    spec: Attention,
}

impl Graph<'_> {
    /// Appends `k` (T, K·Dk) and `v` (T, K·Dv) to a state; without one they pass through.
    pub fn append(&mut self, state: Option<State>, k: Value, v: Value) -> Result<Kv> {
        let Some(state) = state else { return Ok(Kv { k, v: Some(v), state: None }) };
        let appended = self.push(Append { state }.into(), &[k, v])?;
        Ok(Kv { k: appended, v: None, state: Some(state) })
    }

    /// Appends `k` (T, K·Dk) whose first numbers are the values as well (MLA's latent).
    pub fn append_latent(&mut self, state: Option<State>, k: Value, d_v: usize) -> Result<Kv> {
        let Some(state) = state else {
            let v = self.columns(k, 0, d_v)?;
            return Ok(Kv { k, v: Some(v), state: None });
        };
        let appended = self.push(Append { state }.into(), &[k])?;
        Ok(Kv { k: appended, v: None, state: Some(state) })
    }

    /// Attention of `q` (T, H·Dk) over `kv` → (T, H·Dv).
    pub fn attend(&mut self, q: Value, kv: Kv, spec: Attention) -> Result<Value> {
        let inputs: Vec<Value> = [Some(q), Some(kv.k), kv.v].into_iter().flatten().collect();
        self.push(Attend { spec, state: kv.state }.into(), &inputs)
    }
}

impl Operator for Append {
    fn name(&self) -> &'static str {
        "append"
    }

    fn infer(&self, _inputs: &[Type]) -> Result<Type, String> {
        Ok(Type::f32(Shape::fixed(&[0])))
    }

    fn reference(&self, run: &mut RefRun) {
        let (k, d_k) = (run.input(0), run.types[0].shape.inner());
        let v = (run.n_inputs() == 2).then(|| (run.input(1), run.types[1].shape.inner()));
        let batch = run.batch;
        let RefState::Kv { keys, values, block_len, .. } = run.state(self.state) else {
            panic!("`append` writes a state of keys and values");
        };
        for seq in &batch.sequences {
            for (i, t) in seq.rows.clone().enumerate() {
                let at = slot(seq, seq.first_position + i, *block_len);
                keys[at * d_k..][..d_k].copy_from_slice(&k[t * d_k..][..d_k]);
                if let Some((v, d_v)) = v {
                    values[at * d_v..][..d_v].copy_from_slice(&v[t * d_v..][..d_v]);
                }
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (k, v) = (run.f32(0), if run.n_inputs() == 2 { run.f32(1) } else { &[] });
        let batch = run.batch;
        let store = run.kv_state(self.state);
        let block_len = store.block_len();
        let slots: Vec<Slot> = batch
            .sequences
            .iter()
            .flat_map(|seq| {
                (seq.first_position..seq.first_position + seq.rows.len())
                    .map(|p| Slot { block: seq.block_table[p / block_len], offset: (p % block_len) as u32 })
            })
            .collect();
        store.append(k, v, &slots);
    }
}

/// Where position `p` of a sequence lies in a state of blocks.
fn slot(seq: &Sequence, p: usize, block_len: usize) -> usize {
    seq.block_table[p / block_len] as usize * block_len + p % block_len
}

impl Operator for Attend {
    fn name(&self) -> &'static str {
        "attend"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let Attention { n_heads, n_kv_heads, d_k, d_v, .. } = self.spec;
        if inputs[0].shape.inner() != n_heads * d_k {
            return Err(format!("expected queries (T, {n_heads}·{d_k}), got {}", inputs[0].shape));
        }
        if let [_, k, v] = inputs
            && (k.shape.inner() != n_kv_heads * d_k || v.shape.inner() != n_kv_heads * d_v)
        {
            return Err(format!(
                "expected keys (S, {n_kv_heads}·{d_k}) and values (S, {n_kv_heads}·{d_v}), got {} and {}",
                k.shape, v.shape
            ));
        }
        let (axis, times) = inputs[0].shape.rows().ok_or("queries have no rows")?;
        Ok(Type::f32((crate::Dim::Rows(axis, times), n_heads * d_v)))
    }

    fn cost(&self, _inputs: &[Type], _output: &Type, batch: &Batch) -> Cost {
        let Attention { n_heads, n_kv_heads, d_k, d_v, .. } = self.spec;
        let pairs = self.spec.n_pairs(batch, self.state.is_some()) as f64;
        let n_keys: usize = batch
            .sequences
            .iter()
            .map(|seq| if self.state.is_some() { seq.first_position + seq.rows.len() } else { seq.key_rows.len() })
            .sum();
        let rows = batch.rows().tokens;
        Cost {
            flops: 2.0 * pairs * (n_heads * (d_k + d_v)) as f64,
            bytes: (2 * n_keys * n_kv_heads * (d_k + d_v) + 4 * rows * n_heads * (d_k + d_v)) as f64,
        }
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let Attention { n_heads, n_kv_heads, d_k, d_v, .. } = self.spec;
        let inputs = [&[at.dy, at.output], at.inputs].concat();
        let all = g.push(AttendGrad { spec: self.spec.clone() }.into(), &inputs)?;
        let (q, k) = (n_heads * d_k, n_kv_heads * d_k);
        let dq = g.columns(all, 0, q)?;
        let dk = g.columns(all, q, k)?;
        let dv = g.columns(all, q + k, n_kv_heads * d_v)?;
        let mut grads = Vec::new();
        for (&input, grad) in at.inputs.iter().zip([dq, dk, dv]) {
            let shape = g.ty(input).shape;
            grads.push(Some(g.reshape(grad, shape)?));
        }
        Ok(grads)
    }

    fn reference(&self, run: &mut RefRun) {
        let spec = &self.spec;
        let q = run.input(0);
        let dense = (run.n_inputs() == 3).then(|| (run.input(1), run.input(2)));
        let batch = run.batch;
        let mut out = vec![0.0; run.out.len()];
        {
            let (keys, values, block_len) = match (dense, self.state) {
                (Some((k, v)), _) => (k, v, 0),
                (None, Some(state)) => match run.state(state) {
                    RefState::Kv { keys, values, block_len, v_in_k } => {
                        (&keys[..], if *v_in_k { &keys[..] } else { &values[..] }, *block_len)
                    }
                    RefState::Recurrent { .. } => panic!("`attend` reads a state of keys and values"),
                },
                (None, None) => unreachable!("dense attention has three inputs"),
            };
            let v_stride = values.len() / (keys.len() / (spec.n_kv_heads * spec.d_k)).max(1);
            for seq in &batch.sequences {
                let first = if dense.is_some() { 0 } else { seq.first_position };
                let n_keys = if dense.is_some() { seq.key_rows.len() } else { first + seq.rows.len() };
                let row = |j: usize| {
                    if dense.is_some() { seq.key_rows.start + j } else { slot(seq, j, block_len) }
                };
                for (i, t) in seq.rows.clone().enumerate() {
                    for h in 0..spec.n_heads {
                        let kv_head = h * spec.n_kv_heads / spec.n_heads;
                        let q = &q[(t * spec.n_heads + h) * spec.d_k..][..spec.d_k];
                        let y = &mut out[(t * spec.n_heads + h) * spec.d_v..][..spec.d_v];
                        let key = |j| &keys[(row(j) * spec.n_kv_heads + kv_head) * spec.d_k..][..spec.d_k];
                        let weights = probabilities(spec, q, h, first + i, n_keys, key);
                        for (j, p) in weights {
                            let v = &values[row(j) * v_stride + kv_head * spec.d_v..][..spec.d_v];
                            y.iter_mut().zip(v).for_each(|(y, v)| *y += p * v);
                        }
                    }
                }
            }
        }
        run.out.copy_from_slice(&out);
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (isa, pool, batch, q) = (run.isa, run.pool, run.batch, run.f32(0));
        let spec = self.spec.kernel_spec();
        let Some(state) = self.state else {
            let seqs = dense_sequences(batch);
            let (k, v) = (run.f32(1), run.f32(2));
            wootz_kernels::attend_dense(isa, pool, &spec, q, k, v, &seqs, run.out);
            return;
        };
        let seqs: Vec<AttendSeq> = batch
            .sequences
            .iter()
            .map(|seq| AttendSeq {
                q_rows: seq.rows.clone(),
                first_position: seq.first_position,
                kv_len: seq.first_position + seq.rows.len(),
                block_table: &seq.block_table,
            })
            .collect();
        let (store, out) = run.kv_state_and_out(state);
        wootz_kernels::attend(isa, pool, &spec, q, &seqs, store, out);
    }
}

fn dense_sequences(batch: &Batch) -> Vec<DenseSeq> {
    let dense = |seq: &Sequence| DenseSeq {
        q_rows: seq.rows.clone(),
        kv_rows: seq.key_rows.clone(),
        first_position: 0,
    };
    batch.sequences.iter().map(dense).collect()
}

/// The soft-max over the visible keys of one query: `(key, probability)`.
fn probabilities<'k>(
    spec: &Attention,
    q: &[f64],
    head: usize,
    position: usize,
    n_keys: usize,
    key: impl Fn(usize) -> &'k [f64],
) -> Vec<(usize, f64)> {
    let slope = spec.alibi_slopes.as_ref().map_or(0.0, |slopes| f64::from(slopes[head]));
    let score = |j: usize| {
        let mut score = q.iter().zip(key(j)).map(|(q, k)| q * k).sum::<f64>() * f64::from(spec.scale);
        if let Some(cap) = spec.softcap {
            score = f64::from(cap) * (score / f64::from(cap)).tanh();
        }
        score - slope * (position as f64 - j as f64)
    };
    let mut weights: Vec<(usize, f64)> =
        (0..n_keys).filter(|&j| spec.sees(position, j)).map(|j| (j, score(j))).collect();
    let max = weights.iter().map(|w| w.1).fold(f64::NEG_INFINITY, f64::max);
    weights.iter_mut().for_each(|w| w.1 = (w.1 - max).exp());
    let sum: f64 = weights.iter().map(|w| w.1).sum();
    weights.iter_mut().for_each(|w| w.1 /= sum);
    weights
}

impl Operator for AttendGrad {
    fn name(&self) -> &'static str {
        "attend_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [_dy, _y, q, k, v] = inputs else { return Err("a state has no gradient".to_owned()) };
        if k.shape.rows() != q.shape.rows() {
            return Err(format!("queries {} and keys {} have other rows", q.shape, k.shape));
        }
        let (axis, times) = q.shape.rows().ok_or("queries have no rows")?;
        let width = q.shape.inner() + k.shape.inner() + v.shape.inner();
        Ok(Type::f32((crate::Dim::Rows(axis, times), width)))
    }

    fn reference(&self, run: &mut RefRun) {
        let spec = &self.spec;
        let (dy, y, q, k, v) = (run.input(0), run.input(1), run.input(2), run.input(3), run.input(4));
        let Attention { n_heads, n_kv_heads, d_k, d_v, .. } = *spec;
        let (q_width, k_width) = (n_heads * d_k, n_kv_heads * d_k);
        let width = q_width + k_width + n_kv_heads * d_v;
        run.out.fill(0.0);
        for seq in &run.batch.sequences {
            for (i, t) in seq.rows.clone().enumerate() {
                for h in 0..n_heads {
                    let kv_head = h * n_kv_heads / n_heads;
                    let q = &q[(t * n_heads + h) * d_k..][..d_k];
                    let (dy, y) = (&dy[(t * n_heads + h) * d_v..][..d_v], &y[(t * n_heads + h) * d_v..][..d_v]);
                    let key = |j: usize| &k[((seq.key_rows.start + j) * n_kv_heads + kv_head) * d_k..][..d_k];
                    let delta: f64 = dy.iter().zip(y).map(|(dy, y)| dy * y).sum();
                    for (j, p) in probabilities(spec, q, h, i, seq.key_rows.len(), key) {
                        let row = seq.key_rows.start + j;
                        let v = &v[(row * n_kv_heads + kv_head) * d_v..][..d_v];
                        let dp: f64 = dy.iter().zip(v).map(|(dy, v)| dy * v).sum();
                        let mut ds = p * (dp - delta) * f64::from(spec.scale);
                        if let Some(cap) = spec.softcap {
                            let raw: f64 = q.iter().zip(key(j)).map(|(q, k)| q * k).sum();
                            ds *= 1.0 - (raw * f64::from(spec.scale) / f64::from(cap)).tanh().powi(2);
                        }
                        for c in 0..d_k {
                            run.out[t * width + h * d_k + c] += ds * key(j)[c];
                            run.out[row * width + q_width + kv_head * d_k + c] += ds * q[c];
                        }
                        for c in 0..d_v {
                            run.out[row * width + q_width + k_width + kv_head * d_v + c] += p * dy[c];
                        }
                    }
                }
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (dy, y) = (run.f32(0), run.f32(1));
        let (q, k, v) = (run.f32(2), run.f32(3), run.f32(4));
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        let forward = AttendForward { q, k, v, out: y, d_out: dy };
        let grads = AttendGrads { dq: &mut dq, dk: &mut dk, dv: &mut dv };
        let (spec, seqs) = (self.spec.kernel_spec(), dense_sequences(run.batch));
        attend_dense_backward(run.isa, run.pool, &spec, forward, &seqs, grads);
        let widths = [2, 3, 4].map(|i| run.types[i].shape.inner());
        for (t, row) in run.out.chunks_exact_mut(widths.iter().sum()).enumerate() {
            let (row_q, rest) = row.split_at_mut(widths[0]);
            let (row_k, row_v) = rest.split_at_mut(widths[1]);
            row_q.copy_from_slice(&dq[t * widths[0]..][..widths[0]]);
            row_k.copy_from_slice(&dk[t * widths[1]..][..widths[1]]);
            row_v.copy_from_slice(&dv[t * widths[2]..][..widths[2]]);
        }
    }
}
