//! Rows of activations, packed for the products.
//!
//! Where:  once for each call of [`linear`](super::linear).
//! Idea:   a tile is up to twelve rows, interleaved so that one pointer with constant offsets reaches all of them. Short tiles
//!         are filled with zero rows, whose results are dropped.

use std::ops::Range;

use crate::cast::cast_mut;
use crate::pool::SharedSlice;
use crate::{Isa, Level, Pool};

/// The numbers of rows for which there are kernels.
pub(super) const WIDTHS: [usize; 5] = [1, 2, 4, 8, 12];

/// Rows to multiply, each of `k` numbers.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// Those of `x`.
    Of { x: &'a [f32], k: usize },
    /// Those of `x` that `sources` names.
    Gathered { x: &'a [f32], k: usize, sources: &'a [u32] },
    /// The `n` columns of `x`, which has `k` rows.
    ColumnsOf { x: &'a [f32], n: usize, k: usize },
}

impl Rows<'_> {
    pub fn k(&self) -> usize {
        match *self {
            Rows::Of { k, .. } | Rows::Gathered { k, .. } | Rows::ColumnsOf { k, .. } => k,
        }
    }

    /// Interleaves the rows of a tile: `[k][width]`. Places past the rows are left alone.
    fn interleave(&self, tile: &Tile, out: &mut [f32]) {
        let row = |row: usize| match *self {
            Rows::Of { x, k } => &x[row * k..(row + 1) * k],
            Rows::Gathered { x, k, sources } => &x[sources[row] as usize * k..][..k],
            Rows::ColumnsOf { .. } => unreachable!("columns are copied as they lie"),
        };
        if let Rows::ColumnsOf { x, n, k } = *self {
            for (from, to) in x.chunks_exact(n).zip(out.chunks_exact_mut(tile.width)).take(k) {
                to[..tile.rows.len()].copy_from_slice(&from[tile.rows.clone()]);
            }
        } else if tile.width == 1 {
            let row = row(tile.rows.start);
            out[..row.len()].copy_from_slice(row);
        } else {
            for (t, index) in tile.rows.clone().enumerate() {
                for (x, out) in row(index).iter().zip(out.chunks_exact_mut(tile.width)) {
                    out[t] = *x;
                }
            }
        }
    }
}

/// Some rows of one segment.
pub(super) struct Tile {
    /// First row and number of rows.
    pub rows: Range<usize>,
    /// One of [`WIDTHS`].
    pub width: usize,
    /// Sum of the widths before it.
    pub start: usize,
}

/// How all rows are cut into tiles.
pub(super) struct Tiles {
    list: Vec<Tile>,
    segments: Vec<Range<usize>>,
    max_width: usize,
    total_width: usize,
}

impl Tiles {
    /// Cuts the segments `offsets[i]..offsets[i + 1]`.
    pub fn new(isa: Isa, offsets: &[u32]) -> Self {
        let max_width = if isa.level() == Level::Avx512 { 12 } else { 4 };
        let (mut list, mut segments, mut start) = (Vec::new(), Vec::new(), 0);
        for pair in offsets.windows(2) {
            let first_tile = list.len();
            let mut row = pair[0] as usize;
            let end = pair[1] as usize;
            while row < end {
                let n = (end - row).min(max_width);
                let width = WIDTHS.into_iter().find(|&width| width >= n).expect("the widest fits");
                list.push(Tile { rows: row..row + n, width, start });
                row += n;
                start += width;
            }
            segments.push(first_tile..list.len());
        }
        Tiles { list, segments, max_width, total_width: start }
    }

    pub fn list(&self) -> &[Tile] {
        &self.list
    }

    pub fn segment(&self, index: usize) -> Range<usize> {
        self.segments[index].clone()
    }

    pub fn max_width(&self) -> usize {
        self.max_width
    }

    /// Packs `[k / 2][2][width]` f32 for every tile, one after the other, and calls `use_it` with them.
    pub fn with_floats<R>(&self, pool: &Pool, rows: &Rows<'_>, use_it: impl FnOnce(&[f32]) -> R) -> R {
        let k = rows.k().next_multiple_of(2);
        pool.with_scratch(self.total_width * k * 4, |bytes| {
            let packed = cast_mut::<f32>(bytes).expect("scratch space is aligned");
            let shared = SharedSlice::new(packed);
            let per_task = (1_usize << 14).div_ceil(self.max_width * k.max(1)).max(1);
            pool.run(self.list.len().div_ceil(per_task), |task| {
                for tile in self.list.iter().skip(task * per_task).take(per_task) {
                    // SAFETY: tiles do not overlap, and each is packed by one task.
                    let out = unsafe { shared.slice(tile.start * k..(tile.start + tile.width) * k) };
                    if tile.rows.len() < tile.width || k != rows.k() {
                        out.fill(0.0);
                    }
                    rows.interleave(tile, out);
                }
            });
            use_it(packed)
        })
    }
}
