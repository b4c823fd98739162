//! Gradients of the linear product, which are products themselves.
//!
//! Where:  the backward pass of linear layers, for training.
//! Idea:   `dx = dy·W` and `dW = dyᵀ·x`, with either side packed as it lies. Weights are unpacked once a call, whatever their type.
//! Elsewhere: the blocked product ([`blocked`](super::blocked)).

use super::blocked::{Blocked, Left, Right};
use crate::{Isa, PackedMatrix, Pool, Precision};

/// `dx = dy·W`, or `dx += dy·W`: `dy` `(m, n)`, `W` `(n, k)`, `dx` `(m, k)`, added in f32.
///
/// Both sides are rounded to bf16 where [`PackedMatrix::grad_precision`] allows it and the machine has the instruction.
pub fn linear_input_grad(
    isa: Isa,
    pool: &Pool,
    dy: &[f32],
    m: usize,
    weight: &PackedMatrix,
    dx: &mut [f32],
    accumulate: bool,
) {
    let (n, k) = (weight.n(), weight.k());
    assert_eq!(dy.len(), m * n, "linear_input_grad: `dy` is ({m}, {n})");
    assert_eq!(dx.len(), m * k, "linear_input_grad: `dx` is ({m}, {k})");
    let rounds = weight.grad_precision() == Precision::Fast;
    let (left, right) = (Left::Rows(dy), Right::Packed(weight));
    Blocked { left, right, dims: [m, n, k], rounds, accumulate }.run(isa, pool, dx);
}

/// `dW = dyᵀ·x`, or `dW += dyᵀ·x`: `x` `(m, k)`, `dy` `(m, n)`, `dW` `(n, k)` row-major, added in f32.
///
/// [`Precision::Fast`] rounds both sides to bf16 where the machine has the instruction. Rows are added in their order.
#[expect(clippy::too_many_arguments, reason = "the machine, the formula's four, and how it is computed")]
pub fn linear_weight_grad(
    isa: Isa,
    pool: &Pool,
    x: &[f32],
    dy: &[f32],
    m: usize,
    precision: Precision,
    dw: &mut [f32],
    accumulate: bool,
) {
    if m == 0 {
        return if !accumulate {
            dw.fill(0.0)
        };
    }
    let (n, k) = (dy.len() / m, x.len() / m);
    assert_eq!((dy.len(), x.len()), (m * n, m * k), "linear_weight_grad: `x` and `dy` have {m} rows");
    assert_eq!(dw.len(), n * k, "linear_weight_grad: `dw` is ({n}, {k})");
    let rounds = precision == Precision::Fast;
    let (left, right) = (Left::Columns(dy), Right::Rows(x));
    Blocked { left, right, dims: [n, m, k], rounds, accumulate }.run(isa, pool, dw);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::bytes_of;
    use crate::test_rng::{Rng, assert_close, random_blocks};
    use crate::{Packing, TensorType};

    /// The twin: sums in f64, on top of ones.
    fn plain(x: &[f32], dy: &[f32], w: &[f32], [m, n, k]: [usize; 3]) -> [Vec<f32>; 2] {
        let (mut dx, mut dw) = (vec![1.0_f64; m * k], vec![1.0_f64; n * k]);
        for t in 0..m {
            for i in 0..n {
                for j in 0..k {
                    dx[t * k + j] += f64::from(dy[t * n + i]) * f64::from(w[i * k + j]);
                    dw[i * k + j] += f64::from(dy[t * n + i]) * f64::from(x[t * k + j]);
                }
            }
        }
        [dx, dw].map(|x| x.into_iter().map(|x| x as f32).collect())
    }

    #[test]
    fn gradients_agree_with_plain_sums_on_every_tail_and_past_a_block() {
        let mut rng = Rng::seeded(5);
        let pool = Pool::new(2);
        let shapes =
            [(1, 1, 1), (5, 17, 9), (30, 40, 33), (13, 3, 70), (101, 515, 64), (515, 37, 100), (1030, 16, 5)];
        for (m, n, k) in shapes {
            let (x, dy, w) = (rng.normals(m * k), rng.normals(m * n), rng.normals(n * k));
            let [want_dx, want_dw] = plain(&x, &dy, &w, [m, n, k]);
            let packing = Packing { pool: &pool, precision: Precision::Exact, slab: None };
            let weight = packing.pack(TensorType::F32, n, k, bytes_of(&w));
            let atol = |inner: usize| 4e-6 * (inner as f32).sqrt() + 1e-5;
            for isa in Isa::all_here() {
                let (mut dx, mut dw) = (vec![1.0; m * k], vec![1.0; n * k]);
                linear_input_grad(isa, &pool, &dy, m, &weight, &mut dx, true);
                linear_weight_grad(isa, &pool, &x, &dy, m, Precision::Exact, &mut dw, true);
                assert_close(&dx, &want_dx, atol(n), 1e-5);
                assert_close(&dw, &want_dw, atol(m), 1e-5);
                dw.fill(f32::NAN);
                linear_weight_grad(isa, &pool, &x, &dy, m, Precision::Exact, &mut dw, false);
                want_dw
                    .iter()
                    .zip(&dw)
                    .for_each(|(want, got)| assert!((want - 1.0 - got).abs() < 4.0 * atol(m)));
            }
        }
    }

    #[test]
    fn rounding_to_bf16_is_the_exact_product_of_rounded_numbers() {
        let mut rng = Rng::seeded(6);
        let pool = Pool::new(2);
        let round = |x: Vec<f32>| x.into_iter().map(|x| half::bf16::from_f32(x).to_f32()).collect::<Vec<_>>();
        for (m, n, k) in [(5, 17, 9), (61, 515, 70), (515, 33, 48)] {
            let (x, dy, w) = (rng.normals(m * k), rng.normals(m * n), round(rng.normals(n * k)));
            let bytes: Vec<half::bf16> = w.iter().map(|&x| half::bf16::from_f32(x)).collect();
            let packing = Packing { pool: &pool, precision: Precision::Fast, slab: None };
            let weight = packing.pack(TensorType::BF16, n, k, bytes_of(&bytes));
            assert_eq!(weight.grad_precision(), Precision::Fast);
            for isa in Isa::all_here() {
                let [x, dy] = if isa.has_bf16() {
                    [round(x.clone()), round(dy.clone())]
                } else {
                    [x.clone(), dy.clone()]
                };
                let [want_dx, want_dw] = plain(&x, &dy, &w, [m, n, k]);
                let (mut dx, mut dw) = (vec![1.0; m * k], vec![1.0; n * k]);
                linear_input_grad(isa, &pool, &dy, m, &weight, &mut dx, true);
                linear_weight_grad(isa, &pool, &x, &dy, m, Precision::Fast, &mut dw, true);
                assert_close(&dx, &want_dx, 2e-4, 1e-5);
                assert_close(&dw, &want_dw, 2e-4, 1e-5);
            }
        }
    }

    #[test]
    fn quantized_weights_give_the_gradient_of_their_numbers() {
        let mut rng = Rng::seeded(7);
        let pool = Pool::new(2);
        let (m, n, k) = (14, 37, 512);
        let dy = rng.normals(m * n);
        for ty in [TensorType::Q4_0, TensorType::Q8_0, TensorType::Q4_K, TensorType::Q6_K, TensorType::IQ4_NL]
        {
            let bytes = random_blocks(&mut rng, ty, n * k);
            for precision in [Precision::Exact, Precision::Fast] {
                let weight = Packing { pool: &pool, precision, slab: None }.pack(ty, n, k, &bytes);
                let [mut want, _] = plain(&vec![0.0; m * k], &dy, &weight.to_f32(), [m, n, k]);
                want.iter_mut().for_each(|x| *x -= 1.0);
                let size = want.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
                for isa in Isa::all_here() {
                    let mut dx = vec![f32::NAN; m * k];
                    linear_input_grad(isa, &pool, &dy, m, &weight, &mut dx, false);
                    assert_close(&dx, &want, 1e-5 * size, 1e-5);
                }
            }
        }
    }

    #[test]
    fn gradients_do_not_depend_on_threads_or_on_other_rows() {
        let mut rng = Rng::seeded(8);
        let (m, n, k) = (64, 600, 80);
        let (dy, w) = (rng.normals(m * n), rng.normals(n * k));
        let packing = Packing { pool: &Pool::new(1), precision: Precision::Exact, slab: None };
        let weight = packing.pack(TensorType::F32, n, k, bytes_of(&w));
        for isa in Isa::all_here() {
            let grad = |threads, rows: std::ops::Range<usize>| {
                let mut dx = vec![0.0; rows.len() * k];
                let dy = &dy[rows.start * n..rows.end * n];
                linear_input_grad(isa, &Pool::new(threads), dy, rows.len(), &weight, &mut dx, false);
                dx
            };
            let all = grad(3, 0..m);
            for rows in [0..1, 5..18, 40..64] {
                assert_eq!(grad(1, rows.clone()), all[rows.start * k..rows.end * k]);
            }
        }
    }
}
