//! The right side's steps, as panels of columns.

use std::ops::Range;

use half::bf16;

use super::PAIR;
#[cfg(target_arch = "x86_64")]
use crate::linear::turn::{self, Columns};
use crate::packed::PackedMatrix;
use crate::pool::SharedSlice;
use crate::simd::LANES;
use crate::{Isa, Pool};

/// How the right side of a product, `(k, n)`, lies in memory.
#[derive(Clone, Copy)]
pub(in crate::linear) enum Right<'a> {
    /// Row after row.
    Rows(&'a [f32]),
    /// A packed matrix of `k` outputs and `n` inputs.
    Packed(&'a PackedMatrix),
}

/// Steps that are packed together: those of one panel of a packed matrix.
const STEPS: usize = LANES;

impl Right<'_> {
    /// Packs the steps `inner` to `[n / 32][len][32]`, in pairs where they are wanted; columns past `n` are zeros.
    pub(super) fn pack(
        self,
        isa: Isa,
        pool: &Pool,
        n: usize,
        inner: Range<usize>,
        pairs_of_steps: bool,
        out: &mut [u32],
    ) {
        let len = super::words_of(inner.len(), pairs_of_steps);
        let out = SharedSlice::new(out);
        pool.run(inner.len().div_ceil(STEPS), |task| {
            let first = inner.start + task * STEPS;
            let steps = first..(first + STEPS).min(inner.end);
            let put = |column: usize, square: &[[f32; LANES]; STEPS]| {
                let start = column / PAIR * len * PAIR + column % PAIR;
                for (i, rows) in square.chunks(if pairs_of_steps { 2 } else { 1 }).enumerate() {
                    if i * rows.len() >= steps.len() {
                        break;
                    }
                    let step = super::words_of(first - inner.start, pairs_of_steps) + i;
                    let at = start + step * PAIR;
                    // SAFETY: steps and columns of tasks do not overlap.
                    let out = unsafe { out.slice(at..at + LANES) };
                    match rows {
                        [even, odd] => pair(isa, even, odd, out),
                        [row] => out.iter_mut().zip(row).for_each(|(o, x)| *o = x.to_bits()),
                        _ => unreachable!("one or two rows"),
                    }
                }
            };
            match self {
                Right::Rows(x) => pack_rows(x, n, steps.clone(), put),
                Right::Packed(weight) => pool.with_scratch(n.next_multiple_of(LANES) * LANES * 4, |bytes| {
                    let lanes = crate::cast::cast_mut::<f32>(bytes).expect("scratch space is aligned");
                    pack_panel(isa, weight, steps.start / LANES, lanes, put);
                }),
            }
        });
    }
}

/// Sixteen columns at a time, filled up with zeros.
fn pack_rows(x: &[f32], n: usize, steps: Range<usize>, put: impl Fn(usize, &[[f32; LANES]; STEPS])) {
    for column in (0..n.next_multiple_of(PAIR)).step_by(LANES) {
        let mut square = [[0.0; LANES]; STEPS];
        for (row, step) in square.iter_mut().zip(steps.clone()) {
            let x = &x[step * n..(step + 1) * n];
            match x.get(column..).and_then(|x| x.first_chunk()) {
                Some(x) => *row = *x,
                None if column < n => row[..n - column].copy_from_slice(&x[column..]),
                None => {}
            }
        }
        put(column, &square);
    }
}

/// The sixteen outputs of a panel, turned.
fn pack_panel(
    isa: Isa,
    weight: &PackedMatrix,
    panel: usize,
    lanes: &mut [f32],
    put: impl Fn(usize, &[[f32; LANES]; STEPS]),
) {
    let n = weight.k();
    weight.lanes(isa, panel, lanes.as_chunks_mut().0);
    lanes[n * LANES..].fill(0.0);
    let (squares, _) = lanes.as_chunks::<LANES>().0.as_chunks::<LANES>();
    for column in (0..n.next_multiple_of(PAIR)).step_by(LANES) {
        match squares.get(column / LANES) {
            Some(square) => put(column, &turned(isa, square)),
            None => put(column, &[[0.0; LANES]; STEPS]),
        }
    }
}

/// Rows for columns.
fn turned(isa: Isa, square: &[[f32; LANES]; LANES]) -> [[f32; LANES]; LANES] {
    #[cfg(target_arch = "x86_64")]
    if let Some(turned) = turn::turned(isa, square) {
        return turned;
    }
    let _ = isa;
    std::array::from_fn(|i| std::array::from_fn(|j| square[j][i]))
}

/// Pairs of bf16.
fn pair(isa: Isa, even: &[f32; LANES], odd: &[f32; LANES], out: &mut [u32]) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_bf16() {
        let rows = [*even, *odd];
        let columns = Columns { x: rows.as_flattened(), row_len: LANES, first_row: 0, columns: 0..LANES };
        return columns.pair_rows(isa, LANES, out);
    }
    let _ = isa;
    let round = |x: f32| u32::from(bf16::from_f32(x).to_bits());
    for (out, (even, odd)) in out.iter_mut().zip(even.iter().zip(odd)) {
        *out = round(*even) | round(*odd) << 16;
    }
}
