//! Ternary formats: −d, 0 or d, as BitNet's weights are.
//!
//! Where:  the `tq?_0` rows of the table in [`dequantize`](super::dequantize).
//! Idea:   a byte is a fraction of 256 whose base-3 digits are the numbers; multiplying by 3 moves the next digit out.
//! Source: ggml, `dequantize_row_tq1_0`; BitNet b1.58, Ma et al. 2024, arXiv:2402.17764.

use super::{half_at, put_half};

const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

/// 48 bytes of five digits, 4 bytes of four digits, f16 `d`. Digit `n` of a run of bytes comes before digit `n + 1`.
pub(super) fn tq1_0(block: &[u8; 54], out: &mut [f32; 256]) {
    let d = half_at(block, 52);
    let (first, rest) = out.split_at_mut(160);
    let (second, third) = rest.split_at_mut(80);
    digits(d, &block[..32], first);
    digits(d, &block[32..48], second);
    digits(d, &block[48..52], third);
}

/// 64 bytes of four 2-bit numbers, f16 `d`.
pub(super) fn tq2_0(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = half_at(block, 64);
    for (plane, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (bytes, shift) = (&block[32 * (plane / 4)..], 2 * (plane % 4));
        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = d * (f32::from(byte >> shift & 3) - 1.0);
        }
    }
}

/// The largest magnitude becomes ±1; halves are rounded away from zero.
pub(super) fn write_tq1_0(x: &[f32; 256], block: &mut [u8; 54]) {
    let (d, trits) = trits(x);
    put_digits(&trits[..160], &mut block[..32]);
    put_digits(&trits[160..240], &mut block[32..48]);
    put_digits(&trits[240..], &mut block[48..52]);
    put_half(block, 52, d);
}

/// As [`write_tq1_0`], in two bits each.
pub(super) fn write_tq2_0(x: &[f32; 256], block: &mut [u8; 66]) {
    let (d, trits) = trits(x);
    for (i, byte) in block[..64].iter_mut().enumerate() {
        let first = 128 * (i / 32) + i % 32;
        *byte = (0..4).fold(0, |byte, n| byte | trits[first + 32 * n] << (2 * n));
    }
    put_half(block, 64, d);
}

fn digits(d: f32, bytes: &[u8], out: &mut [f32]) {
    for (out, power) in out.chunks_exact_mut(bytes.len()).zip(POWERS) {
        for (out, byte) in out.iter_mut().zip(bytes) {
            let digit = (u16::from(byte.wrapping_mul(power)) * 3) >> 8;
            *out = d * (f32::from(digit) - 1.0);
        }
    }
}

/// Rounds the fraction up, so that moving digits out by multiplication is exact. A missing fifth digit is 0.
fn put_digits(trits: &[u8], bytes: &mut [u8]) {
    let stride = bytes.len();
    for (i, byte) in bytes.iter_mut().enumerate() {
        let number = (0..5)
            .fold(0u16, |number, n| number * 3 + u16::from(trits.get(i + n * stride).copied().unwrap_or(0)));
        *byte = (number * 256).div_ceil(243) as u8;
    }
}

/// The scale, and 0, 1 or 2 for each number.
fn trits(x: &[f32; 256]) -> (f32, [u8; 256]) {
    let d = x.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    (d, x.map(|x| ((x * inverse).round().clamp(-1.0, 1.0) + 1.0) as u8))
}
