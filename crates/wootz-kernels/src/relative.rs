//! Attention whose scores get a learned number for each head and distance, forward and back.
//!
//! Where:  T5's encoder and decoder, by way of the `cpu` device.
//! Idea:   a distance has a bucket, a bucket a number a head. Scores of one query lie in a row, so the soft-max is plain; a task has
//!         one sequence and one head, and what it adds to the buckets is summed over sequences in their order.
//! Source: Raffel et al. 2020, arXiv:1910.10683, §2.1; Shaw et al. 2018, arXiv:1803.02155.
//! Elsewhere: attention without such numbers, in blocks that never hold a row of scores ([`attend`](crate::attend)).

use crate::attention::{AttendForward, AttendGrads, AttendSpec, DenseSeq};
use crate::isa::Kernel;
use crate::pool::SharedSlice;
use crate::rows::{add_scaled, dot_lanes};
use crate::simd::{LANES, Simd, math};
use crate::{Isa, Pool};

/// Numbers that are added to scores.
#[derive(Clone, Copy, Debug)]
pub struct RelativeBias<'a> {
    /// The bucket of each distance `key − query`, from `−zero` on.
    pub buckets: &'a [u32],
    /// Where distance 0 stands in `buckets`.
    pub zero: usize,
    /// `(buckets, H)`
    pub table: &'a [f32],
}

/// Attention of `q` `(T, H·d_k)` over rows of `k` and `v`, with a bias. Caps, ALiBi and sinks are not looked at.
pub fn attend_relative(
    isa: Isa,
    pool: &Pool,
    spec: &AttendSpec<'_>,
    bias: &RelativeBias<'_>,
    [q, k, v]: [&[f32]; 3],
    seqs: &[DenseSeq],
    out: &mut [f32],
) {
    check(spec, bias, [q, k, v], seqs);
    assert_eq!(out.len() / spec.d_v, q.len() / spec.d_k, "attend_relative: length of `out`");
    let out = SharedSlice::new(out);
    pool.run(seqs.len() * spec.n_heads, |task| {
        let (seq, head) = (&seqs[task / spec.n_heads], task % spec.n_heads);
        isa.run(Forward { scores: Scores { spec, bias, q, k, seq, head }, v, out });
    });
}

/// Adds the gradients of [`attend_relative`]; `dtable` `(buckets, H)`.
#[expect(clippy::too_many_arguments, reason = "the machine, the operator and its tensors")]
pub fn attend_relative_grad(
    isa: Isa,
    pool: &Pool,
    spec: &AttendSpec<'_>,
    bias: &RelativeBias<'_>,
    forward: AttendForward<'_>,
    seqs: &[DenseSeq],
    grads: AttendGrads<'_>,
    dtable: &mut [f32],
) {
    let AttendForward { q, k, v, out, d_out } = forward;
    check(spec, bias, [q, k, v], seqs);
    assert_eq!(
        (out.len() / spec.d_v, d_out.len()),
        (q.len() / spec.d_k, out.len()),
        "attend_relative_grad: `out`"
    );
    let lens = (grads.dq.len(), grads.dk.len(), grads.dv.len(), dtable.len());
    assert_eq!(
        lens,
        (q.len(), k.len(), v.len(), bias.table.len()),
        "attend_relative_grad: lengths of gradients"
    );
    let n_buckets = bias.table.len() / spec.n_heads;
    let mut sums = vec![0.0; seqs.len() * bias.table.len()];
    let [dq, dk, dv] = [grads.dq, grads.dk, grads.dv].map(SharedSlice::new);
    let shared = SharedSlice::new(&mut sums);
    // Heads that share keys add to the same rows: one task has them all.
    pool.run(seqs.len() * spec.n_kv_heads, |task| {
        let (index, kv_head) = (task / spec.n_kv_heads, task % spec.n_kv_heads);
        let group = spec.n_heads / spec.n_kv_heads;
        for head in kv_head * group..(kv_head + 1) * group {
            let scores = Scores { spec, bias, q, k, seq: &seqs[index], head };
            let at = (index * spec.n_heads + head) * n_buckets;
            // SAFETY: this sequence's sums of this head belong to this task.
            let sums = unsafe { shared.slice(at..at + n_buckets) };
            isa.run(Backward { scores, forward, dq, dk, dv, sums });
        }
    });
    for sums in sums.chunks_exact(bias.table.len().max(1)) {
        for (head, sums) in sums.chunks_exact(n_buckets).enumerate() {
            sums.iter().enumerate().for_each(|(bucket, sum)| dtable[bucket * spec.n_heads + head] += sum);
        }
    }
}

fn check(spec: &AttendSpec<'_>, bias: &RelativeBias<'_>, [q, k, v]: [&[f32]; 3], seqs: &[DenseSeq]) {
    let AttendSpec { n_heads, n_kv_heads, d_k, d_v, .. } = *spec;
    assert!(
        n_kv_heads > 0 && n_heads.is_multiple_of(n_kv_heads) && d_k > 0 && d_v > 0,
        "attend_relative: heads"
    );
    let (n_q, n_kv) = (q.len() / (n_heads * d_k), k.len() / (n_kv_heads * d_k));
    assert_eq!(q.len(), n_q * n_heads * d_k, "attend_relative: length of `q`");
    assert_eq!(
        (k.len(), v.len()),
        (n_kv * n_kv_heads * d_k, n_kv * n_kv_heads * d_v),
        "attend_relative: `k` and `v`"
    );
    let n_buckets = bias.table.len() / n_heads;
    assert_eq!(
        bias.table.len(),
        n_buckets * n_heads,
        "attend_relative: a number for each of {n_heads} heads"
    );
    assert!(
        bias.buckets.iter().all(|&b| (b as usize) < n_buckets),
        "attend_relative: a bucket is past the table"
    );
    let apart = |ranges: Vec<&std::ops::Range<usize>>, n: usize| {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        ranges.sort_by_key(|range| range.start);
        ranges.windows(2).all(|pair| pair[0].end <= pair[1].start) && ranges.last().is_none_or(|r| r.end <= n)
    };
    assert!(apart(seqs.iter().map(|seq| &seq.q_rows).collect(), n_q), "attend_relative: queries are shared");
    assert!(apart(seqs.iter().map(|seq| &seq.kv_rows).collect(), n_kv), "attend_relative: keys are shared");
    for seq in seqs {
        let (n_queries, n_keys) = (seq.first_position + seq.q_rows.len(), seq.kv_rows.len());
        assert!(n_queries <= bias.zero + 1, "attend_relative: buckets of distances back to {}", bias.zero);
        assert!(bias.zero + n_keys <= bias.buckets.len(), "attend_relative: buckets of distances ahead");
    }
}

/// One sequence and head.
#[derive(Clone, Copy)]
struct Scores<'a> {
    spec: &'a AttendSpec<'a>,
    bias: &'a RelativeBias<'a>,
    q: &'a [f32],
    k: &'a [f32],
    seq: &'a DenseSeq,
    head: usize,
}

impl<'a> Scores<'a> {
    fn kv_head(&self) -> usize {
        self.head / (self.spec.n_heads / self.spec.n_kv_heads)
    }

    /// The place of query `i`'s numbers in `q`.
    fn query(&self, i: usize) -> std::ops::Range<usize> {
        let at = ((self.seq.q_rows.start + i) * self.spec.n_heads + self.head) * self.spec.d_k;
        at..at + self.spec.d_k
    }

    /// The place of key `j`'s numbers in `k`, or of its value's in `v`.
    fn key(&self, j: usize, width: usize) -> std::ops::Range<usize> {
        let at = ((self.seq.kv_rows.start + j) * self.spec.n_kv_heads + self.kv_head()) * width;
        at..at + width
    }

    fn buckets(&self, i: usize, keys: &std::ops::Range<usize>) -> &'a [u32] {
        let first = self.bias.zero + keys.start - (self.seq.first_position + i);
        &self.bias.buckets[first..first + keys.len()]
    }

    /// Writes the probabilities of query `i` over the keys that it sees; which they are.
    #[inline(always)]
    fn probabilities<S: Simd>(&self, s: S, i: usize, row: &mut [f32]) -> std::ops::Range<usize> {
        let keys = self.spec.visible.range(self.seq.first_position + i, self.seq.kv_rows.len());
        let (q, row) = (&self.q[self.query(i)], &mut row[..keys.len()]);
        for ((j, score), &bucket) in keys.clone().zip(row.iter_mut()).zip(self.buckets(i, &keys)) {
            let product = dot_lanes(s, q, &self.k[self.key(j, self.spec.d_k)]);
            *score =
                product * self.spec.scale + self.bias.table[bucket as usize * self.spec.n_heads + self.head];
        }
        let max = s.splat(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let mut sum = s.splat(0.0);
        let (body, tail) = row.as_chunks_mut::<LANES>();
        for score in body {
            let e = math::exp(s, s.sub(s.load(score), max));
            s.store(e, score);
            sum = s.add(sum, e);
        }
        if !tail.is_empty() {
            let e = math::exp(s, s.sub(s.load_part(tail, f32::NEG_INFINITY), max));
            s.store_part(e, tail);
            sum = s.add(sum, e);
        }
        let factor = 1.0 / s.sum(sum);
        row.iter_mut().for_each(|p| *p *= factor);
        keys
    }
}

struct Forward<'a> {
    scores: Scores<'a>,
    v: &'a [f32],
    out: SharedSlice<'a, f32>,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Scores { spec, seq, head, .. } = self.scores;
        let mut row = vec![0.0; seq.kv_rows.len()];
        for i in 0..seq.q_rows.len() {
            let at = ((seq.q_rows.start + i) * spec.n_heads + head) * spec.d_v;
            // SAFETY: this sequence's rows of this head belong to this task.
            let out = unsafe { self.out.slice(at..at + spec.d_v) };
            out.fill(0.0);
            let keys = self.scores.probabilities(s, i, &mut row);
            for (j, p) in keys.zip(&row) {
                add_scaled(s, s.splat(*p), &self.v[self.scores.key(j, spec.d_v)], out);
            }
        }
    }
}

struct Backward<'a> {
    scores: Scores<'a>,
    forward: AttendForward<'a>,
    dq: SharedSlice<'a, f32>,
    dk: SharedSlice<'a, f32>,
    dv: SharedSlice<'a, f32>,
    /// (buckets) of this head.
    sums: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let AttendForward { q, k, v, out, d_out } = self.forward;
        let Scores { spec, seq, head, .. } = self.scores;
        let mut row = vec![0.0; seq.kv_rows.len()];
        for i in 0..seq.q_rows.len() {
            let at = ((seq.q_rows.start + i) * spec.n_heads + head) * spec.d_v;
            let (out, d_out) = (&out[at..at + spec.d_v], &d_out[at..at + spec.d_v]);
            let delta = dot_lanes(s, out, d_out);
            let query = self.scores.query(i);
            // SAFETY: this sequence's queries of this head belong to this task.
            let dq = unsafe { self.dq.slice(query.clone()) };
            let keys = self.scores.probabilities(s, i, &mut row);
            for ((j, &p), &bucket) in keys.clone().zip(&row).zip(self.scores.buckets(i, &keys)) {
                let (of_k, of_v) = (self.scores.key(j, spec.d_k), self.scores.key(j, spec.d_v));
                let d_score = p * (dot_lanes(s, d_out, &v[of_v.clone()]) - delta);
                self.sums[bucket as usize] += d_score;
                let scaled = s.splat(d_score * spec.scale);
                add_scaled(s, scaled, &k[of_k.clone()], dq);
                // SAFETY: this sequence's keys of this key head belong to this task, which has all of its heads.
                add_scaled(s, scaled, &q[query.clone()], unsafe { self.dk.slice(of_k) });
                // SAFETY: as above.
                add_scaled(s, s.splat(p), d_out, unsafe { self.dv.slice(of_v) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Visible;
    use crate::test_rng::{Rng, assert_close};

    #[test]
    fn a_bias_that_is_a_slope_is_alibi_and_gradients_agree() {
        let mut rng = Rng::seeded(99);
        let (n_heads, n_kv_heads, d_k, d_v) = (4, 2, 9, 17);
        let lens = [5, 1, 20];
        let n_rows: usize = lens.iter().sum();
        let [q, k, v] = [n_heads * d_k, n_kv_heads * d_k, n_kv_heads * d_v].map(|w| rng.normals(n_rows * w));
        let d_out = rng.normals(n_rows * n_heads * d_v);
        let slopes = [0.5, 0.25, 0.1, 0.0];
        let (mut seqs, mut start) = (Vec::new(), 0);
        for len in lens {
            seqs.push(DenseSeq {
                q_rows: start..start + len,
                kv_rows: start..start + len,
                first_position: 0,
            });
            start += len;
        }
        // A bucket for each distance from −19 to 19, with what ALiBi adds there.
        let buckets: Vec<u32> = (0..39).collect();
        let table: Vec<f32> = (0..39).flat_map(|b| slopes.map(|slope| slope * (b as f32 - 19.0))).collect();
        let bias = RelativeBias { buckets: &buckets, zero: 19, table: &table };
        let pool = Pool::new(2);
        for visible in [Visible::ALL, Visible::CAUSAL, Visible { back: Some(3), ahead: Some(1) }] {
            let alibi = AttendSpec {
                n_heads,
                n_kv_heads,
                d_k,
                d_v,
                scale: 0.4,
                softcap: None,
                visible,
                alibi_slopes: Some(&slopes),
                sinks: None,
            };
            let plain = AttendSpec { alibi_slopes: None, ..alibi };
            for isa in Isa::all_here() {
                let mut want = vec![0.0; n_rows * n_heads * d_v];
                crate::attend_dense(isa, &pool, &alibi, &q, &k, &v, &seqs, &mut want);
                let mut out = vec![f32::NAN; want.len()];
                attend_relative(isa, &pool, &plain, &bias, [&q, &k, &v], &seqs, &mut out);
                assert_close(&out, &want, 1e-5, 1e-5);
                let forward = AttendForward { q: &q, k: &k, v: &v, out: &out, d_out: &d_out };
                let zeros = || [q.len(), k.len(), v.len()].map(|n| vec![0.0; n]);
                let [mut dq, mut dk, mut dv] = zeros();
                let grads = AttendGrads { dq: &mut dq, dk: &mut dk, dv: &mut dv };
                crate::attend_dense_backward(isa, &pool, &alibi, forward, &seqs, grads);
                let run = |threads| {
                    let ([mut dq, mut dk, mut dv], mut dtable) = (zeros(), vec![0.0; table.len()]);
                    let grads = AttendGrads { dq: &mut dq, dk: &mut dk, dv: &mut dv };
                    let pool = Pool::new(threads);
                    attend_relative_grad(isa, &pool, &plain, &bias, forward, &seqs, grads, &mut dtable);
                    [dq, dk, dv, dtable]
                };
                let got = run(1);
                [dq, dk, dv].iter().zip(&got).for_each(|(want, got)| assert_close(got, want, 2e-5, 1e-5));
                assert_eq!(got, run(3));
                // What moves a bucket's number moves the scores that have it.
                let loss = |table: &[f32]| {
                    let mut out = vec![0.0; want.len()];
                    let bias = RelativeBias { table, ..bias };
                    attend_relative(isa, &pool, &plain, &bias, [&q, &k, &v], &seqs, &mut out);
                    out.iter().zip(&d_out).map(|(y, d)| f64::from(y * d)).sum::<f64>()
                };
                for at in [0, 60, 76, 77, 80, 90] {
                    let moved = |by: f32| {
                        let mut table = table.clone();
                        table[at] += by;
                        loss(&table)
                    };
                    let slope = (moved(1.0 / 64.0) - moved(-1.0 / 64.0)) * 32.0;
                    assert!(
                        (slope - f64::from(got[3][at])).abs() < 3e-3,
                        "{at}: {slope}, got {}",
                        got[3][at]
                    );
                }
            }
        }
    }
}
