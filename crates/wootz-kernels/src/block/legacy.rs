//! The first block formats: one scale, perhaps a minimum, and small integers of 1 to 8 bits.
//!
//! Where:  the `q?_0` and `q?_1` rows of the table in [`dequantize`](super::dequantize).
//! Idea:   `x = d·(q − offset)` or `x = d·q + m`. A byte holds numbers `i` and `i + 16` in its low and high half.
//! Source: ggml, `dequantize_row_q4_0` and its neighbours.

use super::{half_at, put_half};

/// f16 `d`, then one bit each: `−d` or `d`.
pub(super) fn q1_0(block: &[u8; 18], out: &mut [f32; 128]) {
    let d = half_at(block, 0);
    for (byte, out) in block[2..].iter().zip(out.as_chunks_mut::<8>().0) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = [-d, d][usize::from(byte >> i & 1)];
        }
    }
}

/// f16 `d`, then two bits each: −1, 0, 1 or 2 times `d`. Four neighbours share a byte.
pub(super) fn q2_0(block: &[u8; 18], out: &mut [f32; 64]) {
    let d = half_at(block, 0);
    for (byte, out) in block[2..].iter().zip(out.as_chunks_mut::<4>().0) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = (f32::from(byte >> (2 * i) & 3) - 1.0) * d;
        }
    }
}

/// f16 `d`, 16 bytes of nibbles.
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for i in 0..16 {
        let q = block[2 + i];
        out[i] = d * (f32::from(q & 15) - 8.0);
        out[i + 16] = d * (f32::from(q >> 4) - 8.0);
    }
}

/// f16 `d`, f16 `m`, 16 bytes of nibbles.
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for i in 0..16 {
        let q = block[4 + i];
        out[i] = d * f32::from(q & 15) + m;
        out[i + 16] = d * f32::from(q >> 4) + m;
    }
}

/// f16 `d`, 32 fifth bits, 16 bytes of nibbles.
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let q = five_bits(&block[2..]);
    for i in 0..32 {
        out[i] = d * (f32::from(q[i]) - 16.0);
    }
}

/// f16 `d`, f16 `m`, 32 fifth bits, 16 bytes of nibbles.
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let q = five_bits(&block[4..]);
    for i in 0..32 {
        out[i] = d * f32::from(q[i]) + m;
    }
}

/// f16 `d`, 32 signed bytes.
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (out, &q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(q.cast_signed()) * d;
    }
}

/// f16 `d`, f16 `d·Σq` (of use to products only), 32 signed bytes.
pub(super) fn q8_1(block: &[u8; 36], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (out, &q) in out.iter_mut().zip(&block[4..]) {
        *out = f32::from(q.cast_signed()) * d;
    }
}

/// The extreme number (the first of the largest magnitude) becomes −8.
pub(super) fn write_q4_0(x: &[f32; 32], block: &mut [u8; 18]) {
    let d = extreme(x) / -8.0;
    put_half(block, 0, d);
    let q = x.map(|x| ((x * inverse(d) + 8.5) as u8).min(15));
    put_nibbles(&mut block[2..], &q);
}

/// The smallest number becomes 0, the largest 15.
pub(super) fn write_q4_1(x: &[f32; 32], block: &mut [u8; 20]) {
    let (min, max) = range(x);
    let d = (max - min) / 15.0;
    put_half(block, 0, d);
    put_half(block, 2, min);
    let q = x.map(|x| (((x - min) * inverse(d) + 0.5) as u8).min(15));
    put_nibbles(&mut block[4..], &q);
}

/// The extreme number becomes −16.
pub(super) fn write_q5_0(x: &[f32; 32], block: &mut [u8; 22]) {
    let d = extreme(x) / -16.0;
    put_half(block, 0, d);
    let q = x.map(|x| ((x * inverse(d) + 16.5) as u8).min(31));
    put_five_bits(&mut block[2..], &q);
}

/// The smallest number becomes 0, the largest 31.
pub(super) fn write_q5_1(x: &[f32; 32], block: &mut [u8; 24]) {
    let (min, max) = range(x);
    let d = (max - min) / 31.0;
    put_half(block, 0, d);
    put_half(block, 2, min);
    let q = x.map(|x| (((x - min) * inverse(d) + 0.5) as u8).min(31));
    put_five_bits(&mut block[4..], &q);
}

/// The largest magnitude becomes 127; halves are rounded away from zero.
pub(super) fn write_q8_0(x: &[f32; 32], block: &mut [u8; 34]) {
    let d = extreme(x).abs() / 127.0;
    put_half(block, 0, d);
    for (q, x) in block[2..].iter_mut().zip(x) {
        *q = ((x * inverse(d)).round() as i8).cast_unsigned();
    }
}

/// Four bytes of fifth bits, bit `i` for number `i`, then nibbles.
fn five_bits(bytes: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| {
        let low = bytes[4 + i % 16] >> (4 * (i / 16)) & 15;
        let high = bytes[i / 8] >> (i % 8) & 1;
        low | high << 4
    })
}

fn put_five_bits(bytes: &mut [u8], q: &[u8; 32]) {
    for (byte, q) in bytes.iter_mut().zip(q.as_chunks::<8>().0) {
        *byte = (0..8).fold(0, |byte, i| byte | (q[i] >> 4) << i);
    }
    put_nibbles(&mut bytes[4..], q);
}

fn put_nibbles(bytes: &mut [u8], q: &[u8; 32]) {
    for i in 0..16 {
        bytes[i] = q[i] & 15 | q[i + 16] << 4;
    }
}

/// The first number of the largest magnitude, with its sign.
fn extreme(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |extreme: f32, &x| if x.abs() > extreme.abs() { x } else { extreme })
}

fn range(x: &[f32]) -> (f32, f32) {
    x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &x| (min.min(x), max.max(x)))
}

/// `1/d`, and 0 for a block of zeros.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}
