//! Recurrences over ragged rows: causal convolution, Mamba's selective scan, Mamba-2's scan.
//!
//! Where:  state-space layers, by way of the `cpu` device.
//! Idea:   a sequence's state stands in a slot and is carried over its rows in order; lanes and threads are channels. A step on one
//!         row and a prefill of many do the same additions, so chunks do not change results.
//! Source: Gu & Dao 2023, arXiv:2312.00752 (Mamba); Dao & Gu 2024, arXiv:2405.21060 (Mamba-2).
//! Elsewhere: projections and gates around them, which are other operators.

mod conv1d;
mod conv1d_grad;
mod decay;
mod selective;
mod selective_grad;
mod ssd;
mod ssd_grad;

pub use conv1d::{Conv1d, conv1d_update};
pub use conv1d_grad::conv1d_grad;
pub use decay::{decay_scan, decay_scan_grad};
pub use selective::{SelectiveScan, selective_scan};
pub use selective_grad::{ScanGrads, selective_scan_grad};
pub use ssd::{SsdScan, ssd_scan};
pub use ssd_grad::ssd_scan_grad;

use std::ops::Range;

use crate::pool::SharedSlice;
use crate::rows::add_assign;
use crate::simd::{LANES, Simd};
use crate::{Isa, Pool};

/// One sequence's rows and the slot of its state. A new sequence's slot is zeroed by the caller.
#[derive(Clone, Debug)]
pub struct ScanSeq {
    /// Its rows of the batch.
    pub rows: Range<usize>,
    /// Its state.
    pub slot: usize,
}

/// Slots are distinct and rows do not overlap: sequences are worked on in parallel.
fn check_seqs(what: &str, seqs: &[ScanSeq], n_rows: usize, n_slots: usize) {
    let mut rows: Vec<&Range<usize>> =
        seqs.iter().map(|seq| &seq.rows).filter(|rows| !rows.is_empty()).collect();
    rows.sort_by_key(|rows| rows.start);
    assert!(rows.windows(2).all(|pair| pair[0].end <= pair[1].start), "{what}: sequences share rows");
    assert!(rows.last().is_none_or(|rows| rows.end <= n_rows), "{what}: rows past the batch");
    let mut slots: Vec<usize> = seqs.iter().map(|seq| seq.slot).collect();
    slots.sort_unstable();
    assert!(slots.windows(2).all(|pair| pair[0] != pair[1]), "{what}: sequences share a state");
    assert!(slots.last().is_none_or(|&slot| slot < n_slots), "{what}: slot past the states");
}

/// Up to sixteen numbers from `x`, zeros after them.
#[inline(always)]
fn load<S: Simd>(s: S, x: &[f32]) -> S::F {
    match x.first_chunk::<LANES>() {
        Some(x) => s.load(x),
        None => s.load_part(x, 0.0),
    }
}

/// Stores up to sixteen numbers.
///
/// # Safety
/// No other task uses these places of `out`.
#[inline(always)]
unsafe fn store<S: Simd>(s: S, v: S::F, out: &SharedSlice<'_, f32>, range: Range<usize>) {
    // SAFETY: the caller's promise.
    s.store_part(v, unsafe { out.slice(range) });
}

/// Sums parts that lie `step` apart, in order: `out = Σ parts[i·step + first..]`.
fn add_parts(isa: Isa, pool: &Pool, parts: &[f32], first: usize, step: usize, out: &mut [f32]) {
    out.fill(0.0);
    if step > 0 {
        for part in parts.chunks_exact(step) {
            add_assign(isa, pool, 1.0, &part[first..first + out.len()], out);
        }
    }
}
