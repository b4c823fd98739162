//! The product's body for quantized weights: activations in 8 bits, integer dot products, one scale per 32 inputs.
//!
//! Where:  tasks of [`linear`](super::linear) on weights packed for [`Precision::Fast`](crate::Precision).
//! Idea:   32 inputs of sixteen rows are eight registers, unpacked once for up to sixteen tokens. Integer sums are exact; what decides
//!         the order of additions is one scaled addition per 32 inputs, in order. An offset of the quants is a start value of the
//!         integer sum, a minimum is one more addition with the sum of the activations.

use std::ops::Range;

use super::Group;
use super::tiles::Tile;
use crate::Isa;
use crate::isa::Kernel;
use crate::packed::quant::{ReadQuants, ReadScales, WithReaders, with_readers};
use crate::packed::{PackedMatrix, Shape};
use crate::simd::{LANES, Simd};

/// Words of 32 bits for 32 inputs of one token: their bytes, their scale, two sums.
pub(super) const RECORD: usize = 11;

/// What the two sums of a record are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sums {
    /// The integer that a sum of 32, or of each half, starts with: minus the offset times the sum of the bytes.
    Starts { offset: u8, halves: bool },
    /// Scaled sums of the activations, of all 32 or of each half, as f32.
    Scaled { halves: bool },
}

impl Sums {
    pub fn of(shape: Shape) -> Self {
        let halves = shape.scales.halves();
        match shape.offset {
            0 => Sums::Scaled { halves },
            offset => Sums::Starts { offset, halves },
        }
    }
}

/// Rounds one row to records, `width` tokens apart: bytes `[8][width]`, scales `[width]`, sums `[2][width]`.
pub(super) struct Quantize<'a> {
    pub row: &'a [f32],
    pub sums: Sums,
    /// Place in the tile.
    pub t: usize,
    pub width: usize,
    pub out: &'a mut [i32],
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Quantize { row, sums, t, width, out } = self;
        for (x, record) in row.as_chunks::<32>().0.iter().zip(out.chunks_exact_mut(RECORD * width)) {
            let (halves, _) = x.as_chunks::<LANES>();
            let x = [s.load(&halves[0]), s.load(&halves[1])];
            let size = [s.abs(x[0]), s.abs(x[1])];
            // What is not finite makes all 32 NaN.
            let broken = s.has_nan(s.mul(s.add(size[0], size[1]), s.splat(0.0)));
            let max = if broken { f32::NAN } else { s.max_lane(s.max(size[0], size[1])) };
            let scale = max / 127.0;
            let factor = s.splat(if max > 0.0 { 127.0 / max } else { 0.0 });
            let rounded = [s.round(s.mul(x[0], factor)), s.round(s.mul(x[1], factor))];
            let q = [s.round_to_i8(rounded[0]), s.round_to_i8(rounded[1])];
            // Sums of small integers are exact in f32.
            let total = [s.sum(rounded[0]) as i32, s.sum(rounded[1]) as i32];
            for (i, bytes) in q.as_flattened().as_chunks::<4>().0.iter().enumerate() {
                record[i * width + t] = i32::from_le_bytes(bytes.map(|b| b as u8));
            }
            record[8 * width + t] = scale.to_bits() as i32;
            let pair = match sums {
                Sums::Starts { offset, halves: false } => [-i32::from(offset) * (total[0] + total[1]), 0],
                Sums::Starts { offset, halves: true } => total.map(|sum| -i32::from(offset) * sum),
                Sums::Scaled { halves: false } => {
                    [((total[0] + total[1]) as f32 * scale).to_bits() as i32, 0]
                }
                Sums::Scaled { halves: true } => total.map(|sum| (sum as f32 * scale).to_bits() as i32),
            };
            record[9 * width + t] = pair[0];
            record[10 * width + t] = pair[1];
        }
    }
}

/// One task.
pub(super) struct Product<'a> {
    pub group: &'a Group<'a>,
    pub weight: &'a PackedMatrix,
    pub shape: Shape,
    pub panels: Range<usize>,
    pub tiles: &'a [Tile],
    /// Whether these tiles are the first of theirs to need the panels.
    pub comes_first: bool,
    pub targets: Option<&'a [u32]>,
    /// Packed activations.
    pub x: &'a [i32],
}

impl Product<'_> {
    pub fn run(self, isa: Isa) {
        with_readers(self.shape, OnIsa(isa, self));
    }
}

struct OnIsa<'a>(Isa, Product<'a>);

impl WithReaders for OnIsa<'_> {
    fn with<Q: ReadQuants, C: ReadScales>(self, quants: Q, scales: C) {
        self.0.run(Body(self.1, quants, scales));
    }
}

struct Body<'a, Q, C>(Product<'a>, Q, C);

impl<Q: ReadQuants, C: ReadScales> Kernel for Body<'_, Q, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Product { weight, panels, comes_first, .. } = &self.0;
        for panel in panels.clone() {
            for (i, tile) in self.0.tiles.iter().enumerate() {
                // PERF: with several tokens the multiplications of one step fill the core's queues, so that it would ask for memory
                // only when it is done multiplying: the two times add up. One token waits for memory anyway.
                let asks = *comes_first && i == 0 && tile.width > 1;
                self.one(s, tile, panel, if asks { weight.lines_after(panel, AHEAD) } else { &[] });
            }
        }
    }
}

/// How far ahead of the multiplications memory is asked for, in bytes.
const AHEAD: usize = 4096;

impl<Q: ReadQuants, C: ReadScales> Body<'_, Q, C> {
    #[inline(always)]
    fn one<S: Simd>(&self, s: S, tile: &Tile, panel: usize, soon: &[[u8; 64]]) {
        match tile.width {
            1 => self.tile::<S, 1>(s, tile, panel, soon),
            2 if S::WIDE => self.tile::<S, 2>(s, tile, panel, soon),
            8 if S::WIDE => self.tile::<S, 8>(s, tile, panel, soon),
            12 if S::WIDE => self.tile::<S, 12>(s, tile, panel, soon),
            16 if S::WIDE => self.tile::<S, 16>(s, tile, panel, soon),
            _ => self.tile::<S, 4>(s, tile, panel, soon),
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const M: usize>(&self, s: S, tile: &Tile, panel: usize, soon: &[[u8; 64]]) {
        assert_eq!(tile.width, M, "tiles are as wide as their kernel");
        let n_blocks = self.0.weight.k() / 32;
        let x = &self.0.x[tile.start * n_blocks * RECORD..][..n_blocks * RECORD * M];
        let acc = walk::<S, Q, C, M>(s, self.1, x, self.0.weight.panel(panel), soon);
        for (t, row) in tile.rows.clone().enumerate() {
            let row = self.0.targets.map_or(row, |targets| targets[row] as usize);
            let mut values = [0.0; LANES];
            s.store(acc[t], &mut values);
            // SAFETY: panels of a group belong to one task for each tile, and rows of tiles are distinct.
            unsafe { self.0.group.write(row, panel, &values) };
        }
    }
}

/// Does `$body` for every `$t` below `$m`, which is at most sixteen.
macro_rules! each_token {
    ($m:ident, $t:ident => $body:expr) => {
        each_token!(@ $m, $t, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $m:ident, $t:ident, $body:expr, $($i:literal)*) => {
        $(if const { $i < $m } {
            let $t = $i;
            $body;
        })*
    };
}

/// Adds 32 inputs of token `t` to its sixteen sums.
#[inline(always)]
fn add_token<S: Simd, C: ReadScales, const M: usize>(
    s: S,
    acc: S::F,
    words: &[[i32; M]; RECORD],
    t: usize,
    w: &[S::B; 8],
    scale: [S::F; 2],
    min: [S::F; 2],
) -> S::F {
    let d = s.splat(f32::from_bits(words[8][t] as u32));
    let mut sums = [s.splat_i(0); 2];
    if !C::MIN {
        sums = [s.splat_i(words[9][t]), s.splat_i(if C::KIND.halves() { words[10][t] } else { 0 })];
    }
    for j in 0..8 {
        let half = if C::KIND.halves() { j / 4 } else { 0 };
        sums[half] = s.dot4(sums[half], w[j], words[j][t]);
    }
    let mut y = s.mul(s.to_f(sums[0]), scale[0]);
    if C::KIND.halves() {
        y = s.mul_add(s.to_f(sums[1]), scale[1], y);
    }
    let mut acc = s.mul_add(y, d, acc);
    if C::MIN {
        acc = s.mul_add(min[0], s.splat(f32::from_bits(words[9][t] as u32)), acc);
        if C::KIND.halves() {
            acc = s.mul_add(min[1], s.splat(f32::from_bits(words[10][t] as u32)), acc);
        }
    }
    acc
}

/// The inner loop: 32 inputs at a time, in their order, while what comes later is asked for.
#[inline(always)]
fn walk<S: Simd, Q: ReadQuants, C: ReadScales, const M: usize>(
    s: S,
    quants: Q,
    x: &[i32],
    panel: &[u8],
    soon: &[[u8; 64]],
) -> [S::F; M] {
    let group_bytes = C::KIND.bytes() + C::KIND.group() * Q::BYTES;
    let mut acc = [s.splat(0.0); M];
    let groups = x.chunks_exact(RECORD * M * C::KIND.group()).zip(panel.chunks_exact(group_bytes));
    for (i, (x, group)) in groups.enumerate() {
        let (record, planes) = group.split_at(C::KIND.bytes());
        let head = C::head(s, record);
        for sub in 0..C::KIND.group() {
            let lines = |sub: usize| (i * C::KIND.group() + sub) * (group_bytes / C::KIND.group()) / 64;
            if let Some(lines) = soon.get(lines(sub)..lines(sub + 1)) {
                lines.iter().for_each(|line| s.prefetch(line));
            }
            let (words, _) = x[sub * RECORD * M..][..RECORD * M].as_chunks::<M>();
            let words: &[[i32; M]; RECORD] = words.first_chunk().expect("a record");
            let w = quants.read(s, &planes[sub * Q::BYTES..][..Q::BYTES]);
            let (scale, min) = C::read(s, head, record, sub);
            // Unrolled by hand: sixteen tokens are past what the compiler unrolls, and sums in memory cost a tenth.
            each_token!(M, t => acc[t] = add_token::<S, C, M>(s, acc[t], words, t, &w, scale, min));
        }
    }
    acc
}
