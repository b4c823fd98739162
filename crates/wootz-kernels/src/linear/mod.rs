//! Matrix products of activations with packed weights: `y = x·Wᵀ + b`, for several `W` over one `x`, or one `W` per expert.
//!
//! Where:  the linear layers of every model, by way of the `cpu` device; the graph's grouped product for experts.
//! Idea:   rows of `x` are packed once into tiles of up to twelve tokens, sixteen for quantized weights. A task is some panels of weights times a stretch of
//!         tiles; inside, every (token, output) owns one accumulator that walks the inner dimension from start to end.
//! Elsewhere: layouts of weights ([`PackedMatrix`]).
//!
//! # Invariants
//! - The additions of one output have one order, whatever the number of tokens, tiles, parts or threads.

#[cfg(target_arch = "x86_64")]
mod bf16;
mod blocked;
mod float;
mod grad;
mod integer;
mod tiles;
#[cfg(target_arch = "x86_64")]
mod turn;

#[cfg(target_arch = "x86_64")]
pub(crate) use bf16::chains as bf16_chains;
pub use grad::{linear_input_grad, linear_weight_grad};

use crate::cast::cast;
use crate::packed::{Layout, PackedMatrix, Shape};
use crate::pool::SharedSlice;
use crate::simd::{LANES, max_integer_tile_width, max_tile_width};
use crate::{Isa, Pool, Precision};
use tiles::{Form, Rows, Tiles};

/// One matrix of a product and where its results go.
pub struct LinearPart<'a> {
    /// `(n, k)`
    pub weight: &'a PackedMatrix,
    /// `(n)`
    pub bias: Option<&'a [f32]>,
    /// `(m, n)`, overwritten.
    pub out: &'a mut [f32],
}

/// `out = x·Wᵀ + bias` for every part, in one pass over `x` `(m, k)`.
///
/// A row's results do not depend on the other rows, on `m`, on the other parts or on the threads.
pub fn linear(isa: Isa, pool: &Pool, x: &[f32], m: usize, parts: &mut [LinearPart<'_>]) {
    let Some(k) = parts.first().map(|part| part.weight.k()) else { return };
    assert_eq!(x.len(), m * k, "linear: `x` is ({m}, {k})");
    let groups: Vec<Group<'_>> = parts
        .iter_mut()
        .map(|part| {
            assert_eq!(part.weight.k(), k, "linear: parts have one width");
            assert_eq!(part.out.len(), m * part.weight.n(), "linear: `out` is ({m}, {})", part.weight.n());
            Group::new(part.weight, part.bias, SharedSlice::new(part.out), 0)
        })
        .collect();
    products(isa, pool, &Rows::Of { x, k }, &[0, m as u32], None, &groups);
}

/// Which rows go to which expert. Rows sorted by expert are numbered `0..R`.
#[derive(Clone, Copy)]
pub struct ExpertRows<'a> {
    /// `(E + 1)`: expert `e` has the sorted rows `offsets[e]..offsets[e + 1]`.
    pub offsets: &'a [u32],
    /// `(R)`: the row of `x` that each sorted row reads.
    pub sources: &'a [u32],
    /// `(R)`: the row of `out` that each sorted row writes; no two are equal.
    pub targets: &'a [u32],
}

/// One matrix for each expert and where the results go.
pub struct ExpertPart<'a> {
    /// `(E)` matrices of one shape `(n, k)`.
    pub weights: &'a [&'a PackedMatrix],
    /// `(E)` times `(n)`
    pub biases: Option<&'a [&'a [f32]]>,
    /// Rows of `n`; those that `targets` names are overwritten.
    pub out: &'a mut [f32],
}

/// The product of each row with the matrix of its expert, bit for bit what [`linear`] gives for that row.
///
/// `x` has rows of `k`. Cost: the rows and the experts that occur; an expert without rows is not read.
pub fn grouped_linear(isa: Isa, pool: &Pool, x: &[f32], rows: ExpertRows<'_>, parts: &mut [ExpertPart<'_>]) {
    let ExpertRows { offsets, sources, targets } = rows;
    let Some(k) = parts.first().and_then(|part| part.weights.first()).map(|weight| weight.k()) else {
        return;
    };
    let n_rows = sources.len();
    assert!(k > 0 && x.len().is_multiple_of(k), "grouped_linear: `x` has rows of {k}");
    assert!(sources.iter().all(|&row| (row as usize) < x.len() / k), "grouped_linear: a source is past `x`");
    assert!(offsets.is_sorted() && offsets.first() == Some(&0), "grouped_linear: offsets rise from 0");
    assert_eq!(
        offsets.last().map(|&end| end as usize),
        Some(n_rows),
        "grouped_linear: offsets end at the last row"
    );
    assert_eq!(targets.len(), n_rows, "grouped_linear: one target for each row");
    let mut groups = Vec::with_capacity(parts.len() * (offsets.len() - 1));
    for part in parts.iter_mut() {
        assert_eq!(part.weights.len(), offsets.len() - 1, "grouped_linear: one matrix for each expert");
        let n = part.weights[0].n();
        assert!(n > 0 && part.out.len().is_multiple_of(n), "grouped_linear: `out` has rows of {n}");
        assert_distinct(targets, part.out.len() / n);
        let out = SharedSlice::new(part.out);
        for (e, weight) in part.weights.iter().enumerate() {
            assert_eq!((weight.n(), weight.k()), (n, k), "grouped_linear: experts have one shape");
            groups.push(Group::new(weight, part.biases.map(|biases| biases[e]), out, e));
        }
    }
    products(isa, pool, &Rows::Gathered { x, k, sources }, offsets, Some(targets), &groups);
}

fn assert_distinct(targets: &[u32], n_rows: usize) {
    let mut seen = vec![false; n_rows];
    for &target in targets {
        let seen = seen.get_mut(target as usize).expect("grouped_linear: a target is past `out`");
        assert!(!*seen, "grouped_linear: target {target} comes twice");
        *seen = true;
    }
}

/// One matrix over one segment of the rows.
struct Group<'a> {
    weight: &'a PackedMatrix,
    n: usize,
    bias: Option<&'a [f32]>,
    out: SharedSlice<'a, f32>,
    segment: usize,
}

impl<'a> Group<'a> {
    fn new(
        weight: &'a PackedMatrix,
        bias: Option<&'a [f32]>,
        out: SharedSlice<'a, f32>,
        segment: usize,
    ) -> Self {
        if let Some(bias) = bias {
            assert_eq!(bias.len(), weight.n(), "linear: length of the bias");
        }
        Group { weight, n: weight.n(), bias, out, segment }
    }

    fn n_panels(&self) -> usize {
        self.n.div_ceil(LANES)
    }

    /// The matrix and its quants, if it is multiplied as integers.
    fn quants(&self) -> Option<(&'a PackedMatrix, Shape)> {
        match self.weight.layout() {
            Layout::Quant(shape) => Some((self.weight, shape)),
            _ => None,
        }
    }

    /// How its activations are packed.
    fn form(&self, isa: Isa) -> Form {
        match self.weight.layout() {
            Layout::Quant(shape) => Form::Quants(integer::Sums::of(shape)),
            Layout::Bf16 if self.weight.precision() == Precision::Fast && isa.has_bf16() => Form::Bf16Pairs,
            _ => Form::Floats,
        }
    }

    /// Writes sixteen outputs of a row, or as many as the matrix has.
    ///
    /// # Safety
    /// No other task writes these columns of this row.
    #[inline(always)]
    unsafe fn write(&self, row: usize, panel: usize, values: &[f32; LANES]) {
        let columns = panel * LANES..((panel + 1) * LANES).min(self.n);
        // SAFETY: the caller promises that these columns of this row are its own.
        let out = unsafe { self.out.slice(row * self.n + columns.start..row * self.n + columns.end) };
        match self.bias {
            // PERF: a copy whose length is known is two instructions, otherwise a call.
            None if let Some(out) = out.first_chunk_mut::<LANES>() => *out = *values,
            None => out.copy_from_slice(&values[..out.len()]),
            Some(bias) => {
                for ((o, v), b) in out.iter_mut().zip(values).zip(&bias[columns]) {
                    *o = v + b;
                }
            }
        }
    }
}

/// Panels of one group times a stretch of its tiles.
struct Task {
    group: usize,
    panels: std::ops::Range<usize>,
    tiles: std::ops::Range<usize>,
}

fn products(
    isa: Isa,
    pool: &Pool,
    rows: &Rows<'_>,
    offsets: &[u32],
    targets: Option<&[u32]>,
    groups: &[Group<'_>],
) {
    let only_quants = groups.iter().all(|group| matches!(group.form(isa), Form::Quants(_)));
    let max_width = if only_quants { max_integer_tile_width } else { max_tile_width };
    let tiles = Tiles::new(isa, max_width(isa.is_wide()), offsets);
    let tasks = tasks(isa, pool, rows.k(), &tiles, groups);
    let mut forms: Vec<Form> = Vec::new();
    let form_of: Vec<usize> = groups
        .iter()
        .map(|group| {
            let form = group.form(isa);
            forms.iter().position(|&f| f == form).unwrap_or_else(|| {
                forms.push(form);
                forms.len() - 1
            })
        })
        .collect();
    tiles.with_packed(isa, pool, rows, &forms, |packed| {
        pool.run(tasks.len(), |i| {
            let Task { group: index, panels, tiles: range } = &tasks[i];
            let (group, panels) = (&groups[*index], panels.clone());
            let comes_first = range.start == tiles.segment(group.segment).start;
            let tiles = &tiles.list()[range.clone()];
            let x = packed[form_of[*index]];
            #[cfg(target_arch = "x86_64")]
            if group.form(isa) == Form::Bf16Pairs {
                let weight = group.weight;
                let x = cast::<i32>(x).expect("scratch space is aligned");
                return bf16::Product { group, weight, panels, tiles, comes_first, targets, x }.run(isa);
            }
            match group.quants() {
                Some((weight, shape)) => {
                    let x = cast::<i32>(x).expect("scratch space is aligned");
                    integer::Product { group, weight, shape, panels, tiles, comes_first, targets, x }
                        .run(isa);
                }
                None => {
                    let x = cast::<f32>(x).expect("scratch space is aligned");
                    float::Product { group, panels, tiles, targets, x, k: rows.k() }.run(isa);
                }
            }
        });
    });
}

/// Bytes of packed activations that should stay in a core's own cache while panels pass by.
const STRETCH_BYTES: usize = 384 << 10;

/// Cuts the work: long stretches of panels first, because a core reads best what lies in a row, and ever shorter ones, so
/// that threads end together. Many tokens bring so much work for each panel that four are enough.
fn tasks(isa: Isa, pool: &Pool, k: usize, tiles: &Tiles, groups: &[Group<'_>]) -> Vec<Task> {
    let mut left: usize = groups
        .iter()
        .filter(|group| !tiles.segment(group.segment).is_empty())
        .map(|group| group.n_panels())
        .sum();
    // One row waits for memory alone, which gives most to whoever reads on.
    let parts = pool.threads() * if tiles.list().iter().all(|tile| tile.width == 1) { 2 } else { 3 };
    let mut tasks = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let segment = tiles.segment(group.segment);
        if segment.is_empty() {
            continue;
        }
        let tile_bytes = group.form(isa).words(k).max(1) * 4 * tiles.max_width();
        let per_stretch = (STRETCH_BYTES / tile_bytes).max(1);
        let mut first_panel = 0;
        while first_panel < group.n_panels() {
            let share = (left / parts).clamp(1, 64);
            let n_panels = if segment.len() > 1 { share.min(4) } else { share };
            let panels = first_panel..(first_panel + n_panels).min(group.n_panels());
            left -= panels.len();
            first_panel = panels.end;
            for first_tile in segment.clone().step_by(per_stretch) {
                let tiles = first_tile..(first_tile + per_stretch).min(segment.end);
                tasks.push(Task { group: index, panels: panels.clone(), tiles });
            }
        }
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::bytes_of;
    use crate::test_rng::{Rng, assert_close, random_blocks};
    use crate::{Packing, TensorType};

    /// The twin: one sum in f64 for each output.
    fn plain(x: &[f32], weight: &PackedMatrix, bias: Option<&[f32]>) -> Vec<f32> {
        let (w, k) = (weight.to_f32(), weight.k());
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        x.chunks(k)
            .flat_map(|x| {
                w.chunks(k).enumerate().map(move |(i, w)| (dot(x, w) as f32) + bias.map_or(0.0, |b| b[i]))
            })
            .collect()
    }

    fn packed(rng: &mut Rng, ty: TensorType, precision: Precision, n: usize, k: usize) -> PackedMatrix {
        let x = rng.normals(n * k);
        let bytes = match ty {
            TensorType::F32 => bytes_of(&x).to_vec(),
            TensorType::F16 => {
                bytes_of(&x.iter().map(|&x| half::f16::from_f32(x)).collect::<Vec<_>>()).to_vec()
            }
            TensorType::BF16 => {
                bytes_of(&x.iter().map(|&x| half::bf16::from_f32(x)).collect::<Vec<_>>()).to_vec()
            }
            _ if crate::can_quantize(ty) => {
                let mut bytes = vec![0; ty.row_bytes(n * k).unwrap()];
                crate::quantize(ty, &x, &mut bytes).unwrap();
                bytes
            }
            _ => random_blocks(rng, ty, n * k),
        };
        Packing { pool: &Pool::new(1), precision, slab: None }.pack(ty, n, k, &bytes)
    }

    #[test]
    fn products_agree_with_the_plain_twin_on_every_tail() {
        let mut rng = Rng::seeded(1);
        let pool = Pool::new(2);
        for (ty, k_step) in [
            (TensorType::F32, 1),
            (TensorType::F16, 1),
            (TensorType::BF16, 1),
            (TensorType::Q8_0, 32),
            (TensorType::Q4_0, 32),
        ] {
            for (m, n, k) in
                [(1, 1, 1), (1, 70, 3), (2, 16, 8), (3, 17, 5), (5, 33, 64), (13, 130, 7), (27, 48, 9)]
            {
                let weight = packed(&mut rng, ty, Precision::Exact, n, k * k_step);
                let (x, bias) = (rng.normals(m * k * k_step), rng.normals(n));
                let want = plain(&x, &weight, Some(&bias));
                for isa in Isa::all_here() {
                    let mut out = vec![f32::NAN; m * n];
                    linear(
                        isa,
                        &pool,
                        &x,
                        m,
                        &mut [LinearPart { weight: &weight, bias: Some(&bias), out: &mut out }],
                    );
                    assert_close(&out, &want, 3e-6 * (weight.k() as f32).sqrt(), 1e-5); // f32 sums of k terms
                }
            }
        }
    }

    #[test]
    fn a_row_is_the_same_bits_whatever_stands_beside_it() {
        let mut rng = Rng::seeded(2);
        let (m, k) = (64, 256);
        let exact = [TensorType::F32, TensorType::F16, TensorType::BF16, TensorType::Q8_0]
            .map(|ty| (ty, Precision::Exact));
        let fast = TensorType::ALL.iter().filter(|&&ty| crate::packed::is_multiplied_as_integers(ty));
        let fast = fast.chain([&TensorType::BF16]).map(|&ty| (ty, Precision::Fast));
        for (ty, precision) in exact.into_iter().chain(fast) {
            let weights = [packed(&mut rng, ty, precision, 80, k), packed(&mut rng, ty, precision, 19, k)];
            let x = rng.normals(m * k);
            for isa in Isa::all_here() {
                let product = |threads: usize, x: &[f32]| {
                    let m = x.len() / k;
                    let (mut a, mut b) = (vec![0.0; m * 80], vec![0.0; m * 19]);
                    linear(
                        isa,
                        &Pool::new(threads),
                        x,
                        m,
                        &mut [
                            LinearPart { weight: &weights[0], bias: None, out: &mut a },
                            LinearPart { weight: &weights[1], bias: None, out: &mut b },
                        ],
                    );
                    (a, b)
                };
                let (a, b) = product(2, &x);
                for chunk in [1, 2, 3, 4, 7, 8, 30] {
                    for (i, x) in x.chunks(chunk * k).enumerate() {
                        let (got_a, got_b) = product(1 + i % 2, x);
                        assert_eq!(got_a, a[i * chunk * 80..][..got_a.len()], "{isa:?} {ty} {chunk}");
                        assert_eq!(got_b, b[i * chunk * 19..][..got_b.len()]);
                    }
                }
            }
        }
    }

    #[test]
    fn integer_products_stay_within_the_error_of_rounding_activations() {
        let mut rng = Rng::seeded(6);
        let pool = Pool::new(2);
        let fast = |ty, n, k, bytes: &[u8]| {
            Packing { pool: &pool, precision: Precision::Fast, slab: None }.pack(ty, n, k, bytes)
        };
        for &ty in TensorType::ALL {
            if !crate::packed::is_multiplied_as_integers(ty) {
                continue;
            }
            for (m, n) in [(1, 16), (3, 50), (13, 17), (27, 33)] {
                let k = 512;
                let weight = fast(ty, n, k, &random_blocks(&mut rng, ty, n * k));
                let x = rng.normals(m * k);
                let want = plain(&x, &weight, None);
                let w = weight.to_f32();
                let mut first: Option<Vec<f32>> = None;
                for isa in Isa::all_here() {
                    let mut out = vec![f32::NAN; m * n];
                    linear(
                        isa,
                        &pool,
                        &x,
                        m,
                        &mut [LinearPart { weight: &weight, bias: None, out: &mut out }],
                    );
                    for (i, (&got, &want)) in out.iter().zip(&want).enumerate() {
                        // A rounding error of half a step per activation, in units of max/127 of its 32.
                        let (x, w) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
                        let bound: f32 = x
                            .chunks(32)
                            .zip(w.chunks(32))
                            .map(|(x, w)| {
                                let max = x.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
                                max / 254.0 * w.iter().map(|w| w.abs()).sum::<f32>()
                            })
                            .sum();
                        assert!(
                            (got - want).abs() <= bound * 1.001 + 1e-4,
                            "{isa:?} {ty} {i}: {got} for {want}"
                        );
                    }
                    // Integer sums are exact, so instruction sets differ by the rounding of scaled additions alone.
                    let first = first.get_or_insert_with(|| out.clone());
                    assert_close(&out, first, 1e-4, 1e-5);
                }
            }
        }
    }

    #[test]
    fn bf16_products_stay_within_the_error_of_rounding_activations() {
        let mut rng = Rng::seeded(7);
        let pool = Pool::new(2);
        for (m, n, k) in [(1, 70, 64), (2, 16, 3), (5, 33, 7), (13, 130, 96), (27, 17, 200)] {
            let weight = packed(&mut rng, TensorType::BF16, Precision::Fast, n, k);
            let x = rng.normals(m * k);
            let rounded: Vec<f32> = x.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect();
            for isa in Isa::all_here() {
                let want = plain(if isa.has_bf16() { &rounded } else { &x }, &weight, None);
                let mut out = vec![f32::NAN; m * n];
                linear(isa, &pool, &x, m, &mut [LinearPart { weight: &weight, bias: None, out: &mut out }]);
                assert_close(&out, &want, 3e-5, 1e-5);
            }
        }
    }

    #[test]
    fn experts_give_the_bits_of_the_plain_product() {
        let mut rng = Rng::seeded(4);
        let (k, n, n_tokens) = (40, 24, 9);
        let experts: Vec<_> =
            (0..4).map(|_| packed(&mut rng, TensorType::F32, Precision::Exact, n, k)).collect();
        let x = rng.normals(n_tokens * k);
        // Two experts for each token; the second expert gets none.
        let chosen: Vec<[usize; 2]> = (0..n_tokens).map(|t| [[0, 2], [2, 3], [3, 0]][t % 3]).collect();
        let (mut offsets, mut sources, mut targets) = (vec![0], Vec::new(), Vec::new());
        for e in 0..4 {
            for (t, pair) in chosen.iter().enumerate() {
                if let Some(j) = pair.iter().position(|&c| c == e) {
                    sources.push(t as u32);
                    targets.push((2 * t + j) as u32);
                }
            }
            offsets.push(sources.len() as u32);
        }
        for isa in Isa::all_here() {
            let pool = Pool::new(2);
            let mut out = vec![0.0; 2 * n_tokens * n];
            let weights: Vec<&PackedMatrix> = experts.iter().collect();
            let rows = ExpertRows { offsets: &offsets, sources: &sources, targets: &targets };
            grouped_linear(
                isa,
                &pool,
                &x,
                rows,
                &mut [ExpertPart { weights: &weights, biases: None, out: &mut out }],
            );
            for (t, pair) in chosen.iter().enumerate() {
                for (j, &e) in pair.iter().enumerate() {
                    let mut want = vec![0.0; n];
                    let x = &x[t * k..(t + 1) * k];
                    linear(
                        isa,
                        &pool,
                        x,
                        1,
                        &mut [LinearPart { weight: &experts[e], bias: None, out: &mut want }],
                    );
                    assert_eq!(out[(2 * t + j) * n..][..n], want);
                }
            }
        }
    }
}
