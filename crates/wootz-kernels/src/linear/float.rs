//! The product's body for plain numbers: f32 activations times f32, f16 or bf16 weights in f32 arithmetic.
//!
//! Where:  tasks of [`linear`](super::linear) on plain weights, and on quantized ones in [`Precision::Exact`](crate::Precision).
//! Idea:   `M` tokens times `P` panels of accumulators stay in registers while the inner dimension passes.

use std::ops::Range;

use super::Group;
use super::tiles::Tile;
use crate::Isa;
use crate::cast::cast;
use crate::isa::Kernel;
use crate::packed::{Bf16Pairs, Chunk, F16Pairs, F32Pairs, Layout, Stored};
use crate::simd::{LANES, Simd};

/// One task.
pub(super) struct Product<'a> {
    pub group: &'a Group<'a>,
    pub panels: Range<usize>,
    pub tiles: &'a [Tile],
    pub targets: Option<&'a [u32]>,
    /// Packed activations, and their inner dimension.
    pub x: &'a [f32],
    pub k: usize,
}

impl Product<'_> {
    pub fn run(self, isa: Isa) {
        let weight = self.group.weight;
        match weight.layout() {
            Layout::F32 => {
                isa.run(Body::<F32Pairs> { product: &self, chunks: &|p| chunks(weight.panel(p)) });
            }
            Layout::F16 => {
                isa.run(Body::<F16Pairs> { product: &self, chunks: &|p| chunks(weight.panel(p)) });
            }
            Layout::Bf16 => {
                isa.run(Body::<Bf16Pairs> { product: &self, chunks: &|p| chunks(weight.panel(p)) });
            }
            Layout::Quant(_) => unreachable!("quants have a body of their own"),
            Layout::Rows => self.run_assembled(isa),
        }
    }

    /// Makes each panel in f32 first.
    fn run_assembled(self, isa: Isa) {
        let mut row = Vec::new();
        let mut panel = vec![[0.0; 2 * LANES]; self.k.div_ceil(2)];
        for p in self.panels.clone() {
            self.group.weight.panel_to_f32(p, &mut row, &mut panel);
            let product = Product { panels: p..p + 1, ..self };
            isa.run(Body::<F32Pairs> { product: &product, chunks: &|_| &panel });
        }
    }
}

fn chunks<T: crate::cast::Plain>(panel: &[u8]) -> &[Chunk<T>] {
    cast::<T>(panel).expect("panels are aligned").as_chunks().0
}

struct Body<'a, W: Stored> {
    product: &'a Product<'a>,
    chunks: &'a dyn Fn(usize) -> &'a [Chunk<W::Number>],
}

impl<W: Stored> Kernel for Body<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Range { start: mut panel, end } = self.product.panels;
        while panel + 2 <= end {
            self.two(s, panel, [(self.chunks)(panel), (self.chunks)(panel + 1)]);
            panel += 2;
        }
        if panel < end {
            let w = (self.chunks)(panel);
            self.product.tiles.iter().for_each(|tile| self.one(s, tile, panel, w));
        }
    }
}

impl<W: Stored> Body<'_, W> {
    #[inline(always)]
    fn two<S: Simd>(&self, s: S, panel: usize, w: [&[Chunk<W::Number>]; 2]) {
        for tile in self.product.tiles {
            match tile.width {
                8 if S::WIDE => self.tile::<S, 8, 2>(s, tile, panel, w),
                12 if S::WIDE => self.tile::<S, 12, 2>(s, tile, panel, w),
                _ => {
                    self.one(s, tile, panel, w[0]);
                    self.one(s, tile, panel + 1, w[1]);
                }
            }
        }
    }

    /// One panel. PERF: few tokens wait for memory, and a core reads one stream twice as fast as several.
    #[inline(always)]
    fn one<S: Simd>(&self, s: S, tile: &Tile, panel: usize, w: &[Chunk<W::Number>]) {
        match tile.width {
            1 => self.tile::<S, 1, 1>(s, tile, panel, [w]),
            2 if S::WIDE => self.tile::<S, 2, 1>(s, tile, panel, [w]),
            8 if S::WIDE => self.tile::<S, 8, 1>(s, tile, panel, [w]),
            12 if S::WIDE => self.tile::<S, 12, 1>(s, tile, panel, [w]),
            _ => self.tile::<S, 4, 1>(s, tile, panel, [w]),
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const M: usize, const P: usize>(
        &self,
        s: S,
        tile: &Tile,
        panel: usize,
        w: [&[Chunk<W::Number>]; P],
    ) {
        assert_eq!(tile.width, M, "tiles are as wide as their kernel");
        let n_chunks = w[0].len();
        let x = &self.product.x[tile.start * n_chunks * 2..][..n_chunks * 2 * M];
        let acc = walk::<S, W, M, P>(s, x.as_chunks::<M>().0.as_chunks::<2>().0, w);
        for (t, row) in tile.rows.clone().enumerate() {
            let row = self.product.targets.map_or(row, |targets| targets[row] as usize);
            for p in 0..P {
                let mut values = [0.0; LANES];
                s.store(acc[t][p], &mut values);
                // SAFETY: panels of a group belong to one task for each tile, and rows of tiles are distinct.
                unsafe { self.product.group.write(row, panel + p, &values) };
            }
        }
    }
}

/// The inner loop: sums along the inner dimension in its order.
#[inline(always)]
fn walk<S: Simd, W: Stored, const M: usize, const P: usize>(
    s: S,
    x: &[[[f32; M]; 2]],
    w: [&[Chunk<W::Number>]; P],
) -> [[S::F; P]; M] {
    let mut acc = [[s.splat(0.0); P]; M];
    for w in &w {
        assert_eq!(w.len(), x.len(), "weights and activations have one width");
    }
    for i in 0..x.len() {
        let mut steps = [[s.splat(0.0); 2]; P];
        for p in 0..P {
            steps[p] = W::load(s, &w[p][i]);
        }
        for j in 0..2 {
            for t in 0..M {
                let x = s.splat(x[i][j][t]);
                for p in 0..P {
                    acc[t][p] = s.mul_add(steps[p][j], x, acc[t][p]);
                }
            }
        }
    }
    acc
}
