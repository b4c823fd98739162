//! Gradients of the grouped product: rows that went to different experts, back through their matrices.
//!
//! Where:  the backward pass of mixtures of experts and of layers with a matrix for every head, for training.
//! Idea:   an expert's rows are gathered, go through the two products of an ordinary linear layer, and are added back. Experts come
//!         in order, so a row that went to several sums them in that order.
//! Elsewhere: the forward product and the order of rows ([`ExpertRows`]).

use std::ops::Range;

use crate::cast::cast_mut;
use crate::linear::{ExpertRows, linear_input_grad, linear_weight_grad};
use crate::pool::SharedSlice;
use crate::rows::add_assign;
use crate::{Isa, PackedMatrix, Pool};

/// `dx[sources[r]] = Σ dy[targets[r]]·W[expert of r]` over the sorted rows `r` with that source; zeros where there is none.
///
/// `dy` has rows of `n`, `dx` of `k`, for `E` matrices `(n, k)`.
pub fn grouped_input_grad(
    isa: Isa,
    pool: &Pool,
    dy: &[f32],
    rows: ExpertRows<'_>,
    weights: &[&PackedMatrix],
    dx: &mut [f32],
) {
    dx.fill(0.0);
    let Some((n, k)) = weights.first().map(|weight| (weight.n(), weight.k())) else { return };
    check(&rows, weights.len(), dx.len() / k, dy.len() / n);
    let longest = segments(&rows).map(|segment| segment.len()).max().unwrap_or(0);
    pool.with_scratch(4 * longest * (n + k), |bytes| {
        let scratch = cast_mut::<f32>(bytes).expect("scratch space is aligned");
        let (some_dy, some_dx) = scratch.split_at_mut(longest * n);
        for (segment, weight) in segments(&rows).zip(weights).filter(|(segment, _)| !segment.is_empty()) {
            let m = segment.len();
            let (some_dy, some_dx) = (&mut some_dy[..m * n], &mut some_dx[..m * k]);
            gather(pool, dy, &rows.targets[segment.clone()], n, some_dy);
            linear_input_grad(isa, pool, some_dy, m, weight, some_dx, false);
            scatter_add(isa, pool, some_dx, &rows.sources[segment], k, dx);
        }
    });
}

/// `dw[e] = Σ dy[targets[r]]ᵀ·x[sources[r]]` over the sorted rows of expert `e`, or `dw[e] += …`. `dw` is `(E, n, k)`.
///
/// Of the matrices only the shape and what may be rounded are asked for.
#[expect(clippy::too_many_arguments, reason = "the machine, the operator and its tensors")]
pub fn grouped_weight_grad(
    isa: Isa,
    pool: &Pool,
    x: &[f32],
    dy: &[f32],
    rows: ExpertRows<'_>,
    weights: &[&PackedMatrix],
    dw: &mut [f32],
    accumulate: bool,
) {
    let Some(weight) = weights.first() else { return };
    let (n, k, precision) = (weight.n(), weight.k(), weight.grad_precision());
    assert_eq!(dw.len(), weights.len() * n * k, "grouped_weight_grad: `dw` is ({}, {n}, {k})", weights.len());
    check(&rows, weights.len(), x.len() / k, dy.len() / n);
    let longest = segments(&rows).map(|segment| segment.len()).max().unwrap_or(0);
    pool.with_scratch(4 * longest * (n + k), |bytes| {
        let scratch = cast_mut::<f32>(bytes).expect("scratch space is aligned");
        let (some_dy, some_x) = scratch.split_at_mut(longest * n);
        for (segment, dw) in segments(&rows).zip(dw.chunks_exact_mut(n * k)) {
            let m = segment.len();
            let (some_dy, some_x) = (&mut some_dy[..m * n], &mut some_x[..m * k]);
            gather(pool, dy, &rows.targets[segment.clone()], n, some_dy);
            gather(pool, x, &rows.sources[segment], k, some_x);
            linear_weight_grad(isa, pool, some_x, some_dy, m, precision, dw, accumulate);
        }
    });
}

fn check(rows: &ExpertRows<'_>, n_experts: usize, n_sources: usize, n_targets: usize) {
    let ExpertRows { offsets, sources, targets } = *rows;
    assert!(offsets.is_sorted() && offsets.first() == Some(&0), "grouped gradient: offsets rise from 0");
    assert_eq!(offsets.len(), n_experts + 1, "grouped gradient: one matrix for each expert");
    let ends = (offsets.last().map(|&end| end as usize), sources.len());
    assert_eq!(ends, (Some(targets.len()), targets.len()), "grouped gradient: offsets end at the last row");
    let within = |rows: &[u32], n: usize| rows.iter().all(|&row| (row as usize) < n);
    assert!(
        within(sources, n_sources) && within(targets, n_targets),
        "grouped gradient: a row does not exist"
    );
}

/// The sorted rows of each expert.
fn segments<'r>(rows: &ExpertRows<'r>) -> impl Iterator<Item = Range<usize>> + use<'r> {
    rows.offsets.windows(2).map(|pair| pair[0] as usize..pair[1] as usize)
}

fn gather(pool: &Pool, from: &[f32], rows: &[u32], width: usize, to: &mut [f32]) {
    pool.rows(to, width, 8, |first, to| {
        for (to, &row) in to.chunks_exact_mut(width).zip(&rows[first..]) {
            to.copy_from_slice(&from[row as usize * width..][..width]);
        }
    });
}

/// Adds rows where they belong; in order, should one come twice.
fn scatter_add(isa: Isa, pool: &Pool, from: &[f32], rows: &[u32], width: usize, to: &mut [f32]) {
    let rises = rows.windows(2).all(|pair| pair[0] < pair[1]);
    if !rises {
        for (from, &row) in from.chunks_exact(width).zip(rows) {
            add_assign(isa, pool, 1.0, from, &mut to[row as usize * width..][..width]);
        }
        return;
    }
    let to = SharedSlice::new(to);
    pool.run(rows.len().div_ceil(8), |task| {
        for i in task * 8..((task + 1) * 8).min(rows.len()) {
            let row = rows[i] as usize;
            // SAFETY: rows rise, so every one is one task's.
            let to = unsafe { to.slice(row * width..(row + 1) * width) };
            add_assign(isa, pool, 1.0, &from[i * width..][..width], to);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::bytes_of;
    use crate::test_rng::{Rng, assert_close};
    use crate::{Packing, Precision, TensorType};

    #[test]
    fn gradients_agree_with_plain_sums_row_by_row() {
        let mut rng = Rng::seeded(61);
        let pool = Pool::new(2);
        for (t, repeats, n_experts, n, k) in [(1, 1, 1, 1, 1), (20, 2, 4, 7, 5), (50, 3, 5, 33, 18)] {
            let (x, w) = (rng.normals(t * k), rng.normals(n_experts * n * k));
            let dy = rng.normals(t * repeats * n);
            let ids: Vec<usize> = (0..t * repeats).map(|_| rng.next_u64() as usize % n_experts).collect();
            let mut targets: Vec<u32> = (0..ids.len() as u32).collect();
            targets.sort_by_key(|&row| ids[row as usize]);
            let sources: Vec<u32> = targets.iter().map(|row| row / repeats as u32).collect();
            let offsets: Vec<u32> =
                (0..=n_experts).map(|e| ids.iter().filter(|&&id| id < e).count() as u32).collect();
            let rows = ExpertRows { offsets: &offsets, sources: &sources, targets: &targets };
            let (mut want_dx, mut want_dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
            for (row, &e) in ids.iter().enumerate() {
                for i in 0..n {
                    for j in 0..k {
                        let (from, at) = (row / repeats * k + j, (e * n + i) * k + j);
                        want_dx[from] += dy[row * n + i] * w[at];
                        want_dw[at] += dy[row * n + i] * x[from];
                    }
                }
            }
            let packing = Packing { pool: &pool, precision: Precision::Exact, slab: None };
            let weights: Vec<PackedMatrix> =
                w.chunks(n * k).map(|w| packing.pack(TensorType::F32, n, k, bytes_of(w))).collect();
            let weights: Vec<&PackedMatrix> = weights.iter().collect();
            for isa in Isa::all_here() {
                let (mut dx, mut dw) = (vec![f32::NAN; x.len()], vec![f32::NAN; w.len()]);
                grouped_input_grad(isa, &pool, &dy, rows, &weights, &mut dx);
                grouped_weight_grad(isa, &pool, &x, &dy, rows, &weights, &mut dw, false);
                assert_close(&dx, &want_dx, 5e-5, 1e-5);
                assert_close(&dw, &want_dw, 5e-5, 1e-5);
                grouped_weight_grad(isa, &pool, &x, &dy, rows, &weights, &mut dw, true);
                want_dw.iter_mut().for_each(|x| *x *= 2.0);
                assert_close(&dw, &want_dw, 1e-4, 1e-5);
                want_dw.iter_mut().for_each(|x| *x /= 2.0);
            }
        }
    }
}
