//! The body in bf16: one instruction for two steps of sixteen columns, sums in f32.
//!
//! Elsewhere: what that instruction does exactly ([`bf16`](super::super::bf16)).

use std::arch::x86_64::*;

use super::{PAIR, Place};
use crate::Isa;
use crate::simd::LANES;

/// `left` `[len][width]` and `right` `[len][32]` are pairs of steps.
pub(super) fn multiply(isa: Isa, width: usize, left: &[u32], right: &[u32], place: Place<'_>) {
    assert!(isa.has_bf16(), "bf16 products need their instruction");
    match width {
        // SAFETY: asserted above.
        4 => unsafe { tile::<4>(left, right, &place) },
        // SAFETY: as above.
        8 => unsafe { tile::<8>(left, right, &place) },
        // SAFETY: as above.
        12 => unsafe { tile::<12>(left, right, &place) },
        width => unreachable!("no tile has {width} rows"),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn tile<const M: usize>(left: &[u32], right: &[u32], place: &Place<'_>) {
    let (left, right) = (left.as_chunks::<M>().0, right.as_chunks::<PAIR>().0);
    assert_eq!(left.len(), right.len(), "both sides have the block's steps");
    let mut acc = [[_mm512_setzero_ps(); 2]; M];
    for t in 0..if place.adds { place.rows.len().min(M) } else { 0 } {
        // SAFETY: tiles and pairs of panels do not overlap, and each product of two is one task's.
        let row = unsafe { place.row(t) };
        for p in 0..2 {
            let columns = row.len().saturating_sub(p * LANES).min(LANES);
            let out = &row[row.len().min(p * LANES)..][..columns];
            // SAFETY: the lanes that the mask names lie in the slice; the others are not read.
            acc[t][p] = unsafe { _mm512_maskz_loadu_ps(((1_u32 << columns) - 1) as u16, out.as_ptr()) };
        }
    }
    for (x, w) in left.iter().zip(right) {
        let mut pairs = [_mm512_setzero_si512(); 2];
        for p in 0..2 {
            // SAFETY: sixteen words of the 32 are loaded.
            pairs[p] = unsafe { _mm512_loadu_si512(w[p * LANES..][..LANES].as_ptr().cast()) };
        }
        for t in 0..M {
            let x = as_bf16(_mm512_set1_epi32(x[t] as i32));
            for p in 0..2 {
                acc[t][p] = _mm512_dpbf16_ps(acc[t][p], as_bf16(pairs[p]), x);
            }
        }
    }
    for t in 0..place.rows.len().min(M) {
        // SAFETY: tiles and pairs of panels do not overlap, and each product of two is one task's.
        let row = unsafe { place.row(t) };
        for p in 0..2 {
            let columns = row.len().saturating_sub(p * LANES).min(LANES);
            let first = row.len().min(p * LANES);
            let out = &mut row[first..][..columns];
            // SAFETY: the lanes that the mask names lie in the slice; the others are not written.
            unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), ((1_u32 << columns) - 1) as u16, acc[t][p]) };
        }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn as_bf16(x: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes, and every bit pattern is a value of both.
    unsafe { std::mem::transmute(x) }
}
