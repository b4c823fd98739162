//! k-quants: 256 numbers in groups of 16 or 32, whose scales are themselves small integers under one f16 scale.
//!
//! Where:  the `q?_k` rows of the table in [`dequantize`](super::dequantize).
//! Idea:   `x = (d·scale)·q − (dmin·min)`. Bits of one number are spread over planes so that SIMD can shift them together.
//! Source: ggml, `dequantize_row_q2_K` and its neighbours.

use super::half_at;

/// 16 bytes (scale, min in nibbles), 64 bytes of 2-bit numbers, f16 `d`, f16 `dmin`. Groups of 16.
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, low) = (&block[..16], &block[16..80]);
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[group] & 15);
        let min = dmin * f32::from(scales[group] >> 4);
        let plane = two_bits(low, group);
        for i in 0..16 {
            out[i] = scale * f32::from(plane[i]) - min;
        }
    }
}

/// 32 bytes of third bits, 64 bytes of 2-bit numbers, 12 bytes of 6-bit scales, f16 `d`. Groups of 16.
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (high, low, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half_at(block, 108);
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale_low = scales[group % 8] >> (4 * (group / 8)) & 15;
        let scale_high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
        let scale = d * (f32::from(scale_low | scale_high << 4) - 32.0);
        let plane = two_bits(low, group);
        for i in 0..16 {
            let third = high[16 * (group % 2) + i] >> (group / 2) & 1;
            out[i] = scale * (f32::from(plane[i] | third << 2) - 4.0);
        }
    }
}

/// f16 `d`, f16 `dmin`, 12 bytes of 6-bit scales and mins, 128 bytes of nibbles. Groups of 32.
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, low) = (&block[4..16], &block[16..]);
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(scales, group);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        for (out, q) in out.iter_mut().zip(&low[32 * (group / 2)..]) {
            *out = scale * f32::from(q >> (4 * (group % 2)) & 15) - min;
        }
    }
}

/// As [`q4_k`], with 32 bytes of fifth bits before the nibbles.
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, high, low) = (&block[4..16], &block[16..48], &block[48..]);
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(scales, group);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        for ((out, low), high) in out.iter_mut().zip(&low[32 * (group / 2)..]).zip(high) {
            let q = low >> (4 * (group % 2)) & 15 | (high >> group & 1) << 4;
            *out = scale * f32::from(q) - min;
        }
    }
}

/// 128 bytes of nibbles, 64 bytes of fifth and sixth bits, 16 signed scales, f16 `d`. Groups of 16.
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[group].cast_signed());
        let (half, quarter, odd) = (group / 8, group / 2 % 4, group % 2);
        let low = &low[64 * half + 32 * (quarter % 2) + 16 * odd..];
        let high = &high[32 * half + 16 * odd..];
        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
            let q = low >> (4 * (quarter / 2)) & 15 | (high >> (2 * quarter) & 3) << 4;
            *out = scale * (f32::from(q) - 32.0);
        }
    }
}

/// f32 `d`, 256 signed bytes, 16 sums of 16 (of use to products only).
pub(super) fn q8_k(block: &[u8; 292], out: &mut [f32; 256]) {
    let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    for (out, &q) in out.iter_mut().zip(&block[4..260]) {
        *out = d * f32::from(q.cast_signed());
    }
}

/// The 2-bit numbers of a group of 16: each half of 128 numbers has 32 bytes, and two groups share a bit position.
fn two_bits(low: &[u8], group: usize) -> [u8; 16] {
    let first = 32 * (group / 8) + 16 * (group % 2);
    let shift = 2 * (group / 2 % 4);
    std::array::from_fn(|i| low[first + i] >> shift & 3)
}

/// The 6-bit scale and min of one of eight groups. The last four have their upper bits above the first four's.
fn scale_and_min(scales: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        (scales[group] & 63, scales[group + 4] & 63)
    } else {
        let low = scales[group + 4];
        (low & 15 | (scales[group - 4] >> 6) << 4, low >> 4 | (scales[group] >> 6) << 4)
    }
}
