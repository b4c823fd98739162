//! One task of attention: some rows of one sequence against one key head, block by block.
//!
//! Where:  tasks of [`attend`](super::attend).
//! Idea:   a row is a (token, query head) pair; rows go in tiles as in the linear product. For each block and tile: scores (lanes
//!         are positions), their soft-max, values weighed (lanes are the head's numbers).
//!         A long past of few rows is cut into spans, whose sums are merged in the order in which one task would have.

use std::marker::PhantomData;
use std::ops::Range;

use super::{AttendSeq, AttendSpec};
use crate::TensorType;
use crate::cast::{Plain, cast};
use crate::isa::Kernel;
use crate::kv_store::{KvStore, Values, q8};
use crate::packed::{Chunk, F32Pairs, Stored};
use crate::pool::SharedSlice;
use crate::simd::{LANES, Simd, math, max_tile_width, tile_width};

/// Positions after which partial results are merged, in absolute positions.
const SPAN: usize = 1024;
/// Room for the scores of one row and block.
const MAX_BLOCK: usize = 128;
const MAX_WIDTH: usize = 12;

pub(super) struct Task<'a> {
    pub spec: &'a AttendSpec<'a>,
    pub q: &'a [f32],
    pub out: SharedSlice<'a, f32>,
    pub store: &'a KvStore,
    pub seq: &'a AttendSeq<'a>,
    pub kv_head: usize,
    /// Of `token·group + head`, counted inside the sequence.
    pub rows: Range<usize>,
    pub goal: Goal<'a>,
}

/// What a task leaves behind.
#[derive(Clone, Copy)]
pub(super) enum Goal<'a> {
    /// Its rows of the output.
    Rows,
    /// The sums of one span of positions, for [`Gather`]: greatest score, sum and weighed values of each row.
    Sums { span: usize, out: SharedSlice<'a, f32> },
}

pub(super) struct Body<'a, W>(Task<'a>, PhantomData<W>);

impl<'a, W> Body<'a, W> {
    pub fn new(task: Task<'a>) -> Self {
        Body(task, PhantomData)
    }
}

/// Rows that go through the blocks together.
struct Tile {
    width: usize,
    rows: Range<usize>,
    /// `[d_k / 2][2][width]`, scaled.
    q: Vec<f32>,
    visible: [Range<usize>; MAX_WIDTH],
    slope: [f32; MAX_WIDTH],
    position: [usize; MAX_WIDTH],
    /// Of the running span, and of all before it.
    span: Sums,
    total: Sums,
}

/// Soft-max sums: greatest score, sum of exponentials, weighed values `[width][d_v]`.
struct Sums {
    max: [f32; MAX_WIDTH],
    sum: [f32; MAX_WIDTH],
    acc: Vec<f32>,
}

impl Sums {
    fn empty(len: usize) -> Self {
        Sums { max: [f32::NEG_INFINITY; MAX_WIDTH], sum: [0.0; MAX_WIDTH], acc: vec![0.0; len] }
    }

    fn clear(&mut self) {
        self.max.fill(f32::NEG_INFINITY);
        self.sum.fill(0.0);
        self.acc.fill(0.0);
    }
}

impl<W: Stored> Kernel for Body<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let task = self.0;
        let mut tiles = task.tiles(S::WIDE);
        let block_len = task.store.block_len();
        let mut positions = task.seen(task.rows.clone());
        if let Goal::Sums { span, .. } = task.goal {
            positions = positions.start.max(span * SPAN)..positions.end.min((span + 1) * SPAN);
        }
        let blocks = positions.start / block_len..positions.end.div_ceil(block_len);
        let mut expanded = [Vec::new(), Vec::new()];
        for index in blocks.clone() {
            let first = index * block_len;
            let (keys, values) = task.block(index);
            let soon = task.block((index + 1).min(blocks.end - 1));
            if task.store.dtype() == TensorType::Q8_0 {
                task.expand(s, [keys, soon.0], [values, soon.1], &mut expanded);
            } else if task.store.values() == Values::FirstOfKeys {
                transpose::<S, W>(s, chunks(keys), block_len, task.spec.d_v, &mut expanded[1]);
            }
            for tile in &mut tiles {
                let seen = task.seen(tile.rows.clone());
                if first.is_multiple_of(SPAN) {
                    s.call(Merge(tile));
                }
                if seen.end <= first || seen.start >= first + block_len {
                    continue;
                }
                // What no row of a tile sees would weigh nothing.
                let block = Block { first, n: (seen.end - first).min(block_len), len: block_len };
                let [of_keys, of_values] = [&expanded[0][..], &expanded[1][..]];
                match (task.store.dtype(), task.store.values()) {
                    (TensorType::Q8_0, _) => {
                        let now = Read { keys: of_keys, values: of_values };
                        by_width::<S, F32Pairs, F32Pairs>(s, task.spec, tile, block, now, now);
                    }
                    (_, Values::Stored) => {
                        let now = Read { keys: chunks(keys), values: chunks(values) };
                        let soon = Read { keys: chunks(soon.0), values: chunks(soon.1) };
                        by_width::<S, W, W>(s, task.spec, tile, block, now, soon);
                    }
                    (_, Values::FirstOfKeys) => {
                        let now = Read { keys: chunks(keys), values: of_values };
                        let soon = Read { keys: chunks(soon.0), values: of_values };
                        by_width::<S, W, F32Pairs>(s, task.spec, tile, block, now, soon);
                    }
                }
            }
        }
        for tile in &mut tiles {
            match task.goal {
                Goal::Rows => {
                    s.call(Merge(tile));
                    task.finish(tile);
                }
                Goal::Sums { out, .. } => task.keep(tile, out),
            }
        }
    }
}

/// Merges the sums of all spans of a task's rows, in their order, and finishes the rows.
pub(super) struct Gather<'a> {
    pub task: Task<'a>,
    /// Of each span: `[row][2 + d_v]`.
    pub spans: &'a [f32],
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Gather { task, spans } = self;
        let len = task.sums_len();
        for tile in &mut task.tiles(S::WIDE) {
            let first = tile.rows.start - task.rows.start;
            let padded = tile.span.acc.len() / tile.width;
            for rows in spans.chunks_exact(task.rows.len() * len) {
                for (t, sums) in rows.chunks_exact(len).skip(first).take(tile.rows.len()).enumerate() {
                    (tile.span.max[t], tile.span.sum[t]) = (sums[0], sums[1]);
                    tile.span.acc[t * padded..(t + 1) * padded].copy_from_slice(&sums[2..]);
                }
                s.call(Merge(tile));
            }
            task.finish(tile);
        }
    }
}

impl Task<'_> {
    /// Positions that any of the rows sees: later rows see later ones.
    pub fn seen(&self, rows: Range<usize>) -> Range<usize> {
        let group = self.spec.group();
        let of = |row: usize| {
            let position = self.seq.first_position + row / group;
            self.spec.visible.range(position, self.seq.kv_len)
        };
        of(rows.start).start..of(rows.end - 1).end
    }

    /// Spans in which they lie.
    pub fn spans(&self) -> Range<usize> {
        let seen = self.seen(self.rows.clone());
        seen.start / SPAN..seen.end.div_ceil(SPAN)
    }

    /// Numbers that a span leaves of a row.
    pub fn sums_len(&self) -> usize {
        2 + self.spec.d_v.next_multiple_of(LANES)
    }

    /// Keys and values of block `index` of the sequence.
    fn block(&self, index: usize) -> (&[u8], &[u8]) {
        let block = self.seq.block_table[index] as usize;
        (self.store.keys(block, self.kv_head), self.store.stored_values(block, self.kv_head))
    }

    /// A block of 8 bits as f32, each beside the block that comes next.
    #[inline(always)]
    fn expand<S: Simd>(&self, s: S, keys: [&[u8]; 2], values: [&[u8]; 2], out: &mut [Vec<Chunk<f32>>; 2]) {
        let (AttendSpec { d_k, d_v, .. }, block_len) = (*self.spec, self.store.block_len());
        let [of_keys, of_values] = out;
        q8::expand_keys(s, keys, block_len, d_k, of_keys);
        match self.store.values() {
            Values::Stored => q8::expand_values(s, values, block_len, d_v, of_values),
            Values::FirstOfKeys => transpose::<S, F32Pairs>(s, of_keys, block_len, d_v, of_values),
        }
    }

    /// Writes a tile's sums where [`Gather`] finds them.
    fn keep(&self, tile: &Tile, out: SharedSlice<'_, f32>) {
        let (len, padded) = (self.sums_len(), tile.span.acc.len() / tile.width);
        for (t, row) in tile.rows.clone().enumerate() {
            let start = (row - self.rows.start) * len;
            // SAFETY: `out` belongs to this task, and rows do not overlap.
            let sums = unsafe { out.slice(start..start + len) };
            (sums[0], sums[1]) = (tile.span.max[t], tile.span.sum[t]);
            sums[2..].copy_from_slice(&tile.span.acc[t * padded..(t + 1) * padded]);
        }
    }

    fn tiles(&self, wide: bool) -> Vec<Tile> {
        let mut tiles = Vec::new();
        let mut first = self.rows.start;
        while first < self.rows.end {
            let rows = first..(first + max_tile_width(wide)).min(self.rows.end);
            first = rows.end;
            tiles.push(self.tile(wide, rows));
        }
        tiles
    }

    /// Token of the batch and query head of a row.
    fn place(&self, row: usize) -> (usize, usize) {
        let group = self.spec.group();
        (self.seq.q_rows.start + row / group, self.kv_head * group + row % group)
    }

    fn tile(&self, wide: bool, rows: Range<usize>) -> Tile {
        let AttendSpec { n_heads, d_k, d_v, scale, .. } = *self.spec;
        let width = tile_width(wide, rows.len());
        let mut tile = Tile {
            width,
            q: vec![0.0; d_k.next_multiple_of(2) * width],
            visible: [const { 0..0 }; MAX_WIDTH],
            slope: [0.0; MAX_WIDTH],
            position: [0; MAX_WIDTH],
            span: Sums::empty(width * d_v.next_multiple_of(LANES)),
            total: Sums::empty(width * d_v.next_multiple_of(LANES)),
            rows,
        };
        for (t, row) in tile.rows.clone().enumerate() {
            let (token, head) = self.place(row);
            let q = &self.q[(token * n_heads + head) * d_k..][..d_k];
            for (x, out) in q.iter().zip(tile.q[t..].iter_mut().step_by(width)) {
                *out = x * scale;
            }
            let position = self.seq.first_position + row / self.spec.group();
            tile.visible[t] = self.spec.visible.range(position, self.seq.kv_len);
            tile.position[t] = position;
            tile.slope[t] = self.spec.alibi_slopes.map_or(0.0, |slopes| slopes[head]);
            if let Some(sinks) = self.spec.sinks {
                (tile.total.max[t], tile.total.sum[t]) = (sinks[head], 1.0);
            }
        }
        tile
    }

    /// Divides by the sums and writes the rows.
    fn finish(&self, tile: &Tile) {
        let AttendSpec { n_heads, d_v, .. } = *self.spec;
        let padded = d_v.next_multiple_of(LANES);
        for (t, row) in tile.rows.clone().enumerate() {
            let (token, head) = self.place(row);
            let start = (token * n_heads + head) * d_v;
            // SAFETY: a (token, head) pair belongs to one task, and sequences do not share rows.
            let out = unsafe { self.out.slice(start..start + d_v) };
            let factor = if tile.total.sum[t] > 0.0 { 1.0 / tile.total.sum[t] } else { 0.0 };
            for (o, x) in out.iter_mut().zip(&tile.total.acc[t * padded..]) {
                // A NaN stays one, whatever the sum.
                *o = if tile.total.sum[t].is_nan() { f32::NAN } else { x * factor };
            }
        }
    }
}

fn chunks<T: Plain>(bytes: &[u8]) -> &[Chunk<T>] {
    cast::<T>(bytes).expect("blocks are aligned").as_chunks().0
}

/// A block of positions: where it begins, how many are written, how many there is room for.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    n: usize,
    len: usize,
}

/// Keys and values of a block.
struct Read<'a, W: Stored, V: Stored> {
    keys: &'a [Chunk<W::Number>],
    values: &'a [Chunk<V::Number>],
}

impl<W: Stored, V: Stored> Clone for Read<'_, W, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<W: Stored, V: Stored> Copy for Read<'_, W, V> {}

#[inline(always)]
fn by_width<S: Simd, W: Stored, V: Stored>(
    s: S,
    spec: &AttendSpec<'_>,
    tile: &mut Tile,
    block: Block,
    now: Read<'_, W, V>,
    soon: Read<'_, W, V>,
) {
    match tile.width {
        1 => one_block::<S, W, V, 1>(s, spec, tile, block, now, soon),
        2 if S::WIDE => one_block::<S, W, V, 2>(s, spec, tile, block, now, soon),
        8 if S::WIDE => one_block::<S, W, V, 8>(s, spec, tile, block, now, soon),
        12 if S::WIDE => one_block::<S, W, V, 12>(s, spec, tile, block, now, soon),
        _ => one_block::<S, W, V, 4>(s, spec, tile, block, now, soon),
    }
}

/// Scores, soft-max and weighed values of one tile and one block, while the block that comes next is asked for.
#[inline(always)]
fn one_block<S: Simd, W: Stored, V: Stored, const M: usize>(
    s: S,
    spec: &AttendSpec<'_>,
    tile: &mut Tile,
    block: Block,
    now: Read<'_, W, V>,
    soon: Read<'_, W, V>,
) {
    assert_eq!(tile.width, M, "tiles are as wide as their kernel");
    let mut p = [[0.0_f32; MAX_BLOCK]; M];
    s.call(Scores::<W, M> { q: &tile.q, n: block.n, keys: now.keys, soon: soon.keys, p: &mut p });
    let mut correction = [0.0; M];
    for t in 0..M {
        correction[t] = s.call(Soften { spec, tile, t, block, p: &mut p[t] });
    }
    let (values, soon) = (now.values, soon.values);
    s.call(Weigh::<V, M> { acc: &mut tile.span.acc, block, p: &p, correction, values, soon });
}

/// Scores of a tile's queries with the keys of a block.
struct Scores<'a, W: Stored, const M: usize> {
    q: &'a [f32],
    n: usize,
    keys: &'a [Chunk<W::Number>],
    soon: &'a [Chunk<W::Number>],
    p: &'a mut [[f32; MAX_BLOCK]; M],
}

impl<W: Stored, const M: usize> Kernel for Scores<'_, W, M> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Scores { q, n, keys, soon, p } = self;
        let pairs = q.as_chunks::<M>().0.as_chunks::<2>().0;
        let n_panels = n.div_ceil(LANES);
        let keys = |panel: usize| Panel {
            now: &keys[panel * pairs.len()..][..pairs.len()],
            soon: &soon[panel * pairs.len()..][..pairs.len()],
        };
        for panel in (0..n_panels).step_by(2) {
            if panel + 2 <= n_panels {
                let scores = products::<S, W, M, 2>(s, pairs, [keys(panel), keys(panel + 1)]);
                for t in 0..M {
                    place_scores(s, scores[t][0], &mut p[t], panel);
                    place_scores(s, scores[t][1], &mut p[t], panel + 1);
                }
            } else {
                let scores = products::<S, W, M, 1>(s, pairs, [keys(panel)]);
                for t in 0..M {
                    place_scores(s, scores[t][0], &mut p[t], panel);
                }
            }
        }
    }
}

#[inline(always)]
fn place_scores<S: Simd>(s: S, scores: S::F, p: &mut [f32; MAX_BLOCK], panel: usize) {
    s.store(scores, &mut p.as_chunks_mut::<LANES>().0[panel]);
}

/// Chunks to go through, and those that come next.
struct Panel<'a, W: Stored> {
    now: &'a [Chunk<W::Number>],
    soon: &'a [Chunk<W::Number>],
}

/// Dot products of `M` queries with `P` times sixteen keys.
#[inline(always)]
fn products<S: Simd, W: Stored, const M: usize, const P: usize>(
    s: S,
    x: &[[[f32; M]; 2]],
    w: [Panel<'_, W>; P],
) -> [[S::F; P]; M] {
    let mut acc = [[s.splat(0.0); P]; M];
    for i in 0..x.len() {
        let mut steps = [[s.splat(0.0); 2]; P];
        for p in 0..P {
            s.prefetch(&w[p].soon[i]);
            steps[p] = W::load(s, &w[p].now[i]);
        }
        for j in 0..2 {
            for t in 0..M {
                let x = s.splat(x[i][j][t]);
                for p in 0..P {
                    acc[t][p] = s.mul_add(steps[p][j], x, acc[t][p]);
                }
            }
        }
    }
    acc
}

/// Turns a row's scores into exponentials, updates its sums, and returns the factor for what was weighed before.
struct Soften<'a> {
    spec: &'a AttendSpec<'a>,
    tile: &'a mut Tile,
    t: usize,
    block: Block,
    p: &'a mut [f32; MAX_BLOCK],
}

impl Kernel for Soften<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Soften { spec, tile, t, block, p } = self;
        soften(s, spec, tile, t, block, p)
    }
}

#[inline(always)]
fn soften<S: Simd>(
    s: S,
    spec: &AttendSpec<'_>,
    tile: &mut Tile,
    t: usize,
    block: Block,
    p: &mut [f32; MAX_BLOCK],
) -> f32 {
    let (panels, _) = p.as_chunks_mut::<LANES>();
    let panels = &mut panels[..block.n.div_ceil(LANES)];
    let visible = &tile.visible[t];
    let iota = s.load(&std::array::from_fn(|i| i as f32));
    let low = s.splat(f32::NEG_INFINITY);
    let mut max = low;
    for (i, panel) in panels.iter_mut().enumerate() {
        let first = block.first + i * LANES;
        let mut score = s.load(panel);
        if let Some(cap) = spec.softcap {
            score = s.mul(s.splat(cap), math::tanh(s, s.mul(score, s.splat(1.0 / cap))));
        }
        if spec.alibi_slopes.is_some() {
            let distance = s.add(iota, s.splat(first as f32 - tile.position[t] as f32));
            score = s.mul_add(s.splat(tile.slope[t]), distance, score);
        }
        if first < visible.start || first + LANES > visible.end {
            let start = s.splat(visible.start as f32 - first as f32);
            let end = s.splat(visible.end as f32 - first as f32);
            score = s.select_lt(iota, start, low, s.select_lt(iota, end, score, low));
        }
        // The score stands second, so that a NaN shows in the result instead of vanishing.
        max = s.max(max, score);
        s.store(score, panel);
    }
    let before = tile.span.max[t];
    let max = s.max_lane(max);
    let max = if max > before || max.is_nan() { max } else { before };
    // A row that has seen nothing yet subtracts zero: its exponentials are zero all the same.
    let base = if max == f32::NEG_INFINITY { 0.0 } else { max };
    let mut sum = s.splat(0.0);
    for panel in panels.iter_mut() {
        let e = math::exp(s, s.sub(s.load(panel), s.splat(base)));
        sum = s.add(sum, e);
        s.store(e, panel);
    }
    let correction = exp(s, before - base);
    tile.span.sum[t] = tile.span.sum[t] * correction + s.sum(sum);
    tile.span.max[t] = max;
    correction
}

#[inline(always)]
fn exp<S: Simd>(s: S, x: f32) -> f32 {
    let mut out = [0.0; LANES];
    s.store(math::exp(s, s.splat(x)), &mut out);
    out[0]
}

/// `acc = acc·correction + p·values`
struct Weigh<'a, V: Stored, const M: usize> {
    acc: &'a mut [f32],
    block: Block,
    p: &'a [[f32; MAX_BLOCK]; M],
    correction: [f32; M],
    values: &'a [Chunk<V::Number>],
    soon: &'a [Chunk<V::Number>],
}

impl<V: Stored, const M: usize> Kernel for Weigh<'_, V, M> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Weigh { acc, block, p, correction, values, soon } = self;
        let n_panels = acc.len() / M / LANES;
        let values = |panel: usize| Panel {
            now: &values[panel * block.len / 2..][..block.len / 2],
            soon: &soon[panel * block.len / 2..][..block.len / 2],
        };
        for panel in (0..n_panels).step_by(2) {
            if panel + 2 <= n_panels {
                let values = [values(panel), values(panel + 1)];
                weigh_panels::<S, V, M, 2>(s, acc, panel, block.n, p, correction, values);
            } else {
                weigh_panels::<S, V, M, 1>(s, acc, panel, block.n, p, correction, [values(panel)]);
            }
        }
    }
}

#[inline(always)]
fn weigh_panels<S: Simd, V: Stored, const M: usize, const P: usize>(
    s: S,
    acc_rows: &mut [f32],
    panel: usize,
    n: usize,
    p: &[[f32; MAX_BLOCK]; M],
    correction: [f32; M],
    values: [Panel<'_, V>; P],
) {
    let padded = acc_rows.len() / M;
    let mut acc = [[s.splat(0.0); P]; M];
    for t in 0..M {
        let row = acc_rows[t * padded..][..padded].as_chunks::<LANES>().0;
        for i in 0..P {
            acc[t][i] = s.mul(s.load(&row[panel + i]), s.splat(correction[t]));
        }
    }
    for pair in 0..n / 2 {
        let mut steps = [[s.splat(0.0); 2]; P];
        for i in 0..P {
            s.prefetch(&values[i].soon[pair]);
            steps[i] = V::load(s, &values[i].now[pair]);
        }
        for j in 0..2 {
            for t in 0..M {
                let x = s.splat(p[t][(2 * pair + j) % MAX_BLOCK]);
                for i in 0..P {
                    acc[t][i] = s.mul_add(steps[i][j], x, acc[t][i]);
                }
            }
        }
    }
    if n % 2 == 1 {
        // The second position of the last pair was never written, or belonged to someone else.
        for i in 0..P {
            let [step, _] = V::load(s, &values[i].now[n / 2]);
            for t in 0..M {
                acc[t][i] = s.mul_add(step, s.splat(p[t][(n - 1) % MAX_BLOCK]), acc[t][i]);
            }
        }
    }
    for t in 0..M {
        let row = acc_rows[t * padded..][..padded].as_chunks_mut::<LANES>().0;
        for i in 0..P {
            s.store(acc[t][i], &mut row[panel + i]);
        }
    }
}

/// Adds a span's sums to the total.
struct Merge<'a>(&'a mut Tile);

impl Kernel for Merge<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        merge(s, self.0);
    }
}

#[inline(always)]
fn merge<S: Simd>(s: S, tile: &mut Tile) {
    let (span, total) = (&mut tile.span, &mut tile.total);
    let padded = span.acc.len() / tile.width;
    for t in 0..tile.width {
        let max = if span.max[t] > total.max[t] || span.max[t].is_nan() { span.max[t] } else { total.max[t] };
        let base = if max == f32::NEG_INFINITY { 0.0 } else { max };
        let (a, b) = (exp(s, total.max[t] - base), exp(s, span.max[t] - base));
        total.sum[t] = total.sum[t] * a + span.sum[t] * b;
        total.max[t] = max;
        let from = span.acc[t * padded..][..padded].as_chunks::<LANES>().0;
        let to = total.acc[t * padded..][..padded].as_chunks_mut::<LANES>().0;
        for (from, to) in from.iter().zip(to) {
            s.store(s.mul_add(s.load(from), s.splat(b), s.mul(s.load(to), s.splat(a))), to);
        }
    }
    span.clear();
}

/// The first `d_v` numbers of a block's keys, in the order of values.
#[inline(always)]
fn transpose<S: Simd, W: Stored>(
    s: S,
    keys: &[Chunk<W::Number>],
    block_len: usize,
    d_v: usize,
    out: &mut Vec<Chunk<f32>>,
) {
    let pairs = keys.len() * LANES / block_len;
    out.resize(d_v.div_ceil(LANES) * block_len / 2, [0.0; 2 * LANES]);
    for (index, chunk) in keys.iter().enumerate() {
        let (first, d) = (index / pairs * LANES, index % pairs * 2);
        for (j, step) in W::load(s, chunk).into_iter().enumerate() {
            if d + j >= d_v {
                continue;
            }
            let mut positions = [0.0; LANES];
            s.store(step, &mut positions);
            for (i, x) in positions.into_iter().enumerate() {
                let position = first + i;
                let lane = (d + j) % LANES;
                out[(d + j) / LANES * block_len / 2 + position / 2][position % 2 * LANES + lane] = x;
            }
        }
    }
}
