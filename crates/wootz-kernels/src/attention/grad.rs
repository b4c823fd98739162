//! Gradients of attention over given keys and values, from recomputed scores.
//!
//! Where:  the backward pass of attention, for training.
//! Idea:   the forward pass keeps nothing but its output. Blocks of rows find their soft-max sums again and give the gradient of
//!         queries, lanes being rows; then blocks of keys give theirs, lanes being keys. Scores are computed three times, but every
//!         sum belongs to one task, which adds in one order.
//! Source: Dao et al. 2022, FlashAttention, arXiv:2205.14135, algorithm 4; Dao 2023, arXiv:2307.08691, §3.2 (tasks over keys).
//!
//! # Invariants
//! - No sum depends on the number of threads or on other sequences.

use std::ops::Range;

use super::{AttendSpec, DenseSeq, check_apart};
use crate::cast::cast_mut;
use crate::isa::Kernel;
use crate::pool::SharedSlice;
use crate::rows::dot_lanes;
use crate::simd::{LANES, Simd, math};
use crate::{Isa, Pool};

/// Rows, (token, query head) pairs of one key head, of a block.
const ROWS: usize = 32;
/// Keys of a block.
const KEYS: usize = 64;

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
    pool.with_scratch(2 * n_q * spec.n_heads * 4, |bytes| {
        let stats = cast_mut::<f32>(bytes).expect("scratch space is aligned").as_chunks_mut::<2>().0;
        let call = Call { spec, forward, seqs, dq, dk, dv };
        let shared = SharedSlice::new(&mut *stats);
        let tasks = call.tasks(|seq| seq.q_rows.len() * spec.group(), ROWS);
        // Later rows see more keys: begin with them.
        pool.run(tasks.len(), |i| isa.run(OfQueries(call.side(&tasks[tasks.len() - 1 - i]), shared)));
        let tasks = call.tasks(|seq| seq.kv_rows.len(), KEYS);
        let stats = &*stats;
        pool.run(tasks.len(), |i| isa.run(OfKeys(call.side(&tasks[i]), stats)));
    });
}

/// The arguments of [`attend_dense_backward`], checked.
#[derive(Clone, Copy)]
struct Call<'a> {
    spec: &'a AttendSpec<'a>,
    forward: AttendForward<'a>,
    seqs: &'a [DenseSeq],
    dq: SharedSlice<'a, f32>,
    dk: SharedSlice<'a, f32>,
    dv: SharedSlice<'a, f32>,
}

/// Of a row: the logarithm of its soft-max sum, and `out·d_out`.
type Stats = [f32; 2];

/// One block of rows or of keys, of one sequence and key head.
struct Task {
    seq: usize,
    kv_head: usize,
    block: Range<usize>,
}

impl<'a> Call<'a> {
    fn tasks(&self, len: impl Fn(&DenseSeq) -> usize, step: usize) -> Vec<Task> {
        let mut tasks = Vec::new();
        let longest = self.seqs.iter().map(&len).max().unwrap_or(0);
        for first in (0..longest).step_by(step) {
            for (seq, its) in self.seqs.iter().enumerate().filter(|(_, seq)| first < len(seq)) {
                for kv_head in 0..self.spec.n_kv_heads {
                    tasks.push(Task { seq, kv_head, block: first..(first + step).min(len(its)) });
                }
            }
        }
        tasks
    }

    fn side(&self, task: &Task) -> Side<'a> {
        Side { call: *self, seq: &self.seqs[task.seq], kv_head: task.kv_head, block: task.block.clone() }
    }
}

/// What a task sees.
struct Side<'a> {
    call: Call<'a>,
    seq: &'a DenseSeq,
    kv_head: usize,
    block: Range<usize>,
}

/// A row's part in the soft-max.
#[derive(Clone, Copy)]
struct Row {
    start: f32,
    end: f32,
    /// ALiBi's slope, and position.
    slope: f32,
    position: f32,
    log_sum: f32,
    mean: f32,
}

impl Row {
    /// One that sees no key.
    const BLIND: Self = Row { start: 0.0, end: 0.0, slope: 0.0, position: 0.0, log_sum: 0.0, mean: 0.0 };
}

impl Side<'_> {
    /// Token of the batch and query head of a row.
    fn place(&self, row: usize) -> (usize, usize) {
        let group = self.call.spec.group();
        (self.seq.q_rows.start + row / group, self.kv_head * group + row % group)
    }

    fn visible(&self, row: usize) -> Range<usize> {
        let position = self.seq.first_position + row / self.call.spec.group();
        self.call.spec.visible.range(position, self.seq.kv_rows.len())
    }

    /// Where a row's numbers of a head begin in queries or outputs, and where a key's do.
    fn of_row(&self, row: usize, width: usize) -> Range<usize> {
        let (token, head) = self.place(row);
        let start = (token * self.call.spec.n_heads + head) * width;
        start..start + width
    }

    fn of_key(&self, key: usize, width: usize) -> Range<usize> {
        let start = ((self.seq.kv_rows.start + key) * self.call.spec.n_kv_heads + self.kv_head) * width;
        start..start + width
    }

    fn row(&self, row: usize, [log_sum, mean]: Stats) -> Row {
        let (visible, (_, head)) = (self.visible(row), self.place(row));
        Row {
            start: visible.start as f32,
            end: visible.end as f32,
            slope: self.call.spec.alibi_slopes.map_or(0.0, |slopes| slopes[head]),
            position: (self.seq.first_position + row / self.call.spec.group()) as f32,
            log_sum,
            mean,
        }
    }
}

/// Rows of a block, filled up with zeros to whole vectors and whole blocks.
fn copy_rows(
    n: usize,
    width: usize,
    out: &mut Vec<f32>,
    rows: usize,
    row: impl Fn(usize) -> Range<usize>,
    x: &[f32],
) {
    let padded = width.next_multiple_of(LANES);
    out.clear();
    for i in 0..n {
        out.extend_from_slice(&x[row(i)]);
        out.resize((i + 1) * padded, 0.0);
    }
    out.resize(rows * padded, 0.0);
}

/// Columns for rows: `(rows, width)` to `(width, rows)`.
fn turn(x: &[f32], rows: usize, out: &mut Vec<f32>) {
    let width = x.len() / rows;
    out.resize(x.len(), 0.0);
    for (i, row) in x.chunks_exact(width).enumerate() {
        for (x, out) in row.iter().zip(out[i..].iter_mut().step_by(rows)) {
            *out = *x;
        }
    }
}

/// The gradient of a block of queries. Lanes are rows.
struct OfQueries<'a>(Side<'a>, SharedSlice<'a, Stats>);

impl Kernel for OfQueries<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let side = &self.0;
        let Call { spec, forward, .. } = side.call;
        let (n, first) = (side.block.len(), side.block.start);
        let row = |width: usize| move |i: usize| side.of_row(first + i, width);
        let [mut q, mut d_out, mut turned_q, mut turned_d, mut k, mut v] = [const { Vec::new() }; 6];
        copy_rows(n, spec.d_k, &mut q, ROWS, row(spec.d_k), forward.q);
        copy_rows(n, spec.d_v, &mut d_out, ROWS, row(spec.d_v), forward.d_out);
        turn(&q, ROWS, &mut turned_q);
        turn(&d_out, ROWS, &mut turned_d);
        // Lanes past the rows see no key.
        let mut rows = [Row::BLIND; ROWS];
        let mut max = [f32::NEG_INFINITY; ROWS];
        for (i, at) in side.block.clone().enumerate() {
            let of_row = side.of_row(at, spec.d_v);
            let mean = dot_lanes(s, &forward.out[of_row.clone()], &forward.d_out[of_row]);
            rows[i] = side.row(at, [0.0, mean]);
            max[i] = spec.sinks.map_or(f32::NEG_INFINITY, |sinks| sinks[side.place(at).1]);
        }
        let mut sum = max.map(|max| if max > f32::NEG_INFINITY { 1.0 } else { 0.0 });
        let seen = side.visible(first).start..side.visible(side.block.end - 1).end;
        let blocks = seen.start / KEYS..seen.end.div_ceil(KEYS);
        let keys_of = |block: usize| block * KEYS..((block + 1) * KEYS).min(side.seq.kv_rows.len());
        let mut scores = [[0.0; ROWS]; KEYS];
        for block in blocks.clone() {
            let keys = keys_of(block);
            copy_rows(
                keys.len(),
                spec.d_k,
                &mut k,
                KEYS,
                |i| side.of_key(keys.start + i, spec.d_k),
                forward.k,
            );
            s.call(Dots { a: &k, b: &turned_q, out: scores.as_flattened_mut(), lanes: ROWS });
            s.call(Sums {
                spec,
                rows: &rows,
                keys: keys.clone(),
                scores: &mut scores,
                max: &mut max,
                sum: &mut sum,
            });
        }
        for i in 0..n {
            rows[i].log_sum = if sum[i] > 0.0 || sum[i].is_nan() { max[i] + sum[i].ln() } else { 0.0 };
            let (token, head) = side.place(first + i);
            let at = token * spec.n_heads + head;
            // SAFETY: a row belongs to one task.
            unsafe { self.1.slice(at..at + 1)[0] = [rows[i].log_sum, rows[i].mean] };
        }
        let padded = spec.d_k.next_multiple_of(LANES);
        let mut dq = vec![0.0; ROWS * padded];
        let mut weights = [[0.0; ROWS]; KEYS];
        for block in blocks {
            let keys = keys_of(block);
            copy_rows(
                keys.len(),
                spec.d_k,
                &mut k,
                KEYS,
                |i| side.of_key(keys.start + i, spec.d_k),
                forward.k,
            );
            copy_rows(
                keys.len(),
                spec.d_v,
                &mut v,
                KEYS,
                |i| side.of_key(keys.start + i, spec.d_v),
                forward.v,
            );
            s.call(Dots { a: &k, b: &turned_q, out: scores.as_flattened_mut(), lanes: ROWS });
            s.call(Dots { a: &v, b: &turned_d, out: weights.as_flattened_mut(), lanes: ROWS });
            s.call(SlopesOfRows { spec, rows: &rows, keys, scores: &mut scores, slopes: &mut weights });
            s.call(Outer { a: weights.as_flattened(), n: KEYS, b: &k, out: &mut dq, width: padded });
        }
        for (i, dq) in dq.chunks_exact(padded).take(n).enumerate() {
            // SAFETY: a row belongs to one task.
            let out = unsafe { side.call.dq.slice(side.of_row(first + i, spec.d_k)) };
            out.iter_mut().zip(dq).for_each(|(o, d)| *o += d);
        }
    }
}

/// The gradients of a block of keys and values. Lanes are keys.
struct OfKeys<'a>(Side<'a>, &'a [Stats]);

impl Kernel for OfKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let side = &self.0;
        let Call { spec, forward, .. } = side.call;
        let (keys, group) = (side.block.clone(), spec.group());
        let [mut k, mut v, mut turned_k, mut turned_v, mut q, mut d_out] = [const { Vec::new() }; 6];
        copy_rows(keys.len(), spec.d_k, &mut k, KEYS, |i| side.of_key(keys.start + i, spec.d_k), forward.k);
        copy_rows(keys.len(), spec.d_v, &mut v, KEYS, |i| side.of_key(keys.start + i, spec.d_v), forward.v);
        turn(&k, KEYS, &mut turned_k);
        turn(&v, KEYS, &mut turned_v);
        let (padded_k, padded_v) = (spec.d_k.next_multiple_of(LANES), spec.d_v.next_multiple_of(LANES));
        let (mut dk, mut dv) = (vec![0.0; KEYS * padded_k], vec![0.0; KEYS * padded_v]);
        let (mut scores, mut slopes) = ([[0.0; KEYS]; ROWS], [[0.0; KEYS]; ROWS]);
        let n_rows = side.seq.q_rows.len() * group;
        for first in (0..n_rows).step_by(ROWS) {
            let block = first..(first + ROWS).min(n_rows);
            let seen = side.visible(block.start).start..side.visible(block.end - 1).end;
            if seen.end <= keys.start || seen.start >= keys.end {
                continue;
            }
            let mut rows = [Row::BLIND; ROWS];
            for (row, at) in rows.iter_mut().zip(block.clone()) {
                let (token, head) = side.place(at);
                *row = side.row(at, self.1[token * spec.n_heads + head]);
            }
            copy_rows(block.len(), spec.d_k, &mut q, ROWS, |i| side.of_row(first + i, spec.d_k), forward.q);
            copy_rows(
                block.len(),
                spec.d_v,
                &mut d_out,
                ROWS,
                |i| side.of_row(first + i, spec.d_v),
                forward.d_out,
            );
            s.call(Dots { a: &q, b: &turned_k, out: scores.as_flattened_mut(), lanes: KEYS });
            s.call(Dots { a: &d_out, b: &turned_v, out: slopes.as_flattened_mut(), lanes: KEYS });
            s.call(SlopesOfKeys {
                spec,
                rows: &rows,
                keys: keys.clone(),
                scores: &mut scores,
                slopes: &mut slopes,
            });
            s.call(Outer { a: scores.as_flattened(), n: ROWS, b: &d_out, out: &mut dv, width: padded_v });
            s.call(Outer { a: slopes.as_flattened(), n: ROWS, b: &q, out: &mut dk, width: padded_k });
        }
        for (i, key) in keys.enumerate() {
            // SAFETY: a key belongs to one task.
            let out = unsafe { side.call.dk.slice(side.of_key(key, spec.d_k)) };
            out.iter_mut().zip(&dk[i * padded_k..]).for_each(|(o, d)| *o += d);
            // SAFETY: as above.
            let out = unsafe { side.call.dv.slice(side.of_key(key, spec.d_v)) };
            out.iter_mut().zip(&dv[i * padded_v..]).for_each(|(o, d)| *o += d);
        }
    }
}

/// `out[i][lane] = Σ_d a[i][d]·b[d][lane]`
struct Dots<'a> {
    a: &'a [f32],
    b: &'a [f32],
    out: &'a mut [f32],
    lanes: usize,
}

impl Kernel for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.b.len() / self.lanes;
        let n = self.out.len() / self.lanes;
        for panel in (0..self.lanes / LANES).step_by(2) {
            match S::WIDE {
                true => (0..n).step_by(8).for_each(|i| {
                    dots::<S, 8, 2>(
                        s,
                        &self.a[i * width..],
                        &self.b[panel * LANES..],
                        &mut self.out[i * self.lanes + panel * LANES..],
                        width,
                        self.lanes,
                    )
                }),
                false => (0..n).step_by(4).for_each(|i| {
                    (panel..panel + 2).for_each(|panel| {
                        dots::<S, 4, 1>(
                            s,
                            &self.a[i * width..],
                            &self.b[panel * LANES..],
                            &mut self.out[i * self.lanes + panel * LANES..],
                            width,
                            self.lanes,
                        )
                    })
                }),
            }
        }
    }
}

#[inline(always)]
fn dots<S: Simd, const M: usize, const P: usize>(
    s: S,
    a: &[f32],
    b: &[f32],
    out: &mut [f32],
    width: usize,
    lanes: usize,
) {
    let rows: [&[f32]; M] = std::array::from_fn(|t| &a[t * width..(t + 1) * width]);
    let mut acc = [[s.splat(0.0); P]; M];
    for (i, b) in b.chunks(lanes).take(width).enumerate() {
        let (panels, _) = b.as_chunks::<LANES>();
        let mut w = [s.splat(0.0); P];
        for p in 0..P {
            w[p] = s.load(&panels[p]);
        }
        for t in 0..M {
            let x = s.splat(rows[t][i]);
            for p in 0..P {
                acc[t][p] = s.mul_add(x, w[p], acc[t][p]);
            }
        }
    }
    for t in 0..M {
        let (panels, _) = out[t * lanes..][..P * LANES].as_chunks_mut::<LANES>();
        for p in 0..P {
            s.store(acc[t][p], &mut panels[p]);
        }
    }
}

/// `out[i] += Σⱼ a[j][i]·b[j]`, `n` of them, over rows of `width`.
struct Outer<'a> {
    a: &'a [f32],
    n: usize,
    b: &'a [f32],
    out: &'a mut [f32],
    width: usize,
}

impl Kernel for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Outer { a, n, b, out, width } = self;
        let n_out = a.len() / n;
        let mut first = 0;
        while first < width {
            let at = |i: usize| i * width + first;
            let pair = first + 2 * LANES <= width;
            match (S::WIDE, pair) {
                (true, true) => (0..n_out).step_by(8).for_each(|i| {
                    outer::<S, 8, 2>(s, &a[i..], &b[first..], &mut out[at(i)..], [n, n_out, width])
                }),
                (true, false) => (0..n_out).step_by(8).for_each(|i| {
                    outer::<S, 8, 1>(s, &a[i..], &b[first..], &mut out[at(i)..], [n, n_out, width])
                }),
                _ => (0..n_out).step_by(4).for_each(|i| {
                    outer::<S, 4, 1>(s, &a[i..], &b[first..], &mut out[at(i)..], [n, n_out, width])
                }),
            }
            first += if S::WIDE && pair { 2 * LANES } else { LANES };
        }
    }
}

#[inline(always)]
fn outer<S: Simd, const M: usize, const P: usize>(
    s: S,
    a: &[f32],
    b: &[f32],
    out: &mut [f32],
    [n, n_out, width]: [usize; 3],
) {
    let mut acc = [[s.splat(0.0); P]; M];
    for t in 0..M {
        let (panels, _) = out[t * width..][..P * LANES].as_chunks::<LANES>();
        for p in 0..P {
            acc[t][p] = s.load(&panels[p]);
        }
    }
    for (a, b) in a.chunks(n_out).zip(b.chunks(width)).take(n) {
        let x: &[f32; M] = a.first_chunk().expect("a tile of the block");
        let (panels, _) = b.as_chunks::<LANES>();
        let mut w = [s.splat(0.0); P];
        for p in 0..P {
            w[p] = s.load(&panels[p]);
        }
        for t in 0..M {
            let x = s.splat(x[t]);
            for p in 0..P {
                acc[t][p] = s.mul_add(x, w[p], acc[t][p]);
            }
        }
    }
    for t in 0..M {
        let (panels, _) = out[t * width..][..P * LANES].as_chunks_mut::<LANES>();
        for p in 0..P {
            s.store(acc[t][p], &mut panels[p]);
        }
    }
}

/// A score from a product: scaled, capped, then with its distance and mask. Also what the cap left of it.
#[inline(always)]
fn score<S: Simd>(
    s: S,
    spec: &AttendSpec<'_>,
    product: S::F,
    [key, start, end, slope, position]: [S::F; 5],
) -> [S::F; 2] {
    let mut capped = s.mul(product, s.splat(spec.scale));
    if let Some(cap) = spec.softcap {
        capped = s.mul(s.splat(cap), math::tanh(s, s.mul(capped, s.splat(1.0 / cap))));
    }
    let low = s.splat(f32::NEG_INFINITY);
    let mut score = capped;
    if spec.alibi_slopes.is_some() {
        score = s.mul_add(slope, s.sub(key, position), score);
    }
    [s.select_lt(key, start, low, s.select_lt(key, end, score, low)), capped]
}

/// A score's gradient from its weight and its weight's gradient.
#[inline(always)]
fn slope<S: Simd>(
    s: S,
    spec: &AttendSpec<'_>,
    weight: S::F,
    d_weight: S::F,
    mean: S::F,
    capped: S::F,
) -> S::F {
    let slope = s.mul(s.mul(weight, s.sub(d_weight, mean)), s.splat(spec.scale));
    match spec.softcap {
        Some(cap) => {
            let t = s.mul(capped, s.splat(1.0 / cap));
            s.mul(slope, s.sub(s.splat(1.0), s.mul(t, t)))
        }
        None => slope,
    }
}

/// One number of sixteen rows.
#[inline(always)]
fn lanes<S: Simd>(s: S, rows: &[Row; ROWS], panel: usize, number: impl Fn(&Row) -> f32) -> S::F {
    let mut x = [0.0; LANES];
    for (x, row) in x.iter_mut().zip(&rows[panel * LANES..]) {
        *x = number(row);
    }
    s.load(&x)
}

/// Brings greatest scores and soft-max sums of the rows up to date.
struct Sums<'a> {
    spec: &'a AttendSpec<'a>,
    rows: &'a [Row; ROWS],
    keys: Range<usize>,
    scores: &'a mut [[f32; ROWS]; KEYS],
    max: &'a mut [f32; ROWS],
    sum: &'a mut [f32; ROWS],
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Sums { spec, rows, keys, scores, max, sum } = self;
        for panel in 0..ROWS / LANES {
            let [start, end] = [lanes(s, rows, panel, |row| row.start), lanes(s, rows, panel, |row| row.end)];
            let [of_alibi, position] =
                [lanes(s, rows, panel, |row| row.slope), lanes(s, rows, panel, |row| row.position)];
            let before = s.load(&max.as_chunks::<LANES>().0[panel]);
            let mut greatest = before;
            for (key, row) in keys.clone().zip(scores.iter_mut()) {
                let place = &mut row.as_chunks_mut::<LANES>().0[panel];
                let [score, _] =
                    score(s, spec, s.load(place), [s.splat(key as f32), start, end, of_alibi, position]);
                // The score stands second, so that a NaN shows in the result instead of vanishing.
                greatest = s.max(greatest, score);
                s.store(score, place);
            }
            let base = s.select_lt(greatest, s.splat(f32::MIN), s.splat(0.0), greatest);
            let old = &mut sum.as_chunks_mut::<LANES>().0[panel];
            let mut total = s.mul(s.load(old), math::exp(s, s.sub(before, base)));
            for row in scores[..keys.len()].iter() {
                total = s.add(total, math::exp(s, s.sub(s.load(&row.as_chunks::<LANES>().0[panel]), base)));
            }
            s.store(total, old);
            s.store(greatest, &mut max.as_chunks_mut::<LANES>().0[panel]);
        }
    }
}

/// Turns weights' gradients into scores' gradients, lanes being rows. Keys that are not there give zeros.
struct SlopesOfRows<'a> {
    spec: &'a AttendSpec<'a>,
    rows: &'a [Row; ROWS],
    keys: Range<usize>,
    scores: &'a mut [[f32; ROWS]; KEYS],
    slopes: &'a mut [[f32; ROWS]; KEYS],
}

impl Kernel for SlopesOfRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SlopesOfRows { spec, rows, keys, scores, slopes } = self;
        for panel in 0..ROWS / LANES {
            let [start, end] = [lanes(s, rows, panel, |row| row.start), lanes(s, rows, panel, |row| row.end)];
            let [of_alibi, position] =
                [lanes(s, rows, panel, |row| row.slope), lanes(s, rows, panel, |row| row.position)];
            let [log_sum, mean] =
                [lanes(s, rows, panel, |row| row.log_sum), lanes(s, rows, panel, |row| row.mean)];
            for (i, (scores, slopes)) in scores.iter().zip(slopes.iter_mut()).enumerate() {
                let place = &mut slopes.as_chunks_mut::<LANES>().0[panel];
                if i >= keys.len() {
                    *place = [0.0; LANES];
                    continue;
                }
                let key = s.splat((keys.start + i) as f32);
                let product = s.load(&scores.as_chunks::<LANES>().0[panel]);
                let [score, capped] = score(s, spec, product, [key, start, end, of_alibi, position]);
                let weight = math::exp(s, s.sub(score, log_sum));
                s.store(slope(s, spec, weight, s.load(place), mean, capped), place);
            }
        }
    }
}

/// Turns scores into weights and weights' gradients into scores' gradients, lanes being keys. Rows that are not there give zeros.
struct SlopesOfKeys<'a> {
    spec: &'a AttendSpec<'a>,
    rows: &'a [Row; ROWS],
    keys: Range<usize>,
    scores: &'a mut [[f32; KEYS]; ROWS],
    slopes: &'a mut [[f32; KEYS]; ROWS],
}

impl Kernel for SlopesOfKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SlopesOfKeys { spec, rows, keys, scores, slopes } = self;
        let iota = s.load(&std::array::from_fn(|i| i as f32));
        for ((row, scores), slopes) in rows.iter().zip(scores.iter_mut()).zip(slopes.iter_mut()) {
            let [start, end] = [s.splat(row.start), s.splat(row.end)];
            let [of_alibi, position] = [s.splat(row.slope), s.splat(row.position)];
            let places = scores.as_chunks_mut::<LANES>().0.iter_mut().zip(slopes.as_chunks_mut::<LANES>().0);
            for (panel, (place, d)) in places.enumerate() {
                let key = s.add(iota, s.splat((keys.start + panel * LANES) as f32));
                let [score, capped] = score(s, spec, s.load(place), [key, start, end, of_alibi, position]);
                let weight = math::exp(s, s.sub(score, s.splat(row.log_sum)));
                s.store(weight, place);
                s.store(slope(s, spec, weight, s.load(d), s.splat(row.mean), capped), d);
            }
        }
    }
}
