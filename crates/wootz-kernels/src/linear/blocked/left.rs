//! The left side's rows, interleaved by tiles.

use std::ops::Range;

use half::bf16;

use crate::Isa;
use crate::cast::{bytes_of_mut, cast_mut};
#[cfg(target_arch = "x86_64")]
use crate::linear::turn::{self, Square};

/// How the left side of a product lies in memory.
#[derive(Clone, Copy)]
pub(in crate::linear) enum Left<'a> {
    /// `(m, k)`
    Rows(&'a [f32]),
    /// `(k, m)`
    Columns(&'a [f32]),
}

impl Left<'_> {
    /// Packs the steps `inner` of some rows to `[len][width]`, in pairs where they are wanted; rows that are not there are zeros.
    #[expect(clippy::too_many_arguments, reason = "what is packed, how, and where to")]
    pub(super) fn pack(
        self,
        isa: Isa,
        [m, k, _]: [usize; 3],
        rows: Range<usize>,
        inner: Range<usize>,
        pairs_of_steps: bool,
        width: usize,
        out: &mut [u32],
    ) {
        if rows.len() < width {
            out.fill(0);
        }
        match self {
            Left::Rows(x) => {
                let row = |row: usize| &x[row * k + inner.start..row * k + inner.end];
                let mut done = 0;
                #[cfg(target_arch = "x86_64")]
                if let Some(square) = Square::new(isa, rows.clone().map(row)) {
                    done = square.whole();
                    match pairs_of_steps {
                        true => square.bf16_pairs(isa, width, cast_words(out)),
                        false => square.floats(width, cast_words(out)),
                    }
                }
                let number = |step: usize, t: usize| row(rows.start + t).get(step).copied();
                pack_plain(rows.len(), done..inner.len(), number, pairs_of_steps, width, out);
            }
            Left::Columns(x) => {
                let step = |step: usize| &x[(inner.start + step) * m + rows.start..][..rows.len()];
                let mut done = 0;
                if !pairs_of_steps {
                    let out = cast_words::<f32>(out);
                    for (i, out) in out.chunks_exact_mut(width).enumerate() {
                        match (step(i).first_chunk::<12>(), out.first_chunk_mut::<12>()) {
                            (Some(x), Some(out)) => *out = *x,
                            _ => out[..rows.len()].copy_from_slice(step(i)),
                        }
                    }
                    done = inner.len();
                }
                #[cfg(target_arch = "x86_64")]
                if pairs_of_steps {
                    let columns =
                        turn::Columns { x, row_len: m, first_row: inner.start, columns: rows.clone() };
                    columns.pair_rows(isa, width, &mut out[..inner.len() / 2 * width]);
                    done = inner.len() / 2 * 2;
                }
                let number = |i: usize, t: usize| (i < inner.len()).then(|| step(i)[t]);
                pack_plain(rows.len(), done..inner.len(), number, pairs_of_steps, width, out);
            }
        }
    }
}

fn cast_words<T: crate::cast::Plain>(words: &mut [u32]) -> &mut [T] {
    cast_mut(bytes_of_mut(words)).expect("both have 4 bytes")
}

/// The plain way, number by number: `number(step, row)` is `None` past the end.
fn pack_plain(
    n_rows: usize,
    steps: Range<usize>,
    number: impl Fn(usize, usize) -> Option<f32>,
    pairs_of_steps: bool,
    width: usize,
    out: &mut [u32],
) {
    let round = |x: Option<f32>| u32::from(bf16::from_f32(x.unwrap_or(0.0)).to_bits());
    for t in 0..n_rows {
        if pairs_of_steps {
            for i in steps.start / 2..steps.end.div_ceil(2) {
                out[i * width + t] = round(number(2 * i, t)) | round(number(2 * i + 1, t)) << 16;
            }
        } else {
            for i in steps.clone() {
                out[i * width + t] = number(i, t).unwrap_or(0.0).to_bits();
            }
        }
    }
}
