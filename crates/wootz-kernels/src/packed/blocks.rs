//! How the file's blocks split into unsigned quants and scales, for the types that are multiplied as integers.
//!
//! Where:  packing of [`PackedMatrix`](super::PackedMatrix), row by row.
//! Idea:   every type is `scale·(q − offset) − min` with `q` unsigned of some bits; only where bits and scales lie differs.
//! Source: ggml's block structures.
//! Elsewhere: the definition that this is tested against ([`dequantize`](crate::dequantize)).

use crate::TensorType;

/// How a type is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub quants: Quants,
    pub scales: Scales,
    /// What is taken from every quant.
    pub offset: u8,
}

/// How many bits a quant has, or which table of bytes 4 bits lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quants {
    Bits2,
    Bits3,
    Bits4,
    Bits5,
    Bits6,
    Bits8,
    Table(&'static [u8; 16]),
}

/// Which scales a record of sixteen rows holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scales {
    /// Per 32: f16.
    F16,
    /// Per 32: bf16.
    Bf16,
    /// Per 32: f16 scale, f16 that is added.
    F16Min,
    /// Per 256: f16.
    Wide,
    /// Per 256: f16 scale, f16 minimum; per 32: 6-bit multiples of both.
    SuperMin,
    /// Per 256: f16; per 32: a signed multiple, 128 added.
    Super,
    /// Per 256: f16; per 16: a signed multiple, 128 added.
    SuperHalves,
    /// Per 256: f16 scale, f16 minimum; per 16: 4-bit multiples of both in one byte.
    SuperHalvesMin,
}

impl Scales {
    /// Bytes of a record of sixteen rows.
    pub const fn bytes(self) -> usize {
        match self {
            Scales::F16 | Scales::Bf16 | Scales::Wide => 32,
            Scales::F16Min => 64,
            Scales::SuperMin => 64 + 256,
            Scales::Super => 32 + 128,
            Scales::SuperHalves => 32 + 256,
            Scales::SuperHalvesMin => 64 + 256,
        }
    }

    /// Sub-blocks of 32 that share a record.
    pub const fn group(self) -> usize {
        match self {
            Scales::F16 | Scales::Bf16 | Scales::F16Min => 1,
            _ => 8,
        }
    }

    /// Whether scales change every 16 numbers.
    pub const fn halves(self) -> bool {
        matches!(self, Scales::SuperHalves | Scales::SuperHalvesMin)
    }
}

impl Quants {
    /// Bits that are stored.
    pub const fn bits(self) -> usize {
        match self {
            Quants::Bits2 => 2,
            Quants::Bits3 => 3,
            Quants::Bits4 | Quants::Table(_) => 4,
            Quants::Bits5 => 5,
            Quants::Bits6 => 6,
            Quants::Bits8 => 8,
        }
    }
}

/// IQ4_NL's sixteen values, 128 added.
const NON_LINEAR: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];
/// Twice the sixteen values of a 4-bit float, 12 added.
const FLOAT4: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

/// How `ty` is multiplied as integers, if it is.
pub(crate) fn shape(ty: TensorType) -> Option<Shape> {
    let (quants, scales, offset) = match ty {
        TensorType::Q4_0 => (Quants::Bits4, Scales::F16, 8),
        TensorType::Q4_1 => (Quants::Bits4, Scales::F16Min, 0),
        TensorType::Q5_0 => (Quants::Bits5, Scales::F16, 16),
        TensorType::Q5_1 => (Quants::Bits5, Scales::F16Min, 0),
        TensorType::Q8_0 => (Quants::Bits8, Scales::F16, 128),
        TensorType::Q2_K => (Quants::Bits2, Scales::SuperHalvesMin, 0),
        TensorType::Q3_K => (Quants::Bits3, Scales::SuperHalves, 4),
        TensorType::Q4_K => (Quants::Bits4, Scales::SuperMin, 0),
        TensorType::Q5_K => (Quants::Bits5, Scales::SuperMin, 0),
        TensorType::Q6_K => (Quants::Bits6, Scales::SuperHalves, 32),
        TensorType::IQ4_NL => (Quants::Table(&NON_LINEAR), Scales::F16, 128),
        TensorType::IQ4_XS => (Quants::Table(&NON_LINEAR), Scales::Super, 128),
        TensorType::MXFP4 => (Quants::Table(&FLOAT4), Scales::Bf16, 12),
        TensorType::TQ1_0 | TensorType::TQ2_0 => (Quants::Bits2, Scales::Wide, 1),
        _ => return None,
    };
    Some(Shape { quants, scales, offset })
}

/// Quants of one block as they are stored, `block_len` of them.
pub(super) fn quants(ty: TensorType, block: &[u8], out: &mut [u8]) {
    match ty {
        TensorType::Q4_0 | TensorType::IQ4_NL => nibbles(&block[2..], 16, out),
        TensorType::Q4_1 => nibbles(&block[4..], 16, out),
        TensorType::MXFP4 => nibbles(&block[1..], 16, out),
        TensorType::Q5_0 => nibbles_and_bits(&block[6..], &block[2..6], out),
        TensorType::Q5_1 => nibbles_and_bits(&block[8..], &block[4..8], out),
        TensorType::Q8_0 => out.iter_mut().zip(&block[2..]).for_each(|(o, b)| *o = b ^ 0x80),
        TensorType::Q2_K => pairs(&block[16..80], out),
        TensorType::Q3_K => {
            pairs(&block[32..96], out);
            add_bits(&block[..32], 2, out);
        }
        TensorType::Q4_K => nibbles(&block[16..144], 32, out),
        TensorType::Q5_K => {
            nibbles(&block[48..176], 32, out);
            add_bits(&block[16..48], 4, out);
        }
        TensorType::Q6_K => {
            let (low, high) = (&block[..128], &block[128..192]);
            for (quarter, out) in out.chunks_exact_mut(32).enumerate() {
                let (half, quarter) = (quarter / 4, quarter % 4);
                let low = &low[64 * half + 32 * (quarter % 2)..];
                for ((o, low), high) in out.iter_mut().zip(low).zip(&high[32 * half..]) {
                    *o = low >> (4 * (quarter / 2)) & 15 | (high >> (2 * quarter) & 3) << 4;
                }
            }
        }
        TensorType::IQ4_XS => nibbles(&block[8..136], 16, out),
        TensorType::TQ2_0 => pairs(&block[..64], out),
        TensorType::TQ1_0 => trits(block, out),
        _ => unreachable!("{ty} is not multiplied as integers"),
    }
}

/// Each `width` bytes hold that many low nibbles, then that many high ones.
fn nibbles(bytes: &[u8], width: usize, out: &mut [u8]) {
    for (bytes, out) in bytes.chunks_exact(width).zip(out.chunks_exact_mut(2 * width)) {
        let (low, high) = out.split_at_mut(width);
        for ((b, l), h) in bytes.iter().zip(low).zip(high) {
            (*l, *h) = (b & 15, b >> 4);
        }
    }
}

fn nibbles_and_bits(bytes: &[u8], bits: &[u8], out: &mut [u8]) {
    nibbles(bytes, 16, out);
    out.iter_mut().enumerate().for_each(|(i, o)| *o |= (bits[i / 8] >> (i % 8) & 1) << 4);
}

/// Each 32 bytes hold 32 numbers in each pair of bits, lowest first.
fn pairs(bytes: &[u8], out: &mut [u8]) {
    for (bytes, out) in bytes.chunks_exact(32).zip(out.chunks_exact_mut(128)) {
        for (quarter, out) in out.chunks_exact_mut(32).enumerate() {
            out.iter_mut().zip(bytes).for_each(|(o, b)| *o = b >> (2 * quarter) & 3);
        }
    }
}

/// 32 bytes hold one bit for every 32 numbers, lowest first; it becomes bit `place`.
fn add_bits(bytes: &[u8], place: u32, out: &mut [u8]) {
    for (i, out) in out.chunks_exact_mut(32).enumerate() {
        out.iter_mut().zip(bytes).for_each(|(o, b)| *o |= (b >> i & 1) << place);
    }
}

/// Five ternary digits a byte, as a fraction of 256; digit `n` shows after multiplying by `3ⁿ`.
fn trits(block: &[u8], out: &mut [u8]) {
    let digit = |byte: u8, n: usize| {
        let shifted = byte.wrapping_mul([1, 3, 9, 27, 81][n]);
        ((u16::from(shifted) * 3) >> 8) as u8
    };
    for (i, o) in out.iter_mut().enumerate() {
        *o = match i {
            0..160 => digit(block[i % 32], i / 32),
            160..240 => digit(block[32 + i % 16], (i - 160) / 16),
            _ => digit(block[48 + i % 4], (i - 240) / 4),
        };
    }
}

/// Writes one row's scales of one block to its places in a record.
pub(super) fn scales(ty: TensorType, block: &[u8], lane: usize, record: &mut [u8]) {
    let (wide, bytes) = record.split_at_mut(match shape(ty).map(|shape| shape.scales) {
        Some(Scales::F16Min | Scales::SuperMin | Scales::SuperHalvesMin) => 64,
        _ => 32,
    });
    let mut put = |index: usize, half: [u8; 2]| wide[index * 32 + lane * 2..][..2].copy_from_slice(&half);
    let at = |i: usize| [block[i], block[i + 1]];
    match ty {
        TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0 | TensorType::IQ4_NL => put(0, at(0)),
        TensorType::Q4_1 | TensorType::Q5_1 => {
            put(0, at(0));
            put(1, at(2));
        }
        TensorType::MXFP4 => {
            // Half the block's power of two, since the table holds twice the values. The lowest two are subnormal.
            let bits = if block[0] < 2 { 0x40 << block[0] } else { u16::from(block[0] - 1) << 7 };
            put(0, bits.to_le_bytes());
        }
        TensorType::TQ1_0 => put(0, at(52)),
        TensorType::TQ2_0 => put(0, at(64)),
        TensorType::Q2_K => {
            put(0, at(80));
            put(1, at(82));
            (0..16).for_each(|i| bytes[i * 16 + lane] = block[i]);
        }
        TensorType::Q3_K => {
            put(0, at(108));
            for i in 0..16 {
                let low = block[96 + i % 8] >> (4 * (i / 8)) & 15;
                let high = block[104 + i % 4] >> (2 * (i / 4)) & 3;
                bytes[i * 16 + lane] = (low | high << 4) + 128 - 32;
            }
        }
        TensorType::Q4_K | TensorType::Q5_K => {
            put(0, at(0));
            put(1, at(2));
            let s = &block[4..16];
            for i in 0..8 {
                let (scale, min) = if i < 4 {
                    (s[i] & 63, s[i + 4] & 63)
                } else {
                    (s[i + 4] & 15 | s[i - 4] >> 6 << 4, s[i + 4] >> 4 | s[i] >> 6 << 4)
                };
                bytes[i * 16 + lane] = scale;
                bytes[128 + i * 16 + lane] = min;
            }
        }
        TensorType::Q6_K => {
            put(0, at(208));
            (0..16).for_each(|i| bytes[i * 16 + lane] = block[192 + i] ^ 0x80);
        }
        TensorType::IQ4_XS => {
            put(0, at(0));
            let high = u16::from_le_bytes(at(2));
            for i in 0..8 {
                let low = block[4 + i / 2] >> (4 * (i % 2)) & 15;
                bytes[i * 16 + lane] = (low | ((high >> (2 * i) & 3) as u8) << 4) + 128 - 32;
            }
        }
        _ => unreachable!("{ty} is not multiplied as integers"),
    }
}
