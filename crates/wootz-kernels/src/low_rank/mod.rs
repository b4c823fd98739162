//! Low-rank additions to a linear layer's rows, each row its own or none: `y = gain ⊙ (y₀ + scale·B(A·x)) + shift`.
//!
//! Where:  called after the product that made `y₀`, where some rows of a batch belong to adapters.
//! Idea:   rows of the same addition are gathered in tiles of four, so that its numbers are read once for them. `A·x` is one
//!         dot product a rank; `B` is stored in panels of sixteen outputs, so that it streams and ranks are added in their order.
//! Source: Hu et al. 2021, LoRA, arXiv:2106.09685, eq. 3; the gain: Liu et al. 2024, DoRA, arXiv:2402.09353, eq. 5.
//! Elsewhere: which row belongs to which adapter (`wootz-graph`), plain definition in f64 (the reference device).
//!
//! # Invariants
//! - A row's result depends on that row and its addition alone, never on tiles, neighbours or threads.
//! - A row without an addition is copied bit by bit.

mod body;

use half::{bf16, f16};

use crate::cast::{bytes_of_mut, cast_mut};
use crate::pool::SharedSlice;
use crate::simd::LANES;
use crate::{Isa, Pool, TensorType, dequantize};
use body::{Down, Up};

/// Rows whose numbers stay in registers together.
const TILE: usize = 4;
/// Tiles of a task.
const TILES_PER_TASK: usize = 8;
/// Outputs of a task: with a rank of 16 their part of `B` stays in the first cache.
const STRETCH: usize = 1024;
/// Ranks of a task.
const RANKS_PER_TASK: usize = 4;

/// What is added to one linear layer's rows.
#[derive(Clone, Debug)]
pub struct LowRank {
    n: usize,
    k: usize,
    rank: usize,
    scale: f32,
    /// (rank, k).
    a: Numbers,
    /// `B` as [n / 16][rank][16], filled up with zeros.
    b: Numbers,
    gain: Option<Vec<f32>>,
    shift: Option<Vec<f32>>,
}

/// Numbers as a file had them, where they can be read fast.
#[derive(Clone, Debug)]
pub(crate) enum Numbers {
    F32(Vec<f32>),
    F16(Vec<u16>),
    Bf16(Vec<u16>),
}

/// A matrix as it stands in a file, row-major.
#[derive(Clone, Copy, Debug)]
pub struct HostMatrix<'a> {
    /// How its numbers are stored.
    pub ty: TensorType,
    /// All of them.
    pub bytes: &'a [u8],
}

/// What is added beside the product.
#[derive(Clone, Debug, Default)]
pub struct LowRankExtras {
    /// Times the product; 1 if nobody says otherwise.
    pub scale: f32,
    /// (n): times everything (DoRA).
    pub gain: Option<Vec<f32>>,
    /// (n): added last.
    pub shift: Option<Vec<f32>>,
}

impl LowRank {
    /// An addition of `a` (rank, k) and `b` (n, rank) to a layer of `n` outputs over `k` inputs; a rank of 0 has no matrices.
    ///
    /// Panics if a length does not fit.
    pub fn new(
        [n, k, rank]: [usize; 3],
        a: HostMatrix<'_>,
        b: HostMatrix<'_>,
        extras: LowRankExtras,
    ) -> Self {
        let LowRankExtras { scale, gain, shift } = extras;
        for extra in [&gain, &shift].into_iter().flatten() {
            assert_eq!(extra.len(), n, "low_rank: gain and shift have {n} numbers");
        }
        let (a, b) = (Numbers::of(a, rank * k), Numbers::of(b, n * rank).in_panels(n, rank));
        Self { n, k, rank, scale, a, b, gain, shift }
    }

    /// Bytes of its numbers.
    pub fn n_bytes(&self) -> usize {
        let extras = [&self.gain, &self.shift].into_iter().flatten();
        self.a.n_bytes() + self.b.n_bytes() + extras.map(|numbers| 4 * numbers.len()).sum::<usize>()
    }

    /// `dx += scale·Aᵀ(Bᵀ(gain ⊙ dy))` of one row, plainly.
    pub fn add_input_grad(&self, dy: &[f32], dx: &mut [f32]) {
        assert_eq!((dy.len(), dx.len()), (self.n, self.k), "low_rank: ({}, {})", self.n, self.k);
        for j in 0..self.rank {
            let gain = |i: usize| self.gain.as_ref().map_or(1.0, |gain| gain[i]);
            let z: f32 = (0..self.n)
                .map(|i| gain(i) * dy[i] * self.b.get((i / LANES * self.rank + j) * LANES + i % LANES))
                .sum();
            for (i, dx) in dx.iter_mut().enumerate() {
                *dx += self.scale * z * self.a.get(j * self.k + i);
            }
        }
    }

    /// Whether there is more than a gain and a shift.
    pub fn has_product(&self) -> bool {
        self.rank > 0
    }

    /// What every output is multiplied by, where that is not 1.
    pub fn gain(&self) -> Option<&[f32]> {
        self.gain.as_deref()
    }
}

impl Numbers {
    fn of(matrix: HostMatrix<'_>, n: usize) -> Self {
        let half = || {
            let mut numbers = vec![0_u16; n];
            assert_eq!(matrix.bytes.len(), 2 * n, "low_rank: {n} numbers of {}", matrix.ty);
            bytes_of_mut(&mut numbers).copy_from_slice(matrix.bytes);
            numbers
        };
        match matrix.ty {
            TensorType::F16 => Numbers::F16(half()),
            TensorType::BF16 => Numbers::Bf16(half()),
            ty => {
                let mut numbers = vec![0.0; n];
                dequantize(ty, matrix.bytes, &mut numbers);
                Numbers::F32(numbers)
            }
        }
    }

    /// (n, rank) → [n / 16][rank][16].
    fn in_panels(self, n: usize, rank: usize) -> Self {
        fn panels<T: Copy + Default>(from: &[T], n: usize, rank: usize) -> Vec<T> {
            let at = |panel: usize, j: usize, lane: usize| (panel * LANES + lane) * rank + j;
            let number = |at: usize| from.get(at).copied().unwrap_or_default();
            (0..n.div_ceil(LANES))
                .flat_map(|p| (0..rank).flat_map(move |j| (0..LANES).map(move |lane| at(p, j, lane))))
                .map(number)
                .collect()
        }
        match self {
            Numbers::F32(numbers) => Numbers::F32(panels(&numbers, n, rank)),
            Numbers::F16(numbers) => Numbers::F16(panels(&numbers, n, rank)),
            Numbers::Bf16(numbers) => Numbers::Bf16(panels(&numbers, n, rank)),
        }
    }

    fn get(&self, at: usize) -> f32 {
        match self {
            Numbers::F32(numbers) => numbers[at],
            Numbers::F16(numbers) => f16::from_bits(numbers[at]).to_f32(),
            Numbers::Bf16(numbers) => bf16::from_bits(numbers[at]).to_f32(),
        }
    }

    fn n_bytes(&self) -> usize {
        match self {
            Numbers::F32(numbers) => 4 * numbers.len(),
            Numbers::F16(numbers) | Numbers::Bf16(numbers) => 2 * numbers.len(),
        }
    }
}

/// Up to four rows of the same addition.
struct Tile<'a> {
    layer: Option<&'a LowRank>,
    rows: Vec<usize>,
    /// Where their `scale·A·x` stands: (rows, rank).
    z: usize,
}

/// `out[t] = gain ⊙ (base[t] + scale·B(A·x[t])) + shift` by the addition that `layers[t]` names, else `base[t]`.
///
/// `x` is `(T, k)`, `base` and `out` are `(T, n)`. Panics if a length does not fit an addition.
pub fn add_low_rank(
    isa: Isa,
    pool: &Pool,
    layers: &[Option<&LowRank>],
    x: &[f32],
    base: &[f32],
    out: &mut [f32],
) {
    assert_eq!(base.len(), out.len(), "low_rank: lengths differ");
    if layers.is_empty() {
        return;
    }
    let (n, k) = (out.len() / layers.len(), x.len() / layers.len());
    for layer in layers.iter().flatten() {
        assert!(
            layer.n == n && (layer.rank == 0 || layer.k == k),
            "low_rank: an addition of ({}, {}) to rows of ({n}, {k})",
            layer.n,
            layer.k
        );
    }
    let tiles = tiles_of(layers);
    let z_len = tiles.last().map_or(0, |tile| tile.z + tile.rows.len() * tile.rank());
    pool.with_scratch(4 * z_len, |z| {
        let z: &mut [f32] = cast_mut(z).expect("aligned for numbers of 4 bytes");
        down(isa, pool, &tiles, x, k, z);
        up(isa, pool, &tiles, base, n, z, out);
    });
}

impl Tile<'_> {
    fn rank(&self) -> usize {
        self.layer.map_or(0, |layer| layer.rank)
    }
}

/// Rows of the same addition side by side, in the order of the first of them.
fn tiles_of<'a>(layers: &[Option<&'a LowRank>]) -> Vec<Tile<'a>> {
    let mut tiles: Vec<Tile<'a>> = Vec::new();
    for (row, &layer) in layers.iter().enumerate() {
        let is_same = |other: Option<&LowRank>| match (other, layer) {
            (Some(other), Some(layer)) => std::ptr::eq(other, layer),
            (None, None) => true,
            _ => false,
        };
        // The last tile of an addition is the only one that may have room.
        match tiles.iter_mut().rev().find(|tile| is_same(tile.layer)) {
            Some(tile) if tile.rows.len() < TILE => tile.rows.push(row),
            _ => tiles.push(Tile { layer, rows: vec![row], z: 0 }),
        }
    }
    let mut end = 0;
    for tile in &mut tiles {
        tile.z = end;
        end += tile.rows.len() * tile.rank();
    }
    tiles
}

/// `z = scale·A·x` for every tile.
fn down(isa: Isa, pool: &Pool, tiles: &[Tile], x: &[f32], k: usize, z: &mut [f32]) {
    let z = SharedSlice::new(z);
    let max_rank = tiles.iter().map(Tile::rank).max().unwrap_or(0);
    let (n_groups, n_ranks) = (tiles.len().div_ceil(TILES_PER_TASK), max_rank.div_ceil(RANKS_PER_TASK));
    // Few tiles are split by ranks alone, so that threads find work in a batch of one.
    pool.run(n_groups * n_ranks, |task| {
        let (group, ranks) = (task / n_ranks, task % n_ranks * RANKS_PER_TASK);
        for tile in tiles.iter().skip(group * TILES_PER_TASK).take(TILES_PER_TASK) {
            let Some(layer) = tile.layer else { continue };
            for j in ranks..(ranks + RANKS_PER_TASK).min(layer.rank) {
                // SAFETY: tile and rank belong to one task alone; its numbers lie together, rows inside.
                let z = unsafe { z.slice(tile.z + j * tile.rows.len()..tile.z + (j + 1) * tile.rows.len()) };
                let scale = layer.scale;
                let row = j * layer.k..(j + 1) * layer.k;
                match &layer.a {
                    Numbers::F32(a) => {
                        isa.run(Down::<_, 0> { a: &a[row], x, k, rows: &tile.rows, scale, z });
                    }
                    Numbers::F16(a) => {
                        isa.run(Down::<_, 1> { a: &a[row], x, k, rows: &tile.rows, scale, z });
                    }
                    Numbers::Bf16(a) => {
                        isa.run(Down::<_, 2> { a: &a[row], x, k, rows: &tile.rows, scale, z });
                    }
                }
            }
        }
    });
}

/// The rows of `out`, for every tile and stretch of outputs.
fn up(isa: Isa, pool: &Pool, tiles: &[Tile], base: &[f32], n: usize, z: &[f32], out: &mut [f32]) {
    let out = SharedSlice::new(out);
    let (n_groups, n_stretches) = (tiles.len().div_ceil(TILES_PER_TASK), n.div_ceil(STRETCH));
    pool.run(n_groups * n_stretches, |task| {
        let (group, stretch) = (task / n_stretches, task % n_stretches);
        let columns = stretch * STRETCH..((stretch + 1) * STRETCH).min(n);
        for tile in tiles.iter().skip(group * TILES_PER_TASK).take(TILES_PER_TASK) {
            let part = |row: usize| row * n + columns.start..row * n + columns.end;
            // SAFETY: a row is in one tile, and a stretch of it in one task.
            let mut outs = tile.rows.iter().map(|&row| unsafe { out.slice(part(row)) }).collect::<Vec<_>>();
            for (out, &row) in outs.iter_mut().zip(&tile.rows) {
                out.copy_from_slice(&base[part(row)]);
            }
            let Some(layer) = tile.layer else { continue };
            let z = &z[tile.z..][..layer.rank * tile.rows.len()];
            let panels = layer.rank * columns.start..layer.rank * columns.end.next_multiple_of(LANES);
            let gain = layer.gain.as_ref().map(|gain| &gain[columns.clone()]);
            let shift = layer.shift.as_ref().map(|shift| &shift[columns.clone()]);
            let (rank, outs) = (layer.rank, &mut outs[..]);
            match &layer.b {
                Numbers::F32(b) => isa.run(Up::<_, 0> { b: &b[panels], rank, z, gain, shift, outs }),
                Numbers::F16(b) => isa.run(Up::<_, 1> { b: &b[panels], rank, z, gain, shift, outs }),
                Numbers::Bf16(b) => isa.run(Up::<_, 2> { b: &b[panels], rank, z, gain, shift, outs }),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::bytes_of;
    use crate::quantize;
    use crate::test_rng::{Rng, assert_close};

    struct Plain {
        shape: [usize; 3],
        a: Vec<f32>,
        b: Vec<f32>,
        extras: LowRankExtras,
        ty: TensorType,
    }

    fn stored(ty: TensorType, numbers: &[f32]) -> Vec<u8> {
        let mut bytes = vec![0; ty.row_bytes(numbers.len()).unwrap()];
        quantize(ty, numbers, &mut bytes).unwrap();
        bytes
    }

    impl Plain {
        fn drawn(rng: &mut Rng, shape: [usize; 3], ty: TensorType, has_extras: bool) -> Self {
            let [n, k, rank] = shape;
            let mut rounded = |n: usize| {
                let mut numbers = rng.normals(n);
                dequantize(ty, &stored(ty, &numbers.clone()), &mut numbers);
                numbers
            };
            let (a, b) = (rounded(rank * k), rounded(n * rank));
            let mut extra = || has_extras.then(|| rng.normals(n));
            let extras = LowRankExtras { scale: 0.7, gain: extra(), shift: extra() };
            Self { shape, a, b, extras, ty }
        }

        fn packed(&self) -> LowRank {
            let (a, b) = (stored(self.ty, &self.a), stored(self.ty, &self.b));
            let matrix = |bytes| HostMatrix { ty: self.ty, bytes };
            LowRank::new(self.shape, matrix(&a), matrix(&b), self.extras.clone())
        }

        /// The definition, in f64.
        fn applied(&self, x: &[f32], base: &[f32]) -> Vec<f32> {
            let [n, k, rank] = self.shape;
            let dot = |j: usize| (0..k).map(|i| f64::from(self.a[j * k + i]) * f64::from(x[i])).sum::<f64>();
            let z: Vec<f64> = (0..rank).map(dot).collect();
            let of = |numbers: &Option<Vec<f32>>, i: usize, default: f64| {
                numbers.as_ref().map_or(default, |numbers| f64::from(numbers[i]))
            };
            let y = |i: usize| {
                let up: f64 = (0..rank).map(|j| f64::from(self.b[i * rank + j]) * z[j]).sum();
                let y = f64::from(base[i]) + f64::from(self.extras.scale) * up;
                (y * of(&self.extras.gain, i, 1.0) + of(&self.extras.shift, i, 0.0)) as f32
            };
            (0..n).map(y).collect()
        }
    }

    #[test]
    fn rows_get_their_own_addition_and_the_same_bits_in_any_company() {
        let mut rng = Rng::seeded(31);
        for (n, k) in [(1, 1), (5, 17), (40, 33), (1100, 64)] {
            let mut draw = |rank, ty, extras| Plain::drawn(&mut rng, [n, k, rank], ty, extras);
            let plain = [
                draw(4, TensorType::F32, false),
                draw(1, TensorType::F16, true),
                draw(19, TensorType::BF16, false),
                draw(0, TensorType::F32, true),
            ];
            let packed: Vec<LowRank> = plain.iter().map(Plain::packed).collect();
            let whose: Vec<Option<usize>> =
                (0..23).map(|row| [Some(0), Some(1), None, Some(2), Some(3), Some(0)][row * 5 % 6]).collect();
            let (x, base) = (rng.normals(23 * k), rng.normals(23 * n));
            let layers: Vec<Option<&LowRank>> = whose.iter().map(|at| at.map(|at| &packed[at])).collect();
            for isa in Isa::all_here() {
                let mut out = vec![f32::NAN; 23 * n];
                add_low_rank(isa, &Pool::new(2), &layers, &x, &base, &mut out);
                for (row, at) in whose.iter().enumerate() {
                    let (x, base) = (&x[row * k..][..k], &base[row * n..][..n]);
                    let got = &out[row * n..][..n];
                    match at {
                        None => assert_eq!(got, base),
                        Some(at) => assert_close(got, &plain[*at].applied(x, base), 3e-5, 1e-5),
                    }
                    let mut alone = vec![f32::NAN; n];
                    add_low_rank(isa, &Pool::new(1), &layers[row..=row], x, base, &mut alone);
                    assert_eq!(alone, got, "({n}, {k}) row {row}");
                }
            }
        }
        add_low_rank(Isa::detect(), &Pool::new(1), &[], &[], &[], &mut []);
    }

    #[test]
    fn the_input_gradient_is_the_additions_slope() {
        let mut rng = Rng::seeded(7);
        let plain = Plain::drawn(&mut rng, [9, 6, 3], TensorType::F32, true);
        let (x, base, dy) = (rng.normals(6), vec![0.0; 9], rng.normals(9));
        let mut dx = vec![0.0; 6];
        plain.packed().add_input_grad(&dy, &mut dx);
        let loss = |x: &[f32]| plain.applied(x, &base).iter().zip(&dy).map(|(y, d)| y * d).sum::<f32>();
        for i in 0..6 {
            let mut moved = x.clone();
            moved[i] += 1.0;
            let slope = loss(&moved) - loss(&x); // it is linear
            assert!((slope - dx[i]).abs() < 1e-3, "{slope} {}", dx[i]);
        }
        assert_eq!(bytes_of(plain.packed().gain().unwrap()).len(), 36);
    }
}
