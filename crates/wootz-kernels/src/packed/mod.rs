//! A weight matrix in the layout that the products read.
//!
//! Where:  made once when a model is loaded, read by [`linear`](crate::linear()) at every step.
//! Idea:   panels of sixteen output rows are interleaved so that lanes are outputs and memory is read in order of the inner
//!         dimension. One layout serves one token, which is bound by memory, and five hundred, bound by arithmetic.
//! Elsewhere: the products themselves ([`linear`](crate::linear())), the file's block formats ([`block`](crate::block)).

mod blocks;
mod float;
pub(crate) mod quant;

use crate::cast::cast;
use crate::simd::LANES;
use crate::{AlignedBytes, Isa, Pool, Slab, TensorType, block};

pub(crate) use blocks::Shape;
pub(crate) use float::{Bf16Pairs, Chunk, F16Pairs, F32Pairs, Stored};

/// What a product may round besides its own sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// The stored weights times the `f32` activations.
    #[default]
    Exact,
    /// Activations may be rounded: to 8 bits per 32 for quantized weights, to bf16 for bf16 weights.
    Fast,
}

/// An `(n, k)` matrix, `n` outputs of `k` inputs each, repacked for products.
#[derive(Debug)]
pub struct PackedMatrix {
    n: usize,
    k: usize,
    ty: TensorType,
    layout: Layout,
    precision: Precision,
    data: AlignedBytes,
}

/// How and where matrices are packed.
#[derive(Clone, Copy, Debug)]
pub struct Packing<'a> {
    /// Who packs.
    pub pool: &'a Pool,
    /// What products may round.
    pub precision: Precision,
    /// Where matrices are kept that live as long as each other; none is a place of its own for each.
    pub slab: Option<&'a Slab>,
}

impl Packing<'_> {
    /// Packs row-major `bytes` as they stand in a file. Cost: one pass over the bytes, on all threads.
    ///
    /// Panics unless `bytes` are `n` rows of `k` numbers of type `ty`.
    pub fn pack(self, ty: TensorType, n: usize, k: usize, bytes: &[u8]) -> PackedMatrix {
        let Packing { pool, precision, slab } = self;
        let row_bytes = ty.row_bytes(k).expect("a row is whole blocks");
        assert_eq!(Some(bytes.len()), row_bytes.checked_mul(n), "pack: bytes of a ({n}, {k}) {ty} matrix");
        let layout = match ty {
            TensorType::F32 => Layout::F32,
            TensorType::F16 => Layout::F16,
            TensorType::BF16 => Layout::Bf16,
            _ => match blocks::shape(ty) {
                Some(shape) if precision == Precision::Fast => Layout::Quant(shape),
                _ => Layout::Rows,
            },
        };
        let panel_bytes = layout.panel_bytes(ty, k);
        let len = match layout {
            Layout::Rows => bytes.len(),
            _ => n.div_ceil(LANES).checked_mul(panel_bytes).expect("a matrix fits into memory"),
        };
        let mut data = slab.map_or_else(|| AlignedBytes::zeroed(len), |slab| slab.zeroed(len));
        let rows_of = |panel: usize| {
            let rows = panel * LANES..((panel + 1) * LANES).min(n);
            &bytes[rows.start * row_bytes..rows.end * row_bytes]
        };
        match layout {
            Layout::Rows => data.copy_from_slice(bytes),
            _ => pool.rows(&mut data, panel_bytes, 4, |first, panels| {
                for (i, panel) in panels.chunks_mut(panel_bytes).enumerate() {
                    match layout {
                        Layout::Quant(shape) => quant::pack_panel(ty, shape, k, rows_of(first + i), panel),
                        _ => float::pack_panel(layout, k, rows_of(first + i), panel),
                    }
                }
            }),
        }
        PackedMatrix { n, k, ty, layout, precision, data }
    }
}

/// Whether [`Precision::Fast`] multiplies this type by integer dot products.
#[cfg(test)]
pub(crate) fn is_multiplied_as_integers(ty: TensorType) -> bool {
    blocks::shape(ty).is_some()
}

/// How `data` is laid out. A panel is sixteen rows; rows past `n` are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `[panel][k / 2][2][16]`
    F32,
    /// `[panel][k / 2][2][16]`
    F16,
    /// `[panel][k / 2][16][2]`: the order of pairs that a bf16 dot product wants.
    Bf16,
    /// Scales of some inputs, then their bit planes.
    Quant(Shape),
    /// The file's rows, dequantized a panel at a time.
    Rows,
}

impl PackedMatrix {
    /// Outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The type it was packed from.
    pub fn ty(&self) -> TensorType {
        self.ty
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Gives row `i` back, as numbers: what an embedding table looks up. `out` has `k` places.
    pub fn row(&self, i: usize, out: &mut [f32]) {
        assert!(i < self.n, "row {i} of {}", self.n);
        assert_eq!(out.len(), self.k, "row: length of `out`");
        match self.layout {
            Layout::Rows => {
                let row_bytes = self.data.len() / self.n;
                block::dequantize(self.ty, &self.data[i * row_bytes..(i + 1) * row_bytes], out);
            }
            _ => self.part(i, 0, out),
        }
    }

    /// The whole matrix as numbers, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.n * self.k];
        if self.k > 0 {
            out.chunks_mut(self.k).enumerate().for_each(|(i, row)| self.row(i, row));
        }
        out
    }

    /// Numbers of row `i` from column `first` on.
    fn part(&self, i: usize, first: usize, out: &mut [f32]) {
        let (panel, lane) = (self.panel(i / LANES), i % LANES);
        match self.layout {
            Layout::Quant(shape) => quant::part_of_panel(shape, panel, lane, first, out),
            _ => float::part_of_panel(self.layout, panel, lane, first, out),
        }
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Sixteen rows in this layout; up to sixteen of the file's for [`Layout::Rows`].
    pub(crate) fn panel(&self, panel: usize) -> &[u8] {
        if self.layout == Layout::Rows {
            let row_bytes = self.data.len() / self.n;
            return &self.data[panel * LANES * row_bytes..((panel + 1) * LANES).min(self.n) * row_bytes];
        }
        let len = self.layout.panel_bytes(self.ty, self.k);
        &self.data[panel * len..(panel + 1) * len]
    }

    /// Whole cache lines of a panel and of all that follow it, from `distance` bytes after its beginning on.
    pub(crate) fn lines_after(&self, panel: usize, distance: usize) -> &[[u8; 64]] {
        let start = panel * self.layout.panel_bytes(self.ty, self.k) + distance;
        self.data.get(start..).unwrap_or_default().as_chunks().0
    }

    /// Dequantizes a panel to [`Layout::F32`].
    pub(crate) fn panel_to_f32(&self, panel: usize, row: &mut Vec<f32>, out: &mut [Chunk<f32>]) {
        row.resize(self.k, 0.0);
        for lane in 0..LANES {
            let i = panel * LANES + lane;
            if i < self.n {
                self.row(i, row);
            } else {
                row.fill(0.0);
            }
            for (chunk, x) in out.iter_mut().zip(row.chunks(2)) {
                chunk[lane] = x[0];
                chunk[LANES + lane] = x.get(1).copied().unwrap_or(0.0);
            }
        }
    }

    /// The sixteen rows of a panel as numbers, `[k][16]`; rows past `n` are zeros.
    pub(crate) fn lanes(&self, isa: Isa, panel: usize, out: &mut [[f32; LANES]]) {
        let out = &mut out[..self.k];
        match self.layout {
            Layout::F32 => {
                let numbers = cast::<f32>(self.panel(panel)).expect("panels are aligned");
                out.copy_from_slice(&numbers.as_chunks().0[..self.k]);
            }
            Layout::F16 => isa.run(float::Expand::<F16Pairs>::new(self.panel(panel), out)),
            Layout::Bf16 => isa.run(float::Expand::<Bf16Pairs>::new(self.panel(panel), out)),
            Layout::Quant(shape) => quant::expand(isa, shape, self.panel(panel), out),
            Layout::Rows => {
                out.fill([0.0; LANES]);
                let mut row = vec![0.0; self.k];
                for lane in 0..LANES.min(self.n - panel * LANES) {
                    self.row(panel * LANES + lane, &mut row);
                    out.iter_mut().zip(&row).for_each(|(step, x)| step[lane] = *x);
                }
            }
        }
    }

    /// What gradients of products with this matrix may round: as the products themselves, but never to 8 bits.
    pub fn grad_precision(&self) -> Precision {
        if self.layout == Layout::Bf16 { self.precision } else { Precision::Exact }
    }
}

impl Layout {
    fn panel_bytes(self, ty: TensorType, k: usize) -> usize {
        match self {
            Layout::F32 => k.next_multiple_of(2) * LANES * 4,
            Layout::F16 | Layout::Bf16 => k.next_multiple_of(2) * LANES * 2,
            Layout::Quant(shape) => quant::panel_bytes(shape, k),
            Layout::Rows => ty.row_bytes(k).expect("checked in `pack`") * LANES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::bytes_of;
    use crate::test_rng::{Rng, random_blocks};

    #[test]
    fn rows_come_back_as_they_went_in() {
        let pool = Pool::new(2);
        let mut rng = Rng::seeded(3);
        for (n, k) in [(1, 1), (16, 8), (17, 5), (40, 33)] {
            let x = rng.normals(n * k);
            let f16: Vec<half::f16> = x.iter().map(|&x| half::f16::from_f32(x)).collect();
            let bf16: Vec<half::bf16> = x.iter().map(|&x| half::bf16::from_f32(x)).collect();
            let pack = |ty, bytes: &[u8]| {
                let packing = Packing { pool: &pool, precision: Precision::Exact, slab: None };
                packing.pack(ty, n, k, bytes).to_f32()
            };
            assert_eq!(pack(TensorType::F32, bytes_of(&x)), x);
            assert_eq!(
                pack(TensorType::F16, bytes_of(&f16)),
                f16.iter().map(|x| x.to_f32()).collect::<Vec<_>>()
            );
            assert_eq!(
                pack(TensorType::BF16, bytes_of(&bf16)),
                bf16.iter().map(|x| x.to_f32()).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_panel_as_numbers_holds_the_bits_of_its_rows() {
        let pool = Pool::new(1);
        let mut rng = Rng::seeded(4);
        let plain = [TensorType::F32, TensorType::F16, TensorType::BF16];
        let quants = TensorType::ALL.iter().copied().filter(|&ty| is_multiplied_as_integers(ty));
        for ty in plain.into_iter().chain(quants) {
            for precision in [Precision::Exact, Precision::Fast] {
                let (n, k) = (19, 512);
                let x = rng.normals(n * k);
                let bytes = match ty {
                    _ if crate::can_quantize(ty) => {
                        let mut bytes = vec![0; ty.row_bytes(n * k).unwrap()];
                        crate::quantize(ty, &x, &mut bytes).unwrap();
                        bytes
                    }
                    _ => random_blocks(&mut rng, ty, n * k),
                };
                let weight = Packing { pool: &pool, precision, slab: None }.pack(ty, n, k, &bytes);
                let rows = weight.to_f32();
                for isa in Isa::all_here() {
                    for panel in 0..2 {
                        let mut lanes = vec![[f32::NAN; LANES]; k];
                        weight.lanes(isa, panel, &mut lanes);
                        for (i, step) in lanes.iter().enumerate() {
                            for (lane, x) in step.iter().enumerate() {
                                let want = rows.get((panel * LANES + lane) * k + i).copied().unwrap_or(0.0);
                                let is_same = x.to_bits() == want.to_bits() || (x.is_nan() && want.is_nan());
                                assert!(is_same || *x == want, "{ty}: {x} instead of {want}");
                            }
                        }
                    }
                }
            }
        }
    }
}
