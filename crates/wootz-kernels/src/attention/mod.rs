//! Attention of ragged queries over cached or given keys and values.
//!
//! Where:  every attention layer, by way of the `cpu` device.
//! Idea:   scores of a block of keys live only until they have weighed the block's values (online soft-max). Query heads that share
//!         a key head, and neighbouring tokens, go through a block together, so the cache is read once for all of them.
//! Source: Dao et al. 2022, FlashAttention, arXiv:2205.14135; Milakov & Gimelshein 2018, arXiv:1805.02867 (online soft-max);
//!         Ainslie et al. 2023, arXiv:2305.13245 (grouped queries).
//! Elsewhere: the cache ([`KvStore`]).
//!
//! # Invariants
//! - A query's sums run over blocks at absolute positions, in order, and are merged at every 1,024 positions. Nothing else decides
//!   their order: neither chunks of queries, nor other sequences, nor threads.

mod body;
mod grad;

pub use grad::{AttendForward, AttendGrads, attend_dense_backward};

use std::ops::Range;

use body::{Body, Gather, Goal, Task};

use crate::cast::cast_mut;
use crate::kv_store::{KvStore, Slot, Values};
use crate::packed::{Bf16Pairs, F16Pairs, F32Pairs};
use crate::pool::SharedSlice;
use crate::simd::max_tile_width;
use crate::{Isa, Pool, TensorType};

/// Which keys a query sees: key `j` is visible to query `i` iff `i − j ≤ back` and `j − i ≤ ahead`, where given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Visible {
    /// Positions before the query. A sliding window of `w` has `w − 1` of them.
    pub back: Option<usize>,
    /// Positions after the query; 0 is causal.
    pub ahead: Option<usize>,
}

impl Visible {
    /// Every key.
    pub const ALL: Self = Visible { back: None, ahead: None };
    /// Keys up to the query's own.
    pub const CAUSAL: Self = Visible { back: None, ahead: Some(0) };

    /// Visible positions of a query at `position` among `kv_len`.
    pub(crate) fn range(self, position: usize, kv_len: usize) -> Range<usize> {
        let end = self.ahead.map_or(kv_len, |ahead| (position + ahead + 1).min(kv_len));
        let start = self.back.map_or(0, |back| position.saturating_sub(back));
        start.min(end)..end
    }
}

/// What an attention layer computes.
#[derive(Clone, Copy, Debug)]
pub struct AttendSpec<'a> {
    /// `H`
    pub n_heads: usize,
    /// `K`, which divides `H`; query head `h` uses key head `h / (H / K)`.
    pub n_kv_heads: usize,
    /// Width of queries and keys.
    pub d_k: usize,
    /// Width of values.
    pub d_v: usize,
    /// Scores are multiplied by it.
    pub scale: f32,
    /// Scores become `c·tanh(score / c)`.
    pub softcap: Option<f32>,
    /// Which keys a query sees.
    pub visible: Visible,
    /// `(H)`: `slope·(j − i)` is added to scores (ALiBi).
    pub alibi_slopes: Option<&'a [f32]>,
    /// `(H)`: the score of a key without a value, which takes part in the soft-max alone.
    pub sinks: Option<&'a [f32]>,
}

/// One sequence's part of a flat batch, over a cache.
#[derive(Clone, Debug)]
pub struct AttendSeq<'a> {
    /// Its rows of `q` and `out`.
    pub q_rows: Range<usize>,
    /// Position of its first query.
    pub first_position: usize,
    /// Positions in the cache.
    pub kv_len: usize,
    /// Blocks that hold them, in order.
    pub block_table: &'a [u32],
}

/// One sequence's part of flat batches of queries and of keys.
#[derive(Clone, Debug)]
pub struct DenseSeq {
    /// Its rows of `q` and `out`.
    pub q_rows: Range<usize>,
    /// Its rows of `k` and `v`; the first is position 0.
    pub kv_rows: Range<usize>,
    /// Position of its first query.
    pub first_position: usize,
}

/// Attention of `q` `(T, H·d_k)` over a cache, to `out` `(T, H·d_v)`.
///
/// A query that sees no key gives zeros. Rows of `out` that belong to no sequence are left alone.
pub fn attend(
    isa: Isa,
    pool: &Pool,
    spec: &AttendSpec<'_>,
    q: &[f32],
    seqs: &[AttendSeq<'_>],
    store: &KvStore,
    out: &mut [f32],
) {
    spec.check();
    assert_eq!(store.dims(), (spec.n_kv_heads, spec.d_k, spec.d_v), "attend: shape of the cache");
    let n_rows = q.len() / (spec.n_heads * spec.d_k);
    assert_eq!(
        q.len(),
        n_rows * spec.n_heads * spec.d_k,
        "attend: `q` has rows of {}",
        spec.n_heads * spec.d_k
    );
    assert_eq!(
        out.len(),
        n_rows * spec.n_heads * spec.d_v,
        "attend: `out` is ({n_rows}, {})",
        spec.n_heads * spec.d_v
    );
    check_apart(seqs.iter().map(|seq| &seq.q_rows), n_rows);
    for seq in seqs {
        let blocks = seq.kv_len.div_ceil(store.block_len());
        assert!(
            blocks <= seq.block_table.len(),
            "attend: {} positions in {} blocks",
            seq.kv_len,
            seq.block_table.len()
        );
        let exists = |&block: &u32| (block as usize) < store.n_blocks();
        assert!(seq.block_table[..blocks].iter().all(exists), "attend: a block is past the cache");
    }
    run_parts(isa, pool, &Call { spec, q, seqs, store, out: SharedSlice::new(out) });
}

/// The arguments of [`attend`], checked.
struct Call<'a> {
    spec: &'a AttendSpec<'a>,
    q: &'a [f32],
    seqs: &'a [AttendSeq<'a>],
    store: &'a KvStore,
    out: SharedSlice<'a, f32>,
}

impl Call<'_> {
    fn task<'t>(&'t self, part: &Part, goal: Goal<'t>) -> Task<'t> {
        let Call { spec, q, seqs, store, out } = *self;
        let (kv_head, rows) = (part.kv_head, part.rows.clone());
        Task { spec, q, out, store, seq: &seqs[part.seq], kv_head, rows, goal }
    }
}

fn run_parts(isa: Isa, pool: &Pool, call: &Call<'_>) {
    let parts = parts(isa, call.spec, call.seqs);
    // Few parts with a long past are cut again. The sums are the same, so this may depend on the threads.
    let can_cut = parts.len() < 8 * pool.threads() && pool.threads() > 1;
    let (mut jobs, mut cuts, mut n_sums) = (Vec::new(), Vec::new(), 0);
    for part in &parts {
        let whole = call.task(part, Goal::Rows);
        let spans = whole.spans();
        if !can_cut || spans.len() < 2 {
            jobs.push((part, None));
            continue;
        }
        let len = part.rows.len() * whole.sums_len();
        cuts.push((part, n_sums..n_sums + spans.len() * len));
        jobs.extend(spans.clone().map(|span| (part, Some((span, n_sums + (span - spans.start) * len, len)))));
        n_sums += spans.len() * len;
    }
    pool.with_scratch(n_sums * 4, |bytes| {
        let sums = cast_mut::<f32>(bytes).expect("scratch space is aligned");
        let shared = SharedSlice::new(sums);
        pool.run(jobs.len(), |i| match jobs[i] {
            (part, None) => run(isa, call.task(part, Goal::Rows)),
            (part, Some((span, start, len))) => {
                // SAFETY: each job has its own part of the sums.
                let out = SharedSlice::new(unsafe { shared.slice(start..start + len) });
                run(isa, call.task(part, Goal::Sums { span, out }));
            }
        });
        let sums = &*sums;
        pool.run(cuts.len(), |i| {
            let (part, range) = &cuts[i];
            isa.run(Gather { task: call.task(part, Goal::Rows), spans: &sums[range.clone()] });
        });
    });
}

fn run(isa: Isa, task: Task<'_>) {
    match task.store.dtype() {
        TensorType::F16 => isa.run(Body::<F16Pairs>::new(task)),
        TensorType::BF16 => isa.run(Body::<Bf16Pairs>::new(task)),
        _ => isa.run(Body::<F32Pairs>::new(task)),
    }
}

/// Attention of `q` `(T, H·d_k)` over rows of `k` `(S, K·d_k)` and `v` `(S, K·d_v)`, to `out` `(T, H·d_v)`.
///
/// The same sums as [`attend`] over an f32 cache with blocks of 64.
#[expect(clippy::too_many_arguments, reason = "the machine, the operator and its four tensors")]
pub fn attend_dense(
    isa: Isa,
    pool: &Pool,
    spec: &AttendSpec<'_>,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    seqs: &[DenseSeq],
    out: &mut [f32],
) {
    const BLOCK_LEN: usize = 64;
    let blocks_of = |seq: &DenseSeq| seq.kv_rows.len().div_ceil(BLOCK_LEN);
    let n_blocks = seqs.iter().map(blocks_of).sum();
    let dims = (spec.d_k, spec.d_v);
    let mut store = KvStore::new(TensorType::F32, n_blocks, BLOCK_LEN, spec.n_kv_heads, dims, Values::Stored);
    let table: Vec<u32> = (0..n_blocks as u32).collect();
    let mut paged = Vec::with_capacity(seqs.len());
    let mut first_block = 0;
    for seq in seqs {
        let slots: Vec<Slot> = (0..seq.kv_rows.len())
            .map(|j| Slot { block: (first_block + j / BLOCK_LEN) as u32, offset: (j % BLOCK_LEN) as u32 })
            .collect();
        let (k_len, v_len) = (spec.n_kv_heads * spec.d_k, spec.n_kv_heads * spec.d_v);
        let (k_rows, v_rows) = (
            &k[seq.kv_rows.start * k_len..seq.kv_rows.end * k_len],
            &v[seq.kv_rows.start * v_len..seq.kv_rows.end * v_len],
        );
        store.append(isa, pool, k_rows, v_rows, &slots);
        paged.push(AttendSeq {
            q_rows: seq.q_rows.clone(),
            first_position: seq.first_position,
            kv_len: seq.kv_rows.len(),
            block_table: &table[first_block..first_block + blocks_of(seq)],
        });
        first_block += blocks_of(seq);
    }
    attend(isa, pool, spec, q, &paged, &store, out);
}

impl AttendSpec<'_> {
    /// Query heads for each key head.
    pub(crate) fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    fn check(&self) {
        let AttendSpec { n_heads, n_kv_heads, d_k, d_v, .. } = *self;
        assert!(
            n_kv_heads > 0 && n_heads.is_multiple_of(n_kv_heads),
            "attend: {n_heads} heads over {n_kv_heads}"
        );
        assert!(n_heads > 0 && d_k > 0 && d_v > 0, "attend: heads of {d_k} and {d_v}");
        for (name, per_head) in [("alibi_slopes", self.alibi_slopes), ("sinks", self.sinks)] {
            assert!(
                per_head.is_none_or(|x| x.len() == n_heads),
                "attend: {name} for each of {n_heads} heads"
            );
        }
    }
}

/// Sequences write their own rows, in parallel.
fn check_apart<'a>(ranges: impl Iterator<Item = &'a Range<usize>>, n_rows: usize) {
    let mut ranges: Vec<&Range<usize>> = ranges.filter(|range| !range.is_empty()).collect();
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "attend: sequences share rows");
    assert!(ranges.last().is_none_or(|range| range.end <= n_rows), "attend: rows past the batch");
}

/// Some rows, (token, head of the group) pairs, of one sequence and key head.
struct Part {
    seq: usize,
    kv_head: usize,
    rows: Range<usize>,
}

fn parts(isa: Isa, spec: &AttendSpec<'_>, seqs: &[AttendSeq<'_>]) -> Vec<Part> {
    let step = max_tile_width(isa.is_wide()) * 8;
    let mut parts = Vec::new();
    for (seq, AttendSeq { q_rows, .. }) in seqs.iter().enumerate() {
        let n_rows = q_rows.len() * spec.group();
        for first in (0..n_rows).step_by(step) {
            for kv_head in 0..spec.n_kv_heads {
                parts.push(Part { seq, kv_head, rows: first..(first + step).min(n_rows) });
            }
        }
    }
    // Later queries see more keys: begin with the long parts.
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests;
