//! Micro-scaling floats: 4-bit floats (E2M1) under a shared 8-bit scale.
//!
//! Where:  the `mxfp4` and `nvfp4` rows of the table in [`dequantize`](super::dequantize).
//! Idea:   the table holds twice the float's value, and the scale is half of what the format says: both stay exact.
//! Source: OCP Microscaling Formats v1.0, §5; ggml, `dequantize_row_mxfp4`, `dequantize_row_nvfp4`.

/// Twice the values of E2M1: 0, ½, 1, 1½, 2, 3, 4, 6 and their negatives (negative zero is zero).
const TWICE_E2M1: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// An exponent byte, 16 bytes of E2M1 in nibbles.
pub(super) fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let scale = half_e8m0(block[0]);
    for i in 0..16 {
        let q = block[1 + i];
        out[i] = scale * TWICE_E2M1[usize::from(q & 15)];
        out[i + 16] = scale * TWICE_E2M1[usize::from(q >> 4)];
    }
}

/// Four scales in unsigned E4M3, then four groups of 16 numbers in 8 bytes each.
pub(super) fn nvfp4(block: &[u8; 36], out: &mut [f32; 64]) {
    let (scales, groups) = block.split_at(4);
    for ((scale, group), out) in scales.iter().zip(groups.as_chunks::<8>().0).zip(out.as_chunks_mut::<16>().0)
    {
        let scale = half_e4m3(*scale);
        for (i, q) in group.iter().enumerate() {
            out[i] = scale * TWICE_E2M1[usize::from(q & 15)];
            out[i + 8] = scale * TWICE_E2M1[usize::from(q >> 4)];
        }
    }
}

/// The exponent puts the largest magnitude into [4, 8); each number goes to the nearest value, ties to the earlier code.
pub(super) fn write_mxfp4(x: &[f32; 32], block: &mut [u8; 17]) {
    let max = x.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
    // COMPAT: rounded to f32 before the floor, so that a number just below a power of two counts as that power.
    let log2 = f64::from(max).log2() as f32;
    block[0] = if max > 0.0 { (log2.floor() + 125.0) as u8 } else { 0 };
    let scale = half_e8m0(block[0]);
    let codes = x.map(|x| nearest(x, scale));
    for i in 0..16 {
        block[1 + i] = codes[i] | codes[i + 16] << 4;
    }
}

fn nearest(x: f32, scale: f32) -> u8 {
    let distance = |code: u8| (scale * TWICE_E2M1[usize::from(code)] - x).abs();
    (1..16).fold(0, |best, code| if distance(code) < distance(best) { code } else { best })
}

/// `2^(e − 128)`, half of what the exponent byte says.
fn half_e8m0(e: u8) -> f32 {
    match e {
        0 | 1 => f32::from_bits(0x0020_0000 << e), // below the smallest normal f32
        _ => f32::from_bits(u32::from(e - 1) << 23),
    }
}

/// Half of an unsigned E4M3 of bias 7. The NaN code is 0; a sign bit is ignored.
fn half_e4m3(x: u8) -> f32 {
    if x == 0x7f {
        return 0.0; // COMPAT: as ggml reads it
    }
    let (exponent, mantissa) = (u32::from(x >> 3 & 15), f32::from(x & 7));
    match exponent {
        0 => mantissa / 1024.0,
        _ => (1.0 + mantissa / 8.0) * f32::from_bits((exponent + 127 - 8) << 23),
    }
}
