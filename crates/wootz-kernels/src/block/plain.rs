//! Types of one number per block: IEEE floats, bfloat16 and integers, little-endian.
//!
//! Where:  the plain rows of the table in [`dequantize`](super::dequantize).
//! Idea:   the nearest f32; integers and doubles lose what an f32 cannot hold.

use half::{bf16, f16};

pub(super) fn f64(block: &[u8; 8], out: &mut [f32; 1]) {
    out[0] = f64::from_le_bytes(*block) as f32;
}

pub(super) fn f32(block: &[u8; 4], out: &mut [f32; 1]) {
    out[0] = f32::from_le_bytes(*block);
}

pub(super) fn f16(block: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = widened(u16::from_le_bytes(*block));
}

pub(super) fn bf16(block: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*block)) << 16);
}

pub(super) fn i8(block: &[u8; 1], out: &mut [f32; 1]) {
    out[0] = f32::from(i8::from_le_bytes(*block));
}

pub(super) fn i16(block: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = f32::from(i16::from_le_bytes(*block));
}

pub(super) fn i32(block: &[u8; 4], out: &mut [f32; 1]) {
    out[0] = i32::from_le_bytes(*block) as f32;
}

pub(super) fn i64(block: &[u8; 8], out: &mut [f32; 1]) {
    out[0] = i64::from_le_bytes(*block) as f32;
}

pub(super) fn write_f64(x: &[f32; 1], block: &mut [u8; 8]) {
    *block = f64::from(x[0]).to_le_bytes();
}

pub(super) fn write_f32(x: &[f32; 1], block: &mut [u8; 4]) {
    *block = x[0].to_le_bytes();
}

pub(super) fn write_f16(x: &[f32; 1], block: &mut [u8; 2]) {
    *block = f16::from_f32(x[0]).to_le_bytes();
}

pub(super) fn write_bf16(x: &[f32; 1], block: &mut [u8; 2]) {
    *block = bf16::from_f32(x[0]).to_le_bytes();
}

/// An f16 as f32, without a branch, so that a row of them is converted by SIMD.
///
/// The exponent is moved into place and its bias corrected; a subnormal gets an exponent that is subtracted again, which
/// is exact. PERF: `half`'s conversion asks for the CPU's features each time, 336 M numbers/s.
fn widened(bits: u16) -> f32 {
    const BIAS: u32 = (127 - 15) << 23;
    const SMALLEST_NORMAL: u32 = BIAS + (1 << 23);
    let (sign, shifted) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff) << 13);
    let subnormal = f32::from_bits(shifted + SMALLEST_NORMAL) - f32::from_bits(SMALLEST_NORMAL);
    let magnitude = match bits & 0x7c00 {
        0 => subnormal.to_bits(),
        0x7c00 => shifted + 2 * BIAS, // infinities and NaNs
        _ => shifted + BIAS,
    };
    f32::from_bits(magnitude | sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let (got, expected) = (widened(bits), f16::from_bits(bits).to_f32());
            let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
            assert!(same, "{bits:#06x}: {got} for {expected}");
        }
    }
}
