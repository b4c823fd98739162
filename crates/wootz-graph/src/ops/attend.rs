//! Attention over ragged rows, with or without a state that keeps keys and values between steps.
//!
//! Where:  the middle of every transformer layer, behind [`append`](Graph::append).
//! Idea:   queries see keys of their own sequence only. Keys come from a state, or are rows of the same batch: of
//!         the token axis (training, encoders) or of the key axis (cross-attention).
//! Source: Vaswani et al. 2017; grouped queries: Ainslie et al. 2023; ALiBi: Press et al. 2022; the online
//!         soft-max and its backward pass: Dao 2023, arXiv:2307.08691 (kernels).

use std::ops::Range;

use wootz_kernels::{
    AttendForward, AttendGrads, AttendSeq, AttendSpec, DenseSeq, Visible, attend_dense_backward,
};

use crate::Result;
use crate::batch::{Batch, Sequence};
use crate::cost::Cost;
use crate::device::cpu::{CpuRun, Out, Outs};
use crate::device::reference::{RefRun, RefState};
use crate::graph::{Graph, Value};
use crate::ops::append::{Kv, place};
use crate::ops::{Backward, Operator, Part, Takes};
use crate::shape::{Axis, Dim, Type};
use crate::state::{State, StateKind};

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
    pub(crate) fn sees(&self, i: usize, j: usize) -> bool {
        let within = |distance: usize, limit: Option<usize>| limit.is_none_or(|limit| distance <= limit);
        within(i.saturating_sub(j), self.back) && within(j.saturating_sub(i), self.ahead)
    }

    /// In a few words, for drawings.
    fn describe(&self) -> String {
        let mut words = vec![format!("{} heads over {}", self.n_heads, self.n_kv_heads)];
        match (self.back, self.ahead) {
            (None, None) => words.push("all".to_owned()),
            (None, Some(0)) => words.push("causal".to_owned()),
            (Some(back), Some(0)) => words.push(format!("causal, window {}", back + 1)),
            (back, ahead) => words.push(format!("back {back:?}, ahead {ahead:?}")),
        }
        words.extend(self.softcap.map(|cap| format!("capped at {cap}")));
        words.extend(self.alibi_slopes.as_ref().map(|_| "ALiBi".to_owned()));
        words.join(", ")
    }

    /// What is wrong with it, apart from its inputs.
    fn check(&self) -> Result<(), String> {
        let Attention { n_heads, n_kv_heads, d_k, d_v, .. } = *self;
        if [n_heads, n_kv_heads, d_k, d_v].contains(&0) || !n_heads.is_multiple_of(n_kv_heads) {
            return Err(format!("{n_heads} heads over {n_kv_heads}, of {d_k} and {d_v} numbers"));
        }
        match &self.alibi_slopes {
            Some(slopes) if slopes.len() != n_heads => {
                Err(format!("expected {n_heads} slopes, got {}", slopes.len()))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn kernel_spec(&self) -> AttendSpec<'_> {
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

    /// Pairs of query and key that see each other.
    fn n_pairs(&self, first: usize, n_queries: usize, n_keys: usize) -> usize {
        let visible = |i: usize| {
            let end = self.ahead.map_or(n_keys, |ahead| n_keys.min(i.saturating_add(ahead).saturating_add(1)));
            end - self.back.map_or(0, |back| i.saturating_sub(back)).min(end)
        };
        (first..first + n_queries).map(visible).sum()
    }
}

/// `y[i, h] = Σⱼ softmaxⱼ(scale·q[i, h]·k[j, h·K/H])·v[j, h·K/H]`.
#[derive(Clone, Debug)]
pub(crate) struct Attend {
    pub spec: Attention,
    pub state: Option<State>,
}

/// The gradients of q, k and v, from scores that are made again. Only without a state.
#[derive(Clone, Debug)]
pub(crate) struct AttendGrad {
    spec: Attention,
    part: Part,
}

impl Graph<'_> {
    /// Attention of `q` (T, H·Dk) over `kv` → (T, H·Dv).
    pub fn attend(&mut self, q: Value, kv: Kv, spec: Attention) -> Result<Value> {
        if let Some(state) = kv.state {
            let kind = self.state_kind("attend", state)?;
            let fits = matches!(kind, StateKind::Kv { n_kv_heads, d_k, d_v, .. }
                if (n_kv_heads, d_k, d_v) == (spec.n_kv_heads, spec.d_k, spec.d_v));
            if !fits {
                return Err(self.error("attend", format!("{spec:?} does not fit the state {kind:?}")));
            }
        }
        let inputs: Vec<Value> = [Some(q), Some(kv.k), kv.v].into_iter().flatten().collect();
        self.push(Attend { spec, state: kv.state }.into(), &inputs)
    }
}

impl Operator for Attend {
    fn name(&self) -> &'static str {
        "attend"
    }

    fn detail(&self) -> String {
        self.spec.describe()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        self.spec.check()?;
        let Attention { n_heads, n_kv_heads, d_k, d_v, .. } = self.spec;
        if inputs[0].shape.rows() != Some((Axis::Tokens, 1)) || inputs[0].shape.inner() != n_heads * d_k {
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
        if let [_, k, v] = inputs
            && (k.shape.rows() != v.shape.rows()
                || !matches!(k.shape.rows(), Some((Axis::Tokens | Axis::Keys, 1))))
        {
            return Err(format!("expected a row for each token or key, got {} and {}", k.shape, v.shape));
        }
        Ok(Type::f32((Dim::Rows(Axis::Tokens, 1), n_heads * d_v)))
    }

    /// Behind the queries stand keys and values, or what [`append`](Graph::append) left.
    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if self.state.is_some() && input == 1 { Takes::Anything } else { Takes::Numbers }
    }

    fn cost(&self, inputs: &[Type], _output: &Type, batch: &Batch) -> Cost {
        let Attention { n_heads, n_kv_heads, d_k, d_v, .. } = self.spec;
        let (mut n_pairs, mut n_keys) = (0, 0);
        for seq in &batch.sequences {
            let (first, keys) = match self.state {
                Some(_) => (seq.first_position, seq.first_position + seq.rows.len()),
                None => (0, key_rows(seq, &inputs[1]).len()),
            };
            n_pairs += self.spec.n_pairs(first, seq.rows.len(), keys);
            n_keys += keys;
        }
        let n_numbers = (n_keys * n_kv_heads + batch.rows().tokens * n_heads) * (d_k + d_v);
        Cost { flops: (2 * n_pairs * n_heads * (d_k + d_v)) as f64, bytes: 4.0 * n_numbers as f64 }
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        at.without(g, self.state)?;
        let inputs = [&[at.dy, at.output], at.inputs].concat();
        at.parts(g, &inputs, |part| AttendGrad { spec: self.spec.clone(), part }.into())
    }

    fn reference(&self, run: &mut RefRun) {
        let (spec, q, batch, types) = (&self.spec, run.input(0), run.batch, run.types);
        let Attention { n_heads, n_kv_heads, d_k, d_v, .. } = *spec;
        let mut out = vec![0.0; run.out.len()];
        let (keys, values, block_len) = match self.state {
            None => (run.input(1), run.input(2), None),
            Some(state) => match run.state(state) {
                RefState::Kv { keys, values, block_len, v_in_k, .. } => {
                    (&keys[..], if *v_in_k { &keys[..] } else { &values[..] }, Some(*block_len))
                }
                RefState::Recurrent { .. } => panic!("checked when the node was added"),
            },
        };
        // Values that are the first numbers of keys stand as far apart as keys do.
        let v_stride = if std::ptr::eq(keys, values) { d_k } else { d_v };
        for seq in &batch.sequences {
            let (first, n_keys) = match block_len {
                Some(_) => (seq.first_position, seq.first_position + seq.rows.len()),
                None => (0, key_rows(seq, &types[1]).len()),
            };
            let row = |j: usize| match block_len {
                Some(block_len) => place(seq, j, block_len),
                None => key_rows(seq, &types[1]).start + j,
            };
            for (i, t) in seq.rows.clone().enumerate() {
                for h in 0..n_heads {
                    let kv_head = h * n_kv_heads / n_heads;
                    let q = &q[(t * n_heads + h) * d_k..][..d_k];
                    let y = &mut out[(t * n_heads + h) * d_v..][..d_v];
                    let key = |j| &keys[(row(j) * n_kv_heads + kv_head) * d_k..][..d_k];
                    for (j, p) in probabilities(spec, q, h, first + i, n_keys, key) {
                        let v = &values[(row(j) * n_kv_heads + kv_head) * v_stride..][..d_v];
                        y.iter_mut().zip(v).for_each(|(y, v)| *y += p * v);
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
            let seqs = dense_sequences(batch, &run.types[1]);
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

/// Where a sequence's keys are, by the axis that they are rows of.
pub(crate) fn key_rows(seq: &Sequence, keys: &Type) -> Range<usize> {
    match keys.shape.rows() {
        Some((Axis::Keys, _)) => seq.key_rows.clone(),
        _ => seq.rows.clone(),
    }
}

pub(crate) fn dense_sequences(batch: &Batch, keys: &Type) -> Vec<DenseSeq> {
    let dense = |seq: &Sequence| DenseSeq {
        q_rows: seq.rows.clone(),
        kv_rows: key_rows(seq, keys),
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

    fn detail(&self) -> String {
        self.spec.describe()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[2 + self.part.index])
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let Attention { n_heads, d_k, d_v, .. } = self.spec;
        let pairs =
            |seq: &Sequence| self.spec.n_pairs(0, seq.rows.len(), key_rows(seq, &inputs[3]).len());
        let n_pairs: usize = batch.sequences.iter().map(pairs).sum();
        // Scores, their gradients, and the part itself.
        let widths = [2 * d_k + d_v, 2 * d_k + d_v, d_k + 2 * d_v][self.part.index];
        let flops = (2 * n_pairs * n_heads * widths) as f64;
        Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }

    fn adds(&self) -> bool {
        true
    }

    fn reference(&self, run: &mut RefRun) {
        let (spec, types) = (&self.spec, run.types);
        let (dy, y, q, k, v) = (run.input(0), run.input(1), run.input(2), run.input(3), run.input(4));
        let Attention { n_heads, n_kv_heads, d_k, d_v, .. } = *spec;
        run.out.fill(0.0);
        for seq in &run.batch.sequences {
            for (i, t) in seq.rows.clone().enumerate() {
                for h in 0..n_heads {
                    let kv_head = h * n_kv_heads / n_heads;
                    let q = &q[(t * n_heads + h) * d_k..][..d_k];
                    let (dy, y) = (&dy[(t * n_heads + h) * d_v..][..d_v], &y[(t * n_heads + h) * d_v..][..d_v]);
                    let keys = key_rows(seq, &types[3]);
                    let key = |j: usize| &k[((keys.start + j) * n_kv_heads + kv_head) * d_k..][..d_k];
                    let delta: f64 = dy.iter().zip(y).map(|(dy, y)| dy * y).sum();
                    for (j, p) in probabilities(spec, q, h, i, keys.len(), key) {
                        let row = keys.start + j;
                        let v = &v[(row * n_kv_heads + kv_head) * d_v..][..d_v];
                        let dp: f64 = dy.iter().zip(v).map(|(dy, v)| dy * v).sum();
                        let mut ds = p * (dp - delta) * f64::from(spec.scale);
                        if let Some(cap) = spec.softcap {
                            let raw: f64 = q.iter().zip(key(j)).map(|(q, k)| q * k).sum();
                            ds *= 1.0 - (raw * f64::from(spec.scale) / f64::from(cap)).tanh().powi(2);
                        }
                        let mut add = |at: usize, factor: f64, x: &[f64]| {
                            run.out[at..].iter_mut().zip(x).for_each(|(sum, x)| *sum += factor * x);
                        };
                        match self.part.index {
                            0 => add((t * n_heads + h) * d_k, ds, key(j)),
                            1 => add((row * n_kv_heads + kv_head) * d_k, ds, q),
                            _ => add((row * n_kv_heads + kv_head) * d_v, p, dy),
                        }
                    }
                }
            }
        }
    }

    fn cpu_parts(&self, run: &CpuRun, outs: Outs) {
        let [d_out, out, q, k, v] = [0, 1, 2, 3, 4].map(|i| run.f32(i));
        let (spec, seqs) = (self.spec.kernel_spec(), dense_sequences(run.batch, &run.types[3]));
        let forward = AttendForward { q, k, v, out, d_out };
        // The kernel adds to all three.
        let mut own: [Vec<f32>; 3] = Default::default();
        let mut outs = outs.into_iter();
        let mut places = Vec::with_capacity(3);
        for (own, like) in own.iter_mut().zip([q, k, v]) {
            places.push(match outs.next().flatten() {
                Some(Out { numbers, adds }) => {
                    if !adds {
                        numbers.fill(0.0);
                    }
                    numbers
                }
                None => {
                    *own = vec![0.0; like.len()];
                    &mut own[..]
                }
            });
        }
        let [dq, dk, dv] = places.try_into().expect("three gradients");
        attend_dense_backward(run.isa, run.pool, &spec, forward, &seqs, AttendGrads { dq, dk, dv });
    }
}
