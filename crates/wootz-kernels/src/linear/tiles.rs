//! Rows of activations, packed for the products.
//!
//! Where:  once for each call of [`linear`](super::linear).
//! Idea:   a tile is up to twelve or sixteen rows, interleaved so that one pointer with constant offsets reaches all of them. Short tiles
//!         are filled with zero rows, whose results are dropped.

use std::ops::Range;

use half::bf16;

use super::integer::{Quantize, RECORD, Sums};
use crate::cast::{bytes_of_mut, cast_mut};
use crate::pool::SharedSlice;
use crate::simd::{LANES, tile_width};
use crate::{Isa, Pool};

/// Rows to multiply, each of `k` numbers.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// Those of `x`.
    Of { x: &'a [f32], k: usize },
    /// Those of `x` that `sources` names.
    Gathered { x: &'a [f32], k: usize, sources: &'a [u32] },
}

impl Rows<'_> {
    pub fn k(&self) -> usize {
        match *self {
            Rows::Of { k, .. } | Rows::Gathered { k, .. } => k,
        }
    }

    /// Rounds columns of a tile to bf16, in pairs: `[k / 2][width]`.
    fn interleave_bf16(&self, tile: &Tile, columns: Range<usize>, out: &mut [i32]) {
        let round = |x: f32| u32::from(bf16::from_f32(x).to_bits());
        for (t, index) in tile.rows.clone().enumerate() {
            let pairs = self.row(index)[columns.clone()].chunks(2);
            for (pair, out) in pairs.zip(out.chunks_exact_mut(tile.width)) {
                out[t] = (round(pair[0]) | round(pair.get(1).copied().unwrap_or(0.0)) << 16) as i32;
            }
        }
    }

    /// Packs columns in squares of sixteen where there are instructions for it, and says how many.
    #[cfg(target_arch = "x86_64")]
    fn pack_squares(
        &self,
        isa: Isa,
        tile: &Tile,
        form: Form,
        columns: Range<usize>,
        out: &mut [i32],
    ) -> usize {
        let rows = tile.rows.clone().map(|row| &self.row(row)[columns.clone()]);
        let Some(square) = super::turn::Square::new(isa, rows) else { return 0 };
        let width = tile.width;
        match form {
            Form::Floats => square.floats(width, cast_mut(bytes_of_mut(out)).expect("both have 4 bytes")),
            Form::Bf16Pairs => {
                square.bf16_pairs(isa, width, cast_mut(bytes_of_mut(out)).expect("both have 4 bytes"));
            }
            Form::Quants(sums) if tile.rows.len() == LANES => square.quants(sums, out),
            Form::Quants(_) => return 0,
        }
        square.whole()
    }

    fn row(&self, row: usize) -> &[f32] {
        match *self {
            Rows::Of { x, k } => &x[row * k..(row + 1) * k],
            Rows::Gathered { x, k, sources } => &x[sources[row] as usize * k..][..k],
        }
    }

    /// Interleaves columns of a tile's rows: `[k][width]`. Places past the rows are left alone.
    fn interleave(&self, tile: &Tile, columns: Range<usize>, out: &mut [f32]) {
        if tile.width == 1 {
            let row = &self.row(tile.rows.start)[columns];
            out[..row.len()].copy_from_slice(row);
        } else {
            for (t, index) in tile.rows.clone().enumerate() {
                let row = &self.row(index)[columns.clone()];
                for (x, out) in row.iter().zip(out.chunks_exact_mut(tile.width)) {
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
    /// One for which there are kernels.
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
    pub fn new(isa: Isa, max_width: usize, offsets: &[u32]) -> Self {
        let (mut list, mut segments, mut start) = (Vec::new(), Vec::new(), 0);
        for pair in offsets.windows(2) {
            let first_tile = list.len();
            let mut row = pair[0] as usize;
            let end = pair[1] as usize;
            while row < end {
                let n = (end - row).min(max_width);
                let width = tile_width(isa.is_wide(), n);
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

    /// Packs all rows in every form that `forms` names and calls `use_it` with them, in that order.
    pub fn with_packed<R>(
        &self,
        isa: Isa,
        pool: &Pool,
        rows: &Rows<'_>,
        forms: &[Form],
        use_it: impl FnOnce(&[&[u8]]) -> R,
    ) -> R {
        let words = |form: &Form| (self.total_width * form.words(rows.k())).next_multiple_of(16);
        let total: usize = forms.iter().map(words).sum();
        pool.with_scratch(total * 4, |bytes| {
            let mut packed = Vec::with_capacity(forms.len());
            let mut rest = bytes;
            for form in forms {
                let (bytes, after) = rest.split_at_mut(words(form) * 4);
                rest = after;
                self.pack(isa, pool, rows, *form, bytes);
                packed.push(&*bytes);
            }
            use_it(&packed)
        })
    }

    fn pack(&self, isa: Isa, pool: &Pool, rows: &Rows<'_>, form: Form, bytes: &mut [u8]) {
        let aligned = "scratch space is aligned";
        let words = SharedSlice::new(cast_mut::<i32>(bytes).expect(aligned));
        let (k, len) = (rows.k(), form.words(rows.k()));
        let widest = self.list.iter().map(|tile| tile.width).max().unwrap_or(1);
        // Some columns of a tile: one tile of few long rows is shared, too.
        let step = TASK_NUMBERS.div_ceil(widest).next_multiple_of(256);
        let per_tile = k.div_ceil(step);
        pool.run(self.list.len() * per_tile, |task| {
            let (tile, first) = (&self.list[task / per_tile], task % per_tile * step);
            let columns = first..(first + step).min(k);
            let start = tile.start * len + form.words(first) * tile.width;
            let n_words = form.words(columns.len()) * tile.width;
            // SAFETY: tiles and their columns do not overlap, and each is packed by one task.
            let out = unsafe { words.slice(start..start + n_words) };
            if tile.rows.len() < tile.width || !k.is_multiple_of(2) {
                out.fill(0);
            }
            #[cfg(target_arch = "x86_64")]
            let (columns, out) = match rows.pack_squares(isa, tile, form, columns.clone(), out) {
                done if done == columns.len() => return,
                done => (columns.start + done..columns.end, &mut out[form.words(done) * tile.width..]),
            };
            match form {
                Form::Floats => {
                    rows.interleave(tile, columns, cast_mut(bytes_of_mut(out)).expect(aligned));
                }
                Form::Bf16Pairs => rows.interleave_bf16(tile, columns, out),
                Form::Quants(sums) => {
                    for (t, row) in tile.rows.clone().enumerate() {
                        let (row, width) = (&rows.row(row)[columns.clone()], tile.width);
                        isa.run(Quantize { row, sums, t, width, out: &mut *out });
                    }
                }
            }
        });
    }
}

/// Numbers that one task packs, about: some microseconds.
const TASK_NUMBERS: usize = 1 << 13;

/// How activations are packed for the products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `[k / 2][2][width]` f32.
    Floats,
    /// `[k / 2][width]` pairs of bf16.
    Bf16Pairs,
    /// `[k / 32]` records of 8-bit numbers.
    Quants(Sums),
}

impl Form {
    /// 32-bit words for one token.
    pub fn words(self, k: usize) -> usize {
        match self {
            Form::Floats => k.next_multiple_of(2),
            Form::Bf16Pairs => k.div_ceil(2),
            Form::Quants(_) => k / 32 * RECORD,
        }
    }
}
