//! The body in f32: tiles of twelve rows times 32 columns stay in registers.

use super::{PAIR, Place};
use crate::cast::{bytes_of, cast};
use crate::isa::Kernel;
use crate::simd::{LANES, Simd};

pub(super) struct Body<'a> {
    pub width: usize,
    /// `[len][width]` f32
    pub left: &'a [u32],
    /// `[len][32]` f32
    pub right: &'a [u32],
    pub place: Place<'a>,
}

impl Kernel for Body<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let floats = |words| cast::<f32>(bytes_of::<u32>(words)).expect("both have 4 bytes");
        let (left, right) = (floats(self.left), floats(self.right));
        match self.width {
            8 if S::WIDE => tile::<S, 8, 2>(s, left, right, 0, &self.place),
            12 if S::WIDE => tile::<S, 12, 2>(s, left, right, 0, &self.place),
            4 if S::WIDE => tile::<S, 4, 2>(s, left, right, 0, &self.place),
            4 => (0..2).for_each(|panel| tile::<S, 4, 1>(s, left, right, panel, &self.place)),
            width => unreachable!("no tile has {width} rows"),
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const M: usize, const P: usize>(
    s: S,
    left: &[f32],
    right: &[f32],
    first_panel: usize,
    place: &Place<'_>,
) {
    let (left, right) = (left.as_chunks::<M>().0, right.as_chunks::<PAIR>().0);
    assert_eq!(left.len(), right.len(), "both sides have the block's steps");
    let mut acc = [[s.splat(0.0); P]; M];
    for t in 0..if place.adds { place.rows.len().min(M) } else { 0 } {
        // SAFETY: tiles and pairs of panels do not overlap, and each product of two is one task's.
        let row = unsafe { place.row(t) };
        for p in 0..P {
            let Some(out) = row.get((first_panel + p) * LANES..) else { continue };
            acc[t][p] = match out.first_chunk::<LANES>() {
                Some(out) => s.load(out),
                None => s.load_part(out, 0.0),
            };
        }
    }
    for (x, w) in left.iter().zip(right) {
        let (panels, _) = w.as_chunks::<LANES>();
        let mut w = [s.splat(0.0); P];
        for p in 0..P {
            w[p] = s.load(&panels[first_panel + p]);
        }
        for t in 0..M {
            let x = s.splat(x[t]);
            for p in 0..P {
                acc[t][p] = s.mul_add(w[p], x, acc[t][p]);
            }
        }
    }
    for t in 0..place.rows.len().min(M) {
        // SAFETY: tiles and pairs of panels do not overlap, and each product of two is one task's.
        let row = unsafe { place.row(t) };
        for p in 0..P {
            let Some(out) = row.get_mut((first_panel + p) * LANES..) else { continue };
            match out.first_chunk_mut::<LANES>() {
                Some(out) => s.store(acc[t][p], out),
                None => s.store_part(acc[t][p], out),
            }
        }
    }
}
