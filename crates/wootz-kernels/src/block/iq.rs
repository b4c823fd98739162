//! "i-quants": numbers that are looked up, in a lattice of eight or four at a time or in a table of sixteen.
//!
//! Where:  the `iq*` rows of the table in [`dequantize`](super::dequantize).
//! Idea:   a group's numbers are `scale · point`, a lattice point's index and eight signs cost 8 to 19 bits together.
//! Source: ggml, `dequantize_row_iq2_xxs` and its neighbours.
//! Elsewhere: the lattices ([`iq_grid`](super::iq_grid)).

use super::half_at;
use super::iq_grid::{IQ1, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};

const IQ4: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

/// How far the points of the 1-bit formats are shifted, up or down.
const IQ1_SHIFT: f32 = 0.125;

/// f16 `d`; per 32 numbers: four indices of 8 bits, then four times 7 signs and a 4-bit scale.
pub(super) fn iq2_xxs(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    for (group, out) in block[2..].as_chunks::<8>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        let word = u32::from_le_bytes([group[4], group[5], group[6], group[7]]);
        let scale = d * (0.5 + (word >> 28) as f32) * 0.25;
        for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let signs = eighth_sign(word >> (7 * i));
            *out = signed(scale, &IQ2_XXS[usize::from(group[i])], signs);
        }
    }
}

/// f16 `d`; 32 times an index of 9 bits and 7 signs; 8 bytes of scales, two nibbles per 32 numbers.
pub(super) fn iq2_xs(block: &[u8; 74], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let code = u16_at(block, 2 + 2 * i);
        let scale = d * (0.5 + f32::from(nibble(&block[66..], i / 2))) * 0.25;
        *out = signed(scale, &IQ2_XS[usize::from(code & 511)], eighth_sign(u32::from(code >> 9)));
    }
}

/// f16 `d`; 32 low bytes of indices; 32 bytes of signs; 8 bytes of upper index bits; 8 bytes of scales.
pub(super) fn iq2_s(block: &[u8; 82], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let (low, signs, high, scales) = (&block[2..34], &block[34..66], &block[66..74], &block[74..]);
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = high[i / 4] >> (2 * (i % 4)) & 3;
        let scale = d * (0.5 + f32::from(nibble(scales, i / 2))) * 0.25;
        *out = signed(scale, &IQ2_S[index(low[i], high)], signs[i]);
    }
}

/// f16 `d`; 64 indices; per 32 numbers a word of four times 7 signs and a 4-bit scale.
pub(super) fn iq3_xxs(block: &[u8; 98], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let (indices, words) = block[2..].split_at(64);
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let word = u32::from_le_bytes(words.as_chunks::<4>().0[i / 4]);
        let scale = d * (0.5 + (word >> 28) as f32) * 0.5;
        let signs = eighth_sign(word >> (7 * (i % 4)));
        let point = join(IQ3_XXS[usize::from(indices[2 * i])], IQ3_XXS[usize::from(indices[2 * i + 1])]);
        *out = signed(scale, &point, signs);
    }
}

/// f16 `d`; 64 low bytes of indices; 8 bytes of their ninth bits; 32 bytes of signs; 4 bytes of scales.
pub(super) fn iq3_s(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let (low, high, signs, scales) = (&block[2..66], &block[66..74], &block[74..106], &block[106..]);
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = high[i / 4] >> (2 * (i % 4));
        let scale = d * (1.0 + 2.0 * f32::from(nibble(scales, i / 4)));
        let point = join(IQ3_S[index(low[2 * i], high & 1)], IQ3_S[index(low[2 * i + 1], high >> 1 & 1)]);
        *out = signed(scale, &point, signs[i]);
    }
}

/// f16 `d`; 32 low bytes of indices; per 32 numbers a word of four times 3 upper bits, 3 bits of scale and the shift's sign.
pub(super) fn iq1_s(block: &[u8; 50], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let low = &block[2..34];
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let word = u16_at(block, 34 + 2 * (i / 4));
        let scale = d * f32::from(2 * (word >> 12 & 7) + 1);
        let high = (word >> (3 * (i % 4)) & 7) as u8;
        *out = shifted(scale, &IQ1[index(low[i], high)], word >> 15 != 0);
    }
}

/// 32 low bytes of indices; 16 bytes of nibbles (3 upper bits, the shift's sign); four words of four times 3 bits of
/// scale, whose upper nibbles together are the f16 `d`.
pub(super) fn iq1_m(block: &[u8; 56], out: &mut [f32; 256]) {
    let (low, high) = (&block[..32], &block[32..48]);
    let words: [u16; 4] = std::array::from_fn(|i| u16_at(block, 48 + 2 * i));
    let d = words[0] >> 12 | words[1] >> 8 & 0x00f0 | words[2] >> 4 & 0x0f00 | words[3] & 0xf000;
    let d = half::f16::from_bits(d).to_f32();
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let scale = d * f32::from(2 * (words[i / 8] >> (3 * (i / 2 % 4)) & 7) + 1);
        let high = nibble(high, i);
        *out = shifted(scale, &IQ1[index(low[i], high & 7)], high >> 3 != 0);
    }
}

/// f16 `d`, 16 bytes of nibbles into the table.
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    from_table(d, &block[2..], out);
}

/// f16 `d`; the upper two bits of eight 6-bit scales, their lower nibbles; nibbles into the table.
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let high = u16_at(block, 2);
    for (i, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = nibble(&block[4..8], i) | ((high >> (2 * i) & 3) as u8) << 4;
        from_table(d * (f32::from(scale) - 32.0), &block[8 + 16 * i..24 + 16 * i], out);
    }
}

fn from_table(scale: f32, nibbles: &[u8], out: &mut [f32; 32]) {
    for (i, q) in nibbles.iter().enumerate() {
        out[i] = scale * IQ4[usize::from(q & 15)];
        out[i + 16] = scale * IQ4[usize::from(q >> 4)];
    }
}

/// `scale · point`, negated where the bit of `signs` is set.
fn signed(scale: f32, point: &[u8; 8], signs: u8) -> [f32; 8] {
    std::array::from_fn(|i| {
        let magnitude = scale * f32::from(point[i]);
        f32::from_bits(magnitude.to_bits() ^ u32::from(signs >> i & 1) << 31)
    })
}

fn shifted(scale: f32, point: &[i8; 8], down: bool) -> [f32; 8] {
    let shift = if down { -IQ1_SHIFT } else { IQ1_SHIFT };
    std::array::from_fn(|i| scale * (f32::from(point[i]) + shift))
}

/// Seven signs and the eighth, which makes the number of set bits even.
fn eighth_sign(word: u32) -> u8 {
    let signs = (word & 127) as u8;
    signs | ((signs.count_ones() & 1) as u8) << 7
}

fn index(low: u8, high: u8) -> usize {
    usize::from(low) | usize::from(high) << 8
}

fn join(a: [u8; 4], b: [u8; 4]) -> [u8; 8] {
    std::array::from_fn(|i| if i < 4 { a[i] } else { b[i - 4] })
}

/// The `i`-th nibble, low half first.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 2] >> (4 * (i % 2)) & 15
}

fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}
