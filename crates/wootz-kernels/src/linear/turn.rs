//! Rows packed into tiles sixteen columns at a time, by turning squares of sixteen numbers in AVX-512 registers.
//!
//! Where:  [`tiles`](super::tiles) and [`blocked`](super::blocked), for what its plain loops do number by number; those stay as the twin and do the tails.
//! Idea:   after the turn a lane is a token, so that maxima, scales and sums of sixteen tokens are one instruction each, and what is
//!         stored is whole registers.

use std::arch::x86_64::*;

use super::integer::{RECORD, Sums};
use crate::simd::LANES;
use crate::{Isa, Level};

/// Up to sixteen rows of one length.
pub(super) struct Square<'a> {
    rows: [&'a [f32]; LANES],
    n: usize,
}

impl<'a> Square<'a> {
    /// `None` where these instructions are not there.
    pub fn new(isa: Isa, rows: impl Iterator<Item = &'a [f32]>) -> Option<Self> {
        if isa.level() != Level::Avx512 {
            return None;
        }
        let mut square = Square { rows: [&[]; LANES], n: 0 };
        for row in rows {
            square.rows[square.n] = row;
            square.n += 1;
        }
        let len = square.rows[0].len();
        assert!(square.rows[..square.n].iter().all(|row| row.len() == len), "rows have one length");
        (square.n > 2).then_some(square)
    }

    /// How many columns are whole squares.
    pub fn whole(&self) -> usize {
        self.rows[0].len() / LANES * LANES
    }

    /// `[whole][width]`
    pub fn floats(&self, width: usize, out: &mut [f32]) {
        // SAFETY: a `Square` exists only where these instructions were detected.
        unsafe { self.floats_512(width, out) }
    }

    /// `[whole / 2][width]` pairs, rounded to nearest.
    pub fn bf16_pairs(&self, isa: Isa, width: usize, out: &mut [u32]) {
        assert!(isa.has_bf16(), "bf16 products need their instruction");
        // SAFETY: asserted above.
        unsafe { self.bf16_pairs_512(width, out) }
    }

    /// Records of sixteen rows whose length is a multiple of 32.
    pub fn quants(&self, sums: Sums, out: &mut [i32]) {
        assert_eq!(self.n, LANES, "records of sixteen rows");
        // SAFETY: a `Square` exists only where these instructions were detected.
        unsafe { self.quants_512(sums, out) }
    }

    #[target_feature(enable = "avx512f,avx512dq")]
    fn floats_512(&self, width: usize, out: &mut [f32]) {
        for column in (0..self.whole()).step_by(LANES) {
            for (i, x) in self.turned(column).into_iter().enumerate() {
                let mut lanes = [0.0; LANES];
                // SAFETY: `lanes` is the 64 bytes that are stored.
                unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), x) };
                put(&lanes, width, &mut out[(column + i) * width..]);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    fn bf16_pairs_512(&self, width: usize, out: &mut [u32]) {
        for column in (0..self.whole()).step_by(LANES) {
            let x = self.turned(column);
            for i in 0..LANES / 2 {
                let lanes = pair(x[2 * i], x[2 * i + 1]);
                put(&lanes, width, &mut out[(column / 2 + i) * width..]);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vnni")]
    fn quants_512(&self, sums: Sums, out: &mut [i32]) {
        for (i, record) in out.as_chunks_mut::<{ RECORD * LANES }>().0.iter_mut().enumerate() {
            let x = [self.turned(32 * i), self.turned(32 * i + LANES)];
            let mut max = _mm512_setzero_ps();
            let mut check = _mm512_setzero_ps();
            for x in x.as_flattened() {
                let size = _mm512_abs_ps(*x);
                max = _mm512_max_ps(max, size);
                check = _mm512_add_ps(check, _mm512_sub_ps(size, size));
            }
            // What is not finite makes all 32 NaN: `∞ − ∞` is, and stays, one.
            let max = _mm512_add_ps(max, check);
            let scale = _mm512_div_ps(max, _mm512_set1_ps(127.0));
            let some = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(max, _mm512_setzero_ps());
            let factor = _mm512_maskz_div_ps(some, _mm512_set1_ps(127.0), max);
            let (words, _) = record.as_chunks_mut::<LANES>();
            let mut totals = [_mm512_setzero_si512(); 2];
            for j in 0..8 {
                let mut four = [_mm512_setzero_si512(); 4];
                for b in 0..4 {
                    let x = x[j / 4][4 * (j % 4) + b];
                    four[b] = _mm512_cvtps_epi32(_mm512_mul_ps(x, factor));
                }
                let bytes = low_bytes(four);
                totals[j / 4] = _mm512_dpbusd_epi32(totals[j / 4], _mm512_set1_epi8(1), bytes);
                // SAFETY: the words of sixteen tokens are the 64 bytes that are stored.
                unsafe { _mm512_storeu_si512(words[j].as_mut_ptr().cast(), bytes) };
            }
            let all = _mm512_add_epi32(totals[0], totals[1]);
            let times = |offset: u8, total| _mm512_mullo_epi32(_mm512_set1_epi32(-i32::from(offset)), total);
            let scaled = |total| _mm512_castps_si512(_mm512_mul_ps(_mm512_cvtepi32_ps(total), scale));
            let pair = match sums {
                Sums::Starts { offset, halves: false } => [times(offset, all), _mm512_setzero_si512()],
                Sums::Starts { offset, halves: true } => totals.map(|total| times(offset, total)),
                Sums::Scaled { halves: false } => [scaled(all), _mm512_setzero_si512()],
                Sums::Scaled { halves: true } => totals.map(scaled),
            };
            for (word, lanes) in [_mm512_castps_si512(scale), pair[0], pair[1]].into_iter().enumerate() {
                // SAFETY: the words of sixteen tokens are the 64 bytes that are stored.
                unsafe { _mm512_storeu_si512(words[8 + word].as_mut_ptr().cast(), lanes) };
            }
        }
    }

    /// Sixteen columns, a register each; rows that are not there are zeros.
    #[target_feature(enable = "avx512f,avx512dq")]
    #[inline]
    fn turned(&self, column: usize) -> [__m512; LANES] {
        let mut a = [_mm512_setzero_ps(); LANES];
        for (a, row) in a.iter_mut().zip(&self.rows[..self.n]) {
            // SAFETY: the sixteen numbers that are loaded lie in the slice.
            *a = unsafe { _mm512_loadu_ps(row[column..column + LANES].as_ptr()) };
        }
        turn(a)
    }
}

/// Stores the first `width` of sixteen lanes. Where there is room all are stored: whoever comes next overwrites the rest.
#[inline(always)]
fn put<T: Copy>(lanes: &[T; LANES], width: usize, out: &mut [T]) {
    match out.first_chunk_mut::<LANES>() {
        Some(out) => *out = *lanes,
        None => out[..width].copy_from_slice(&lanes[..width]),
    }
}

/// The lowest bytes of four vectors, lane by lane side by side.
#[target_feature(enable = "avx512f")]
#[inline]
fn low_bytes([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let byte = _mm512_set1_epi32(0xff);
    let low = _mm512_or_si512(_mm512_and_si512(a, byte), _mm512_slli_epi32::<8>(_mm512_and_si512(b, byte)));
    let c = _mm512_slli_epi32::<16>(_mm512_and_si512(c, byte));
    _mm512_or_si512(low, _mm512_or_si512(c, _mm512_slli_epi32::<24>(d)))
}

/// The order that puts number `i` beside number `16 + i`.
#[target_feature(enable = "avx512f")]
#[inline]
fn interleave() -> __m512i {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        order
    };
    // SAFETY: `ORDER` is the 64 bytes that are loaded.
    unsafe { _mm512_loadu_si512(ORDER.as_ptr().cast()) }
}

/// Sixteen registers turned: lane `i` of register `j` goes to lane `j` of register `i`.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn turn(mut a: [__m512; LANES]) -> [__m512; LANES] {
    let mut b = a;
    // Pairs of rows, then pairs of pairs, inside quarters of the registers; then the quarters themselves.
    for i in 0..8 {
        b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
    }
    for i in 0..4 {
        for j in 0..2 {
            let (x, y) = (_mm512_castps_pd(b[4 * i + j]), _mm512_castps_pd(b[4 * i + 2 + j]));
            a[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
            a[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
        }
    }
    for i in 0..4 {
        b[i] = _mm512_shuffle_f32x4::<0x88>(a[i], a[4 + i]);
        b[4 + i] = _mm512_shuffle_f32x4::<0xdd>(a[i], a[4 + i]);
        b[8 + i] = _mm512_shuffle_f32x4::<0x88>(a[8 + i], a[12 + i]);
        b[12 + i] = _mm512_shuffle_f32x4::<0xdd>(a[8 + i], a[12 + i]);
    }
    for i in 0..8 {
        a[i] = _mm512_shuffle_f32x4::<0x88>(b[i], b[8 + i]);
        a[8 + i] = _mm512_shuffle_f32x4::<0xdd>(b[i], b[8 + i]);
    }
    a
}

/// Rows for columns; `None` where these instructions are not there.
pub(super) fn turned(isa: Isa, square: &[[f32; LANES]; LANES]) -> Option<[[f32; LANES]; LANES]> {
    // SAFETY: an `Isa` of this level exists only where these instructions were detected.
    (isa.level() == Level::Avx512).then(|| unsafe { turned_512(square) })
}

#[target_feature(enable = "avx512f,avx512dq")]
fn turned_512(square: &[[f32; LANES]; LANES]) -> [[f32; LANES]; LANES] {
    let mut out = *square;
    let mut a = [_mm512_setzero_ps(); LANES];
    for (a, row) in a.iter_mut().zip(square) {
        // SAFETY: a row is the 64 bytes that are loaded.
        *a = unsafe { _mm512_loadu_ps(row.as_ptr()) };
    }
    for (a, row) in turn(a).into_iter().zip(&mut out) {
        // SAFETY: a row is the 64 bytes that are stored.
        unsafe { _mm512_storeu_ps(row.as_mut_ptr(), a) };
    }
    out
}

/// Some columns of a matrix with rows of `row_len`.
pub(super) struct Columns<'a> {
    pub x: &'a [f32],
    pub row_len: usize,
    pub first_row: usize,
    pub columns: std::ops::Range<usize>,
}

impl Columns<'_> {
    /// Rounds two rows at a time to pairs of bf16, `[pairs][width]`; `out` says how many. At most sixteen columns.
    pub fn pair_rows(&self, isa: Isa, width: usize, out: &mut [u32]) {
        assert!(isa.has_bf16(), "bf16 products need their instruction");
        assert!(self.columns.len() <= LANES && self.columns.end <= self.row_len, "columns of a register");
        // SAFETY: asserted above.
        unsafe { self.pair_rows_512(width, out) }
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16")]
    fn pair_rows_512(&self, width: usize, out: &mut [u32]) {
        let mask = ((1_u32 << self.columns.len()) - 1) as u16;
        for i in 0..out.len() / width {
            let load = |row: usize| {
                let row =
                    &self.x[(self.first_row + row) * self.row_len..][..self.row_len][self.columns.clone()];
                // SAFETY: the lanes that the mask names lie in the slice; the others are not read.
                unsafe { _mm512_maskz_loadu_ps(mask, row.as_ptr()) }
            };
            let lanes = pair(load(2 * i), load(2 * i + 1));
            put(&lanes, width, &mut out[i * width..]);
        }
    }
}

/// Sixteen pairs of bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn pair(even: __m512, odd: __m512) -> [u32; LANES] {
    // SAFETY: both are 64 bytes, and every bit pattern is a value of both.
    let halves: __m512i = unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(odd, even)) };
    // A number of the low half stands sixteen numbers before its partner.
    let pairs = _mm512_permutexvar_epi16(interleave(), halves);
    let mut lanes = [0; LANES];
    // SAFETY: `lanes` is the 64 bytes that are stored.
    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), pairs) };
    lanes
}
