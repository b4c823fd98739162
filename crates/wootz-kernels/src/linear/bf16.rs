//! The product's body for bf16 weights and activations rounded to bf16: one instruction for two inputs of sixteen outputs.
//!
//! Where:  tasks of [`linear`](super::linear) on bf16 weights packed for [`Precision::Fast`](crate::Precision), where
//!         [`Isa::has_bf16`](crate::Isa::has_bf16).
//! Idea:   the float product's tiles with pairs of inputs in the place of single ones. The instruction adds the odd product before
//!         the even one, rounds to nearest, and flushes subnormals; it does so always, so the order is fixed here too.
//! Elsewhere: machines without the instruction multiply exactly ([`float`](super::float)).

use std::arch::x86_64::*;
use std::ops::Range;

use super::Group;
use super::tiles::Tile;
use crate::Isa;
use crate::cast::cast;
use crate::packed::PackedMatrix;
use crate::simd::LANES;

/// One task.
pub(super) struct Product<'a> {
    pub group: &'a Group<'a>,
    pub weight: &'a PackedMatrix,
    pub panels: Range<usize>,
    pub tiles: &'a [Tile],
    /// Whether these tiles are the first of theirs to need the panels.
    pub comes_first: bool,
    pub targets: Option<&'a [u32]>,
    /// `[k / 2][width]` pairs for every tile.
    pub x: &'a [i32],
}

/// How far ahead of the multiplications the first tile asks for memory, in chunks of 64 bytes.
const AHEAD: usize = 64;

/// Sixteen pairs.
type Chunk = [u32; LANES];

impl Product<'_> {
    pub fn run(self, isa: Isa) {
        assert!(isa.has_bf16(), "bf16 products need their instruction");
        // SAFETY: asserted above.
        unsafe { self.run_panels() }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    fn run_panels(&self) {
        let Range { start: mut panel, end } = self.panels;
        let chunks = |panel| -> &[Chunk] {
            cast::<u32>(self.weight.panel(panel)).expect("panels are aligned").as_chunks().0
        };
        while panel + 2 <= end {
            let w = [chunks(panel), chunks(panel + 1)];
            for (i, tile) in self.tiles.iter().enumerate() {
                let ahead = if self.comes_first && i == 0 { AHEAD } else { 0 };
                match tile.width {
                    8 => self.tile::<8, 2>(tile, panel, w, ahead),
                    12 => self.tile::<12, 2>(tile, panel, w, ahead),
                    _ => {
                        self.one(tile, panel, w[0]);
                        self.one(tile, panel + 1, w[1]);
                    }
                }
            }
            panel += 2;
        }
        if panel < end {
            self.tiles.iter().for_each(|tile| self.one(tile, panel, chunks(panel)));
        }
    }

    /// One panel. PERF: few tokens wait for memory, and a core reads one stream twice as fast as several.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    fn one(&self, tile: &Tile, panel: usize, w: &[Chunk]) {
        match tile.width {
            1 => self.tile::<1, 1>(tile, panel, [w], 0),
            2 => self.tile::<2, 1>(tile, panel, [w], AHEAD),
            4 => self.tile::<4, 1>(tile, panel, [w], AHEAD),
            8 => self.tile::<8, 1>(tile, panel, [w], AHEAD),
            _ => self.tile::<12, 1>(tile, panel, [w], AHEAD),
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    fn tile<const M: usize, const P: usize>(
        &self,
        tile: &Tile,
        panel: usize,
        w: [&[Chunk]; P],
        ahead: usize,
    ) {
        assert_eq!(tile.width, M, "tiles are as wide as their kernel");
        let n_pairs = w[0].len();
        let x = self.x[tile.start * n_pairs..][..n_pairs * M].as_chunks::<M>().0;
        for w in &w {
            assert_eq!(w.len(), x.len(), "weights and activations have one width");
        }
        let mut acc = [[_mm512_setzero_ps(); P]; M];
        for i in 0..x.len() {
            let mut pairs = [_mm512_setzero_si512(); P];
            for p in 0..P {
                // SAFETY: a chunk is the 64 bytes that are loaded.
                pairs[p] = unsafe { _mm512_loadu_si512(w[p][i].as_ptr().cast()) };
                if M > 1 {
                    let soon = w[p].as_ptr().wrapping_add(i + ahead);
                    _mm_prefetch::<_MM_HINT_T1>(soon.cast());
                }
            }
            for t in 0..M {
                let x = as_bf16(_mm512_set1_epi32(x[i][t]));
                for p in 0..P {
                    acc[t][p] = _mm512_dpbf16_ps(acc[t][p], as_bf16(pairs[p]), x);
                }
            }
        }
        for (t, row) in tile.rows.clone().enumerate() {
            let row = self.targets.map_or(row, |targets| targets[row] as usize);
            for p in 0..P {
                let mut values = [0.0; LANES];
                // SAFETY: `values` is the 64 bytes that are stored.
                unsafe { _mm512_storeu_ps(values.as_mut_ptr(), acc[t][p]) };
                // SAFETY: panels of a group belong to one task for each tile, and rows of tiles are distinct.
                unsafe { self.group.write(row, panel + p, &values) };
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn as_bf16(x: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes, and every bit pattern is a value of both.
    unsafe { std::mem::transmute(x) }
}

/// Dependent products in registers: what [`Peaks`](crate::Peaks) times.
pub(crate) fn chains(isa: Isa, steps: usize) -> f32 {
    assert!(isa.has_bf16(), "bf16 products need their instruction");
    // SAFETY: asserted above.
    unsafe { run_chains(steps) }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn run_chains(steps: usize) -> f32 {
    let mut acc = [_mm512_set1_ps(1.0); crate::peaks::CHAINS];
    let w = as_bf16(_mm512_set1_epi32(0x3f80_3f80));
    for step in 0..steps {
        let x = as_bf16(_mm512_set1_epi32(step as i32));
        for a in &mut acc {
            *a = _mm512_dpbf16_ps(*a, w, x);
        }
    }
    acc.iter().map(|a| _mm512_reduce_add_ps(*a)).sum()
}
