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
    out[0] = f16::from_le_bytes(*block).to_f32();
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
