//! Gradients of attention over given keys and values, from recomputed scores.
//!
//! Where:  the backward pass of attention, for training.
//! Idea:   the forward pass keeps nothing but its output. Each row's greatest score and sum are found again, then one walk over the
//!         keys gives all three gradients.
//! Source: Dao et al. 2022, FlashAttention, arXiv:2205.14135, algorithm 4.

use super::{AttendSpec, DenseSeq, check_apart};
use crate::isa::Kernel;
use crate::pool::SharedSlice;
use crate::rows::{add_scaled, dot_lanes};
use crate::simd::Simd;
use crate::{Isa, Pool};

/// What [`attend_dense_backward`] reads: the forward pass's inputs and output, and the output's gradient.
#[derive(Clone, Copy, Debug)]
pub struct AttendForward<'a> {
    /// `(T, H·d_k)`
    pub q: &'a [f32],
    /// `(S, K·d_k)`
    pub k: &'a [f32],
    /// `(S, K·d_v)`
    pub v: &'a [f32],
    /// `(T, H·d_v)`
    pub out: &'a [f32],
    /// `(T, H·d_v)`
    pub d_out: &'a [f32],
}

/// What [`attend_dense_backward`] adds to, in the shapes of `q`, `k` and `v`.
#[derive(Debug)]
pub struct AttendGrads<'a> {
    /// `(T, H·d_k)`
    pub dq: &'a mut [f32],
    /// `(S, K·d_k)`
    pub dk: &'a mut [f32],
    /// `(S, K·d_v)`
    pub dv: &'a mut [f32],
}

/// Adds the gradients of [`attend_dense`](super::attend_dense). Sequences share neither queries nor keys.
///
/// Sinks take part in the soft-max; their own gradient is not computed.
pub fn attend_dense_backward(
    isa: Isa,
    pool: &Pool,
    spec: &AttendSpec<'_>,
    forward: AttendForward<'_>,
    seqs: &[DenseSeq],
    grads: AttendGrads<'_>,
) {
    spec.check();
    let AttendForward { q, k, v, out, d_out } = forward;
    let (n_q, n_kv) = (q.len() / (spec.n_heads * spec.d_k), k.len() / (spec.n_kv_heads * spec.d_k));
    assert_eq!(q.len(), n_q * spec.n_heads * spec.d_k, "attend_dense_backward: length of `q`");
    assert_eq!(k.len(), n_kv * spec.n_kv_heads * spec.d_k, "attend_dense_backward: length of `k`");
    assert_eq!(v.len(), n_kv * spec.n_kv_heads * spec.d_v, "attend_dense_backward: length of `v`");
    assert_eq!(out.len(), n_q * spec.n_heads * spec.d_v, "attend_dense_backward: length of `out`");
    assert_eq!(out.len(), d_out.len(), "attend_dense_backward: length of `d_out`");
    let lens = (grads.dq.len(), grads.dk.len(), grads.dv.len());
    assert_eq!(lens, (q.len(), k.len(), v.len()), "attend_dense_backward: lengths of the gradients");
    check_apart(seqs.iter().map(|seq| &seq.q_rows), n_q);
    check_apart(seqs.iter().map(|seq| &seq.kv_rows), n_kv);
    let (dq, dk, dv) = (SharedSlice::new(grads.dq), SharedSlice::new(grads.dk), SharedSlice::new(grads.dv));
    pool.run(seqs.len() * spec.n_kv_heads, |task| {
        let (seq, kv_head) = (&seqs[task / spec.n_kv_heads], task % spec.n_kv_heads);
        isa.run(Backward { spec, forward, seq, kv_head, dq, dk, dv });
    });
}

struct Backward<'a> {
    spec: &'a AttendSpec<'a>,
    forward: AttendForward<'a>,
    seq: &'a DenseSeq,
    kv_head: usize,
    dq: SharedSlice<'a, f32>,
    dk: SharedSlice<'a, f32>,
    dv: SharedSlice<'a, f32>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut scores = vec![0.0; self.seq.kv_rows.len()];
        for i in 0..self.seq.q_rows.len() {
            for h in 0..self.spec.group() {
                self.row(s, i, self.kv_head * self.spec.group() + h, &mut scores);
            }
        }
    }
}

impl Backward<'_> {
    /// One query's share of all gradients. `scores` is room for one row.
    #[inline(always)]
    fn row<S: Simd>(&self, s: S, i: usize, head: usize, scores: &mut [f32]) {
        let AttendSpec { n_heads, n_kv_heads, d_k, d_v, scale, .. } = *self.spec;
        let AttendForward { q, k, v, out, d_out } = self.forward;
        let token = self.seq.q_rows.start + i;
        let q = &q[(token * n_heads + head) * d_k..][..d_k];
        let (out, d_out) =
            (&out[(token * n_heads + head) * d_v..][..d_v], &d_out[(token * n_heads + head) * d_v..][..d_v]);
        let kv = |j: usize| (self.seq.kv_rows.start + j) * n_kv_heads + self.kv_head;
        let position = self.seq.first_position + i;
        let visible = self.spec.visible.range(position, self.seq.kv_rows.len());
        let scores = &mut scores[visible.clone()];
        let mut max = self.spec.sinks.map_or(f32::NEG_INFINITY, |sinks| sinks[head]);
        for (j, score) in visible.clone().zip(scores.iter_mut()) {
            *score = dot_lanes(s, q, &k[kv(j) * d_k..][..d_k]) * scale;
            if let Some(cap) = self.spec.softcap {
                *score = cap * (*score / cap).tanh();
            }
            // ALiBi is added after the cap; the cap's slope needs the score without it.
            max = max.max(*score + self.alibi(head, position, j));
        }
        let exp = |j: usize, score: f32| (score + self.alibi(head, position, j) - max).exp();
        let sum: f32 = visible.clone().zip(scores.iter()).map(|(j, &score)| exp(j, score)).sum();
        let sum = sum + self.spec.sinks.map_or(0.0, |sinks| (sinks[head] - max).exp());
        let mean = dot_lanes(s, out, d_out);
        // SAFETY: this query belongs to one key head, and this key head of the sequence to this task.
        let dq = unsafe { self.dq.slice((token * n_heads + head) * d_k..(token * n_heads + head + 1) * d_k) };
        for (j, &score) in visible.clone().zip(scores.iter()) {
            let p = exp(j, score) / sum;
            let v_at = kv(j) * d_v..(kv(j) + 1) * d_v;
            let k_at = kv(j) * d_k..(kv(j) + 1) * d_k;
            let mut ds = p * (dot_lanes(s, d_out, &v[v_at.clone()]) - mean) * scale;
            if let Some(cap) = self.spec.softcap {
                ds *= 1.0 - (score / cap).powi(2);
            }
            add_scaled(s, s.splat(ds), &k[k_at.clone()], dq);
            // SAFETY: this key head of the sequence belongs to this task.
            add_scaled(s, s.splat(ds), q, unsafe { self.dk.slice(k_at) });
            // SAFETY: as above.
            add_scaled(s, s.splat(p), d_out, unsafe { self.dv.slice(v_at) });
        }
    }

    fn alibi(&self, head: usize, position: usize, j: usize) -> f32 {
        self.spec.alibi_slopes.map_or(0.0, |slopes| slopes[head] * (j as f32 - position as f32))
    }
}
