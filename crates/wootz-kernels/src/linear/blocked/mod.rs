//! Products of two matrices that both change with every call, blocked for the caches: what training spends its time on.
//!
//! Where:  the gradients of the linear layer ([`grad`](super::grad)).
//! Idea:   512 steps of the inner dimension at a time. The right side's steps are packed once, for all; each task packs its own rows of
//!         the left side, which then stay in its core's cache while panels pass by, and adds to the result.
//! Source: Goto & van de Geijn 2008, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3).
//! Elsewhere: products with weights packed beforehand ([`float`](super::float)).
//!
//! # Invariants
//! - A block's sums go on where those of the last ended: additions along the inner dimension have one order, whatever the number
//!   of rows, columns or threads.

#[cfg(target_arch = "x86_64")]
mod bf16;
mod float;
mod left;
mod right;

pub(super) use left::Left;
pub(super) use right::Right;

use std::ops::Range;

use crate::cast::cast_mut;
use crate::pool::SharedSlice;
use crate::simd::{LANES, max_tile_width, tile_width};
use crate::{Isa, Pool};

/// Steps of the inner dimension in a block.
const DEPTH: usize = 512;
/// Columns of the result that go through the registers together.
const PAIR: usize = 2 * LANES;
/// Tiles of rows that a task packs at most.
const TASK_TILES: usize = 8;
/// Pairs of panels that a task multiplies them with at most.
const TASK_PAIRS: usize = 16;

/// `out = left·right`, or `out += left·right`: `(m, k)` times `(k, n)`.
pub(super) struct Blocked<'a> {
    pub left: Left<'a>,
    pub right: Right<'a>,
    /// `m`, `k`, `n`
    pub dims: [usize; 3],
    /// Whether both sides may be rounded to bf16 where the machine multiplies that faster.
    pub rounds: bool,
    /// Whether sums begin with what `out` holds.
    pub accumulate: bool,
}

/// One block of the inner dimension, the right side packed.
struct Step<'a> {
    isa: Isa,
    left: Left<'a>,
    dims: [usize; 3],
    inner: Range<usize>,
    /// `[n / 32][len][32]` words: f32, or pairs of bf16 for two steps each.
    right: &'a [u32],
    pairs_of_steps: bool,
    /// Whether sums begin with what `out` holds.
    adds: bool,
    out: SharedSlice<'a, f32>,
}

/// Some tiles of rows times some pairs of panels.
struct Task {
    tiles: Range<usize>,
    pairs: Range<usize>,
}

impl Blocked<'_> {
    pub fn run(self, isa: Isa, pool: &Pool, out: &mut [f32]) {
        let Blocked { left, right, dims, rounds, accumulate } = self;
        let [m, k, n] = dims;
        assert_eq!(out.len(), m * n, "product: `out` is ({m}, {n})");
        if k == 0 && !accumulate {
            out.fill(0.0);
        }
        let pairs_of_steps = rounds && isa.has_bf16();
        let tasks = tasks(isa, pool, m, n);
        let out = SharedSlice::new(out);
        let words = n.div_ceil(PAIR) * PAIR * words_of(DEPTH.min(k), pairs_of_steps);
        pool.with_scratch(words * 4, |bytes| {
            let words = cast_mut::<u32>(bytes).expect("scratch space is aligned");
            for first in (0..k).step_by(DEPTH) {
                let inner = first..(first + DEPTH).min(k);
                let words = &mut words[..n.div_ceil(PAIR) * PAIR * words_of(inner.len(), pairs_of_steps)];
                right.pack(isa, pool, n, inner.clone(), pairs_of_steps, words);
                let adds = accumulate || first > 0;
                let step = Step { isa, left, dims, inner, right: words, pairs_of_steps, adds, out };
                pool.run(tasks.len(), |i| step.run(pool, &tasks[i]));
            }
        });
    }
}

/// 32-bit words of a row or column.
fn words_of(steps: usize, pairs_of_steps: bool) -> usize {
    if pairs_of_steps { steps.div_ceil(2) } else { steps }
}

/// Tasks of about equal size; there are some for every thread, if there are rows and columns enough.
fn tasks(isa: Isa, pool: &Pool, m: usize, n: usize) -> Vec<Task> {
    let n_tiles = m.div_ceil(max_tile_width(isa.is_wide()));
    let n_pairs = n.div_ceil(PAIR);
    let cut = |n: usize, most: usize| n.div_ceil(n.div_ceil(most).max(1)).max(1);
    let tiles = cut(n_tiles, TASK_TILES);
    let mut pairs = cut(n_pairs, TASK_PAIRS);
    while n_tiles.div_ceil(tiles) * n_pairs.div_ceil(pairs) < 4 * pool.threads() && pairs > 1 {
        pairs = pairs.div_ceil(2);
    }
    let mut tasks = Vec::new();
    for first_tile in (0..n_tiles).step_by(tiles) {
        for first in (0..n_pairs).step_by(pairs) {
            let tiles = first_tile..(first_tile + tiles).min(n_tiles);
            tasks.push(Task { tiles, pairs: first..(first + pairs).min(n_pairs) });
        }
    }
    tasks
}

impl Step<'_> {
    fn run(&self, pool: &Pool, task: &Task) {
        let ([m, _, n], widest) = (self.dims, max_tile_width(self.isa.is_wide()));
        let len = words_of(self.inner.len(), self.pairs_of_steps);
        pool.with_scratch(task.tiles.len() * widest * len * 4, |bytes| {
            let words = cast_mut::<u32>(bytes).expect("scratch space is aligned");
            let rows_of = |tile: usize| tile * widest..((tile + 1) * widest).min(m);
            for (tile, words) in task.tiles.clone().zip(words.chunks_exact_mut(widest * len)) {
                let rows = rows_of(tile);
                let width = tile_width(self.isa.is_wide(), rows.len()).max(4);
                let words = &mut words[..width * len];
                self.left.pack(
                    self.isa,
                    self.dims,
                    rows,
                    self.inner.clone(),
                    self.pairs_of_steps,
                    width,
                    words,
                );
            }
            for pair in task.pairs.clone() {
                let right = &self.right[pair * len * PAIR..][..len * PAIR];
                let columns = pair * PAIR..((pair + 1) * PAIR).min(n);
                for (tile, left) in task.tiles.clone().zip(words.chunks_exact(widest * len)) {
                    let rows = rows_of(tile);
                    let width = tile_width(self.isa.is_wide(), rows.len()).max(4);
                    let left = &left[..width * len];
                    let place = Place { rows, columns: columns.clone(), n, adds: self.adds, out: self.out };
                    self.multiply(width, left, right, place);
                }
            }
        });
    }

    fn multiply(&self, width: usize, left: &[u32], right: &[u32], place: Place<'_>) {
        #[cfg(target_arch = "x86_64")]
        if self.pairs_of_steps {
            return bf16::multiply(self.isa, width, left, right, place);
        }
        self.isa.run(float::Body { width, left, right, place });
    }
}

/// Where a tile's results go.
struct Place<'a> {
    rows: Range<usize>,
    columns: Range<usize>,
    n: usize,
    adds: bool,
    out: SharedSlice<'a, f32>,
}

impl<'a> Place<'a> {
    /// The tile's numbers of one row.
    ///
    /// # Safety
    /// No other task writes them.
    #[inline(always)]
    unsafe fn row(&self, t: usize) -> &'a mut [f32] {
        let start = (self.rows.start + t) * self.n;
        // SAFETY: the caller promises that the numbers are its own.
        unsafe { self.out.slice(start + self.columns.start..start + self.columns.end) }
    }
}
