//! Panels of quantized rows: bit planes and scales in the order in which integer dot products want them.
//!
//! Where:  the layout of quantized matrices in [`Precision::Fast`](crate::Precision).
//! Idea:   32 inputs of sixteen rows are eight vectors of 64 bytes, each with four inputs of every row. Four-bit planes hold two
//!         vectors in one, two-bit planes four, one-bit planes eight; a few shifts and masks bring them back.
//!         Scales stand right before the planes that they scale: a core that reads one stream in order gets twice the bandwidth
//!         of one that reads planes here and scales there.
//! Elsewhere: the file's blocks ([`blocks`](super::blocks)).

use half::{bf16, f16};

use super::blocks::{self, Quants, Scales, Shape};
use crate::isa::Kernel;
use crate::simd::{LANES, Simd};
use crate::{Isa, TensorType};

/// Bytes of the scales and planes of inputs that share a record, and how many times 32 inputs that is.
pub(crate) const fn group_bytes(shape: Shape) -> (usize, usize) {
    let group = shape.scales.group();
    (shape.scales.bytes() + group * 64 * shape.quants.bits(), group)
}

/// Bytes of a panel.
pub(super) fn panel_bytes(shape: Shape, k: usize) -> usize {
    let (bytes, group) = group_bytes(shape);
    (k / 32 / group * bytes).next_multiple_of(64)
}

/// Packs up to sixteen rows of a file.
pub(super) fn pack_panel(ty: TensorType, shape: Shape, k: usize, rows: &[u8], panel: &mut [u8]) {
    let (block_len, block_bytes) = (ty.block_len(), ty.block_bytes());
    let row_bytes = ty.row_bytes(k).expect("checked in `pack`");
    let (group_bytes, group) = group_bytes(shape);
    assert_eq!(group * 32, block_len, "a block is what shares a record");
    let mut quants = [[0; 256]; LANES];
    for (i, group) in panel.chunks_exact_mut(group_bytes).take(k / block_len).enumerate() {
        let (record, planes) = group.split_at_mut(shape.scales.bytes());
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            let block = &row[i * block_bytes..(i + 1) * block_bytes];
            blocks::scales(ty, block, lane, record);
            blocks::quants(ty, block, &mut quants[lane][..block_len]);
        }
        for (j, planes) in planes.chunks_exact_mut(64 * shape.quants.bits()).enumerate() {
            put(shape.quants, &four_inputs_each(&quants, j), planes.as_chunks_mut::<64>().0);
        }
    }
}

/// A vector of four inputs of every row, as words.
type Vector = [u32; LANES];

/// The eight vectors of sub-block `j`.
fn four_inputs_each(quants: &[[u8; 256]; LANES], j: usize) -> [Vector; 8] {
    let mut out = [[0; LANES]; 8];
    for (lane, row) in quants.iter().enumerate() {
        for (i, four) in row[32 * j..32 * j + 32].as_chunks::<4>().0.iter().enumerate() {
            out[i][lane] = u32::from_le_bytes(*four);
        }
    }
    out
}

/// Byte of input `k` of a row inside a vector of four inputs.
const fn byte(lane: usize, k: usize) -> usize {
    lane * 4 + k % 4
}

/// Puts 32 quants of sixteen rows into the planes.
fn put(kind: Quants, v: &[Vector; 8], planes: &mut [[u8; 64]]) {
    match kind {
        Quants::Bits8 => put_plane::<8>(v, 0, planes),
        Quants::Bits4 | Quants::Table(_) => put_plane::<4>(v, 0, planes),
        Quants::Bits2 => put_plane::<2>(v, 0, planes),
        Quants::Bits3 => {
            put_plane::<2>(v, 0, planes);
            put_plane::<1>(v, 2, &mut planes[2..]);
        }
        Quants::Bits5 => {
            put_plane::<4>(v, 0, planes);
            put_plane::<1>(v, 4, &mut planes[4..]);
        }
        Quants::Bits6 => {
            put_plane::<4>(v, 0, planes);
            put_plane::<2>(v, 4, &mut planes[4..]);
        }
    }
}

/// `N` bits of every quant, from bit `shift` on, as `N` vectors: vector `i` of eight goes to vector `i % N`.
fn put_plane<const N: usize>(v: &[Vector; 8], shift: u32, planes: &mut [[u8; 64]]) {
    let mask = 0x0101_0101 * ((1 << N) - 1) as u32;
    for (i, plane) in planes[..N].iter_mut().enumerate() {
        let mut words = [0_u32; LANES];
        for (part, v) in v.iter().skip(i).step_by(N).enumerate() {
            for (word, v) in words.iter_mut().zip(v) {
                *word |= (v >> shift & mask) << (part * N);
            }
        }
        for (bytes, word) in plane.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
    }
}

/// Gets quant `k` of 32 back.
fn get(kind: Quants, lane: usize, k: usize, planes: &[u8]) -> u8 {
    let four = |planes: &[u8]| planes[k / 4 % 4 * 64 + byte(lane, k)] >> (k / 16 * 4) & 15;
    let two = |planes: &[u8]| planes[k / 4 % 2 * 64 + byte(lane, k)] >> (k / 8 * 2) & 3;
    let one = |planes: &[u8]| planes[byte(lane, k)] >> (k / 4) & 1;
    match kind {
        Quants::Bits8 => planes[k / 4 * 64 + byte(lane, k)],
        Quants::Bits4 => four(planes),
        Quants::Table(table) => table[usize::from(four(planes))],
        Quants::Bits2 => two(planes),
        Quants::Bits3 => two(planes) | one(&planes[128..]) << 2,
        Quants::Bits5 => four(planes) | one(&planes[256..]) << 4,
        Quants::Bits6 => four(planes) | two(&planes[256..]) << 4,
    }
}

/// One row of a panel as numbers, from `first` on: the plain reader of this layout.
pub(super) fn part_of_panel(shape: Shape, panel: &[u8], lane: usize, first: usize, out: &mut [f32]) {
    let plane_bytes = 64 * shape.quants.bits();
    let (group_bytes, group) = group_bytes(shape);
    for (i, o) in (first..).zip(out) {
        let block = i / 32;
        let (record, planes) = panel[block / group * group_bytes..].split_at(shape.scales.bytes());
        let (scale, min) = scale_and_min(shape.scales, record, lane, block % group, i % 32 / 16);
        let q = get(shape.quants, lane, i % 32, &planes[block % group * plane_bytes..][..plane_bytes]);
        *o = scale * (f32::from(q) - f32::from(shape.offset)) + min;
    }
}

fn scale_and_min(kind: Scales, record: &[u8], lane: usize, sub: usize, half: usize) -> (f32, f32) {
    let bits = |index: usize| [record[index * 32 + lane * 2], record[index * 32 + lane * 2 + 1]];
    let wide = |index: usize| f16::from_le_bytes(bits(index)).to_f32();
    let at = |start: usize, index: usize| record[start + index * 16 + lane];
    match kind {
        Scales::F16 | Scales::Wide => (wide(0), 0.0),
        Scales::Bf16 => (bf16::from_le_bytes(bits(0)).to_f32(), 0.0),
        Scales::F16Min => (wide(0), wide(1)),
        Scales::SuperMin => (wide(0) * f32::from(at(64, sub)), -(wide(1) * f32::from(at(192, sub)))),
        Scales::Super => (wide(0) * (f32::from(at(32, sub)) - 128.0), 0.0),
        Scales::SuperHalves => (wide(0) * (f32::from(at(32, 2 * sub + half)) - 128.0), 0.0),
        Scales::SuperHalvesMin => {
            let byte = at(64, 2 * sub + half);
            (wide(0) * f32::from(byte & 15), -(wide(1) * f32::from(byte >> 4)))
        }
    }
}

/// What is done with the readers of a layout.
pub(crate) trait WithReaders {
    fn with<Q: ReadQuants, C: ReadScales>(self, quants: Q, scales: C);
}

/// Chooses the readers of a layout, once for a task.
pub(crate) fn with_readers(shape: Shape, with: impl WithReaders) {
    match (shape.quants, shape.scales) {
        (Quants::Bits4, Scales::F16) => with.with(Bits4, F16),
        (Quants::Bits5, Scales::F16) => with.with(Bits5, F16),
        (Quants::Bits8, Scales::F16) => with.with(Bits8, F16),
        (Quants::Table(table), Scales::F16) => with.with(Table(table), F16),
        (Quants::Table(table), Scales::Bf16) => with.with(Table(table), Bf16),
        (Quants::Table(table), Scales::Super) => with.with(Table(table), Super),
        (Quants::Bits4, Scales::F16Min) => with.with(Bits4, F16Min),
        (Quants::Bits5, Scales::F16Min) => with.with(Bits5, F16Min),
        (Quants::Bits4, Scales::SuperMin) => with.with(Bits4, SuperMin),
        (Quants::Bits5, Scales::SuperMin) => with.with(Bits5, SuperMin),
        (Quants::Bits2, Scales::SuperHalvesMin) => with.with(Bits2, SuperHalvesMin),
        (Quants::Bits3, Scales::SuperHalves) => with.with(Bits3, SuperHalves),
        (Quants::Bits6, Scales::SuperHalves) => with.with(Bits6, SuperHalves),
        (Quants::Bits2, Scales::Wide) => with.with(Bits2, Wide),
        (quants, scales) => unreachable!("no type has {quants:?} with {scales:?}"),
    }
}

/// A panel as numbers, `[k][16]`: bit for bit what [`part_of_panel`] gives.
pub(super) fn expand(isa: Isa, shape: Shape, panel: &[u8], out: &mut [[f32; LANES]]) {
    with_readers(shape, Expand { isa, offset: shape.offset, panel, out });
}

struct Expand<'a> {
    isa: Isa,
    offset: u8,
    panel: &'a [u8],
    out: &'a mut [[f32; LANES]],
}

impl WithReaders for Expand<'_> {
    fn with<Q: ReadQuants, C: ReadScales>(self, quants: Q, scales: C) {
        self.isa.run(ExpandWith(self, quants, scales));
    }
}

struct ExpandWith<'a, Q, C>(Expand<'a>, Q, C);

impl<Q: ReadQuants, C: ReadScales> Kernel for ExpandWith<'_, Q, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ExpandWith(Expand { offset, panel, out, .. }, quants, _) = self;
        let group_bytes = C::KIND.bytes() + C::KIND.group() * Q::BYTES;
        let blocks = out.as_chunks_mut::<32>().0.chunks_exact_mut(C::KIND.group());
        let start = s.splat_i(-i32::from(offset));
        for (group, blocks) in panel.chunks_exact(group_bytes).zip(blocks) {
            let (record, planes) = group.split_at(C::KIND.bytes());
            let head = C::head(s, record);
            for (sub, block) in blocks.iter_mut().enumerate() {
                let vectors = quants.read(s, &planes[sub * Q::BYTES..][..Q::BYTES]);
                let (scale, min) = C::read(s, head, record, sub);
                for (i, out) in block.iter_mut().enumerate() {
                    let half = if C::KIND.halves() { i / 16 } else { 0 };
                    // The product with a single one gets a byte out of four.
                    let q = s.dot4(start, vectors[i / 4], 1 << (i % 4 * 8));
                    let x = s.mul(s.to_f(q), scale[half]);
                    s.store(if C::MIN { s.add(x, min[half]) } else { x }, out);
                }
            }
        }
    }
}

/// How a product's body reads quants.
pub(crate) trait ReadQuants: Copy {
    /// Bytes of 32 inputs of sixteen rows.
    const BYTES: usize;
    /// Eight vectors of four inputs of sixteen rows.
    fn read<S: Simd>(self, s: S, planes: &[u8]) -> [S::B; 8];
}

#[derive(Clone, Copy)]
pub(crate) struct Bits2;
#[derive(Clone, Copy)]
pub(crate) struct Bits3;
#[derive(Clone, Copy)]
pub(crate) struct Bits4;
#[derive(Clone, Copy)]
pub(crate) struct Bits5;
#[derive(Clone, Copy)]
pub(crate) struct Bits6;
#[derive(Clone, Copy)]
pub(crate) struct Bits8;
#[derive(Clone, Copy)]
pub(crate) struct Table(pub &'static [u8; 16]);

#[inline(always)]
fn vector<S: Simd>(s: S, planes: &[u8], index: usize) -> S::B {
    s.load_bytes(planes[index * 64..].first_chunk().expect("planes are whole vectors"))
}

impl ReadQuants for Bits8 {
    const BYTES: usize = 512;
    #[inline(always)]
    fn read<S: Simd>(self, s: S, planes: &[u8]) -> [S::B; 8] {
        let mut out = [s.splat_byte(0); 8];
        for i in 0..8 {
            out[i] = vector(s, planes, i);
        }
        out
    }
}

impl ReadQuants for Bits4 {
    const BYTES: usize = 256;
    #[inline(always)]
    fn read<S: Simd>(self, s: S, planes: &[u8]) -> [S::B; 8] {
        let mask = s.splat_byte(15);
        let mut out = [mask; 8];
        for i in 0..4 {
            let v = vector(s, planes, i);
            out[i] = s.and(v, mask);
            out[i + 4] = s.and(s.shr_words::<4>(v), mask);
        }
        out
    }
}

impl ReadQuants for Table {
    const BYTES: usize = 256;
    #[inline(always)]
    fn read<S: Simd>(self, s: S, planes: &[u8]) -> [S::B; 8] {
        let mut out = Bits4.read(s, planes);
        for i in 0..8 {
            out[i] = s.lookup(self.0, out[i]);
        }
        out
    }
}

impl ReadQuants for Bits2 {
    const BYTES: usize = 128;
    #[inline(always)]
    fn read<S: Simd>(self, s: S, planes: &[u8]) -> [S::B; 8] {
        let mask = s.splat_byte(3);
        let mut out = [mask; 8];
        for i in 0..2 {
            let v = vector(s, planes, i);
            out[i] = s.and(v, mask);
            out[i + 2] = s.and(s.shr_words::<2>(v), mask);
            out[i + 4] = s.and(s.shr_words::<4>(v), mask);
            out[i + 6] = s.and(s.shr_words::<6>(v), mask);
        }
        out
    }
}

impl ReadQuants for Bits3 {
    const BYTES: usize = 192;
    #[inline(always)]
    fn read<S: Simd>(self, s: S, planes: &[u8]) -> [S::B; 8] {
        let mask = s.splat_byte(4);
        let mut out = Bits2.read(s, planes);
        let v = vector(s, planes, 2);
        let bits = [
            s.shl_words::<2>(v),
            s.shl_words::<1>(v),
            v,
            s.shr_words::<1>(v),
            s.shr_words::<2>(v),
            s.shr_words::<3>(v),
            s.shr_words::<4>(v),
            s.shr_words::<5>(v),
        ];
        for i in 0..8 {
            out[i] = s.or(out[i], s.and(bits[i], mask));
        }
        out
    }
}

impl ReadQuants for Bits5 {
    const BYTES: usize = 320;
    #[inline(always)]
    fn read<S: Simd>(self, s: S, planes: &[u8]) -> [S::B; 8] {
        let mask = s.splat_byte(16);
        let mut out = Bits4.read(s, planes);
        let v = vector(s, planes, 4);
        let bits = [
            s.shl_words::<4>(v),
            s.shl_words::<3>(v),
            s.shl_words::<2>(v),
            s.shl_words::<1>(v),
            v,
            s.shr_words::<1>(v),
            s.shr_words::<2>(v),
            s.shr_words::<3>(v),
        ];
        for i in 0..8 {
            out[i] = s.or(out[i], s.and(bits[i], mask));
        }
        out
    }
}

impl ReadQuants for Bits6 {
    const BYTES: usize = 384;
    #[inline(always)]
    fn read<S: Simd>(self, s: S, planes: &[u8]) -> [S::B; 8] {
        let mask = s.splat_byte(0x30);
        let mut out = Bits4.read(s, planes);
        for i in 0..2 {
            let v = vector(s, planes, 4 + i);
            out[i] = s.or(out[i], s.and(s.shl_words::<4>(v), mask));
            out[i + 2] = s.or(out[i + 2], s.and(s.shl_words::<2>(v), mask));
            out[i + 4] = s.or(out[i + 4], s.and(v, mask));
            out[i + 6] = s.or(out[i + 6], s.and(s.shr_words::<2>(v), mask));
        }
        out
    }
}

/// How a product's body reads scales.
pub(crate) trait ReadScales: Copy {
    const KIND: Scales;
    /// Whether numbers are `scale·q + min`.
    const MIN: bool;
    /// What a whole record shares.
    fn head<S: Simd>(s: S, record: &[u8]) -> [S::F; 2];
    /// Scales and minima of both halves of a sub-block; without halves, the first counts.
    fn read<S: Simd>(s: S, head: [S::F; 2], record: &[u8], sub: usize) -> ([S::F; 2], [S::F; 2]);
}

#[inline(always)]
fn wide<S: Simd>(s: S, record: &[u8], index: usize) -> S::F {
    let bytes: &[u8; 32] = record[index * 32..].first_chunk().expect("records are whole");
    let mut halves = [0; LANES];
    for (h, b) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *h = u16::from_le_bytes(*b);
    }
    s.load_f16(&halves)
}

#[inline(always)]
fn multiples<S: Simd>(s: S, record: &[u8], start: usize, index: usize) -> S::F {
    s.load_u8(record[start + index * 16..].first_chunk().expect("records are whole"))
}

/// Low halves of bytes, and sixteen times the high ones.
#[inline(always)]
fn nibble_multiples<S: Simd>(s: S, record: &[u8], start: usize, index: usize) -> (S::F, S::F) {
    let bytes: &[u8; 16] = record[start + index * 16..].first_chunk().expect("records are whole");
    let (mut low, mut high) = ([0; 16], [0; 16]);
    for i in 0..16 {
        (low[i], high[i]) = (bytes[i] & 15, bytes[i] & 0xf0);
    }
    (s.load_u8(&low), s.load_u8(&high))
}

macro_rules! read_scales {
    ($($name:ident, $min:literal, |$s:ident, $record:ident| $head:expr, |$h:ident, $sub:ident| $read:expr;)*) => { $(
        #[derive(Clone, Copy)]
        pub(crate) struct $name;
        impl ReadScales for $name {
            const KIND: Scales = Scales::$name;
            const MIN: bool = $min;
            #[inline(always)]
            fn head<S: Simd>($s: S, $record: &[u8]) -> [S::F; 2] {
                $head
            }
            #[inline(always)]
            fn read<S: Simd>($s: S, $h: [S::F; 2], $record: &[u8], $sub: usize) -> ([S::F; 2], [S::F; 2]) {
                let _ = ($s, $record, $sub);
                $read
            }
        }
    )* };
}

read_scales! {
    F16, false, |s, record| [wide(s, record, 0); 2], |h, sub| (h, h);
    Wide, false, |s, record| [wide(s, record, 0); 2], |h, sub| (h, h);
    Bf16, false, |s, record| {
        let bytes: &[u8; 32] = record.first_chunk().expect("records are whole");
        let mut halves = [0; LANES];
        for (h, b) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *h = u16::from_le_bytes(*b);
        }
        [s.load_bf16(&halves); 2]
    }, |h, sub| (h, h);
    F16Min, true, |s, record| [wide(s, record, 0), wide(s, record, 1)], |h, sub| ([h[0]; 2], [h[1]; 2]);
    SuperMin, true, |s, record| [wide(s, record, 0), s.neg(wide(s, record, 1))], |h, sub| {
        ([s.mul(h[0], multiples(s, record, 64, sub)); 2], [s.mul(h[1], multiples(s, record, 192, sub)); 2])
    };
    Super, false, |s, record| [wide(s, record, 0); 2], |h, sub| {
        let m = s.sub(multiples(s, record, 32, sub), s.splat(128.0));
        ([s.mul(h[0], m); 2], h)
    };
    SuperHalves, false, |s, record| [wide(s, record, 0); 2], |h, sub| {
        let m0 = s.sub(multiples(s, record, 32, 2 * sub), s.splat(128.0));
        let m1 = s.sub(multiples(s, record, 32, 2 * sub + 1), s.splat(128.0));
        ([s.mul(h[0], m0), s.mul(h[0], m1)], h)
    };
    SuperHalvesMin, true, |s, record| [wide(s, record, 0), s.mul(s.splat(-1.0 / 16.0), wide(s, record, 1))], |h, sub| {
        let (s0, m0) = nibble_multiples(s, record, 64, 2 * sub);
        let (s1, m1) = nibble_multiples(s, record, 64, 2 * sub + 1);
        ([s.mul(h[0], s0), s.mul(h[0], s1)], [s.mul(h[1], m0), s.mul(h[1], m1)])
    };
}

#[cfg(test)]
mod tests {
    use crate::test_rng::{Rng, random_blocks};
    use crate::{Packing, Pool, Precision, TensorType, dequantize};

    #[test]
    fn rows_come_back_as_the_format_defines_them() {
        let pool = Pool::new(2);
        let mut rng = Rng::seeded(81);
        for &ty in TensorType::ALL {
            if !super::super::is_multiplied_as_integers(ty) {
                continue;
            }
            let (n, k) = (19, 512);
            let bytes = random_blocks(&mut rng, ty, n * k);
            let mut want = vec![0.0; n * k];
            dequantize(ty, &bytes, &mut want);
            let packed =
                Packing { pool: &pool, precision: Precision::Fast, slab: None }.pack(ty, n, k, &bytes);
            assert!(packed.bytes() > 0 && packed.ty() == ty);
            for (i, (got, want)) in packed.to_f32().iter().zip(&want).enumerate() {
                // Products of scales are rounded in another order here.
                assert!(
                    (got - want).abs() <= want.abs() * 1e-5 + 1e-6,
                    "{ty}, number {i}: {got} instead of {want}"
                );
            }
        }
    }
}
