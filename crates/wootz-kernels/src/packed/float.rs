//! Panels of plain numbers: two steps of the inner dimension times sixteen rows at a time.
//!
//! Where:  the f32, f16 and bf16 layouts of [`PackedMatrix`](super::PackedMatrix).
//! Idea:   the inner dimension is padded to pairs, because bf16 instructions take pairs and the others do not mind.

use half::{bf16, f16};

use super::Layout;
use crate::cast::{Plain, cast};
use crate::isa::Kernel;
use crate::simd::{LANES, Simd};

/// Two steps of sixteen rows.
pub(crate) type Chunk<T> = [T; 2 * LANES];

/// A stored number type and the order of its chunks.
pub(crate) trait Stored {
    /// As it is stored.
    type Number: Plain;
    /// Where the number of a lane and step lies in a chunk.
    fn place(lane: usize, step: usize) -> usize {
        step * LANES + lane
    }
    /// The first and the second step of a chunk.
    fn load<S: Simd>(s: S, chunk: &Chunk<Self::Number>) -> [S::F; 2];
    /// Sixteen numbers as they are stored.
    fn round<S: Simd>(s: S, x: S::F) -> [Self::Number; LANES];
}

/// `[2][16]` f32.
pub(crate) struct F32Pairs;
/// `[2][16]` f16.
pub(crate) struct F16Pairs;
/// `[16][2]` bf16.
pub(crate) struct Bf16Pairs;

impl Stored for F32Pairs {
    type Number = f32;
    #[inline(always)]
    fn load<S: Simd>(s: S, chunk: &Chunk<f32>) -> [S::F; 2] {
        let (steps, _) = chunk.as_chunks::<LANES>();
        [s.load(&steps[0]), s.load(&steps[1])]
    }
    #[inline(always)]
    fn round<S: Simd>(s: S, x: S::F) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        s.store(x, &mut out);
        out
    }
}

impl Stored for F16Pairs {
    type Number = u16;
    #[inline(always)]
    fn load<S: Simd>(s: S, chunk: &Chunk<u16>) -> [S::F; 2] {
        let (steps, _) = chunk.as_chunks::<LANES>();
        [s.load_f16(&steps[0]), s.load_f16(&steps[1])]
    }
    #[inline(always)]
    fn round<S: Simd>(s: S, x: S::F) -> [u16; LANES] {
        let mut out = [0; LANES];
        s.store_f16(x, &mut out);
        out
    }
}

impl Stored for Bf16Pairs {
    type Number = u16;
    fn place(lane: usize, step: usize) -> usize {
        lane * 2 + step
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, chunk: &Chunk<u16>) -> [S::F; 2] {
        [s.load_bf16_even(chunk), s.load_bf16_odd(chunk)]
    }
    #[inline(always)]
    fn round<S: Simd>(s: S, x: S::F) -> [u16; LANES] {
        let mut numbers = [0.0; LANES];
        s.store(x, &mut numbers);
        numbers.map(|x| bf16::from_f32(x).to_bits())
    }
}

/// A panel as numbers, `[k][16]`.
pub(super) struct Expand<'a, W: Stored> {
    chunks: &'a [Chunk<W::Number>],
    out: &'a mut [[f32; LANES]],
}

impl<'a, W: Stored> Expand<'a, W> {
    pub fn new(panel: &'a [u8], out: &'a mut [[f32; LANES]]) -> Self {
        Expand { chunks: cast(panel).expect("panels are aligned").as_chunks().0, out }
    }
}

impl<W: Stored> Kernel for Expand<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (chunk, out) in self.chunks.iter().zip(self.out.chunks_mut(2)) {
            for (step, out) in W::load(s, chunk).into_iter().zip(out) {
                s.store(step, out);
            }
        }
    }
}

/// Where number `k` of a row lies in a panel, as an index of numbers.
pub(crate) fn place(layout: Layout, lane: usize, k: usize) -> usize {
    let chunk = k / 2 * 2 * LANES;
    match layout {
        Layout::Bf16 => chunk + lane * 2 + k % 2,
        _ => chunk + k % 2 * LANES + lane,
    }
}

/// Interleaves up to sixteen rows of `k` numbers, which come from a file and need not be aligned.
pub(super) fn pack_panel(layout: Layout, k: usize, rows: &[u8], panel: &mut [u8]) {
    match layout {
        Layout::F32 => interleave::<4>(k, rows, panel),
        Layout::F16 => interleave::<2>(k, rows, panel),
        // A pair of bf16 moves as one number; an odd row has half a pair at its end.
        _ if k.is_multiple_of(2) && cfg!(target_endian = "little") => interleave::<4>(k / 2, rows, panel),
        _ => {
            let panel = panel.as_chunks_mut::<2>().0;
            for (lane, row) in rows.as_chunks::<2>().0.chunks(k.max(1)).enumerate() {
                for (i, x) in row.iter().enumerate() {
                    panel[place(layout, lane, i)] = native(*x);
                }
            }
        }
    }
}

/// `[k][16]` numbers of `N` bytes.
fn interleave<const N: usize>(k: usize, rows: &[u8], panel: &mut [u8]) {
    let panel = panel.as_chunks_mut::<N>().0.as_chunks_mut::<LANES>().0;
    for (lane, row) in rows.as_chunks::<N>().0.chunks(k.max(1)).enumerate() {
        for (x, step) in row.iter().zip(&mut *panel) {
            step[lane] = native(*x);
        }
    }
}

/// Files are little-endian.
fn native<const N: usize>(mut x: [u8; N]) -> [u8; N] {
    if cfg!(target_endian = "big") {
        x.reverse();
    }
    x
}

/// Numbers of one row of a panel, from `first` on.
pub(super) fn part_of_panel(layout: Layout, panel: &[u8], lane: usize, first: usize, out: &mut [f32]) {
    let aligned = "panels are aligned";
    let places = (first..).map(|k| place(layout, lane, k));
    match layout {
        Layout::F32 => {
            let panel = cast::<f32>(panel).expect(aligned);
            out.iter_mut().zip(places).for_each(|(o, place)| *o = panel[place]);
        }
        Layout::F16 => {
            let panel = cast::<f16>(panel).expect(aligned);
            out.iter_mut().zip(places).for_each(|(o, place)| *o = panel[place].to_f32());
        }
        _ => {
            let panel = cast::<bf16>(panel).expect(aligned);
            out.iter_mut().zip(places).for_each(|(o, place)| *o = panel[place].to_f32());
        }
    }
}
