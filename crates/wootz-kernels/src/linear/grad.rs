//! Gradients of the linear product, which are products themselves.
//!
//! Where:  the backward pass of linear layers, for training.
//! Idea:   `dx = dy·W` has the columns of `W` as outputs and `dW = dyᵀ·x` has columns on both sides; only how panels and tiles
//!         are gathered differs from the forward product.

use super::tiles::Rows;
use super::{Group, Panels, products};
use crate::pool::SharedSlice;
use crate::{Isa, PackedMatrix, Pool};

/// `dx = dy·W`, or `dx += dy·W`: `dy` `(m, n)`, `W` `(n, k)`, `dx` `(m, k)`, in f32.
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
    let out = SharedSlice::new(dx);
    let group = Group { weight: Panels::Columns(weight), n: k, bias: None, out, accumulate, segment: 0 };
    products(isa, pool, &Rows::Of { x: dy, k: n }, &[0, m as u32], None, &[group]);
}

/// `dW = dyᵀ·x`, or `dW += dyᵀ·x`: `x` `(m, k)`, `dy` `(m, n)`, `dW` `(n, k)` row-major, in f32.
///
/// Rows are added in their order; two calls on halves of the rows may differ in the last bits from one on all.
pub fn linear_weight_grad(
    isa: Isa,
    pool: &Pool,
    x: &[f32],
    dy: &[f32],
    m: usize,
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
    let out = SharedSlice::new(dw);
    let group = Group { weight: Panels::ColumnsOf(x), n: k, bias: None, out, accumulate, segment: 0 };
    products(isa, pool, &Rows::ColumnsOf { x: dy, n, k: m }, &[0, n as u32], None, &[group]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::bytes_of;
    use crate::test_rng::{Rng, assert_close};
    use crate::{Packing, Precision, TensorType};

    #[test]
    fn gradients_agree_with_plain_sums() {
        let mut rng = Rng::seeded(5);
        let pool = Pool::new(2);
        for (m, n, k) in [(1, 1, 1), (5, 17, 9), (30, 40, 33), (13, 3, 70)] {
            let (x, dy, w) = (rng.normals(m * k), rng.normals(m * n), rng.normals(n * k));
            let (mut want_dx, mut want_dw) = (vec![1.0; m * k], vec![1.0; n * k]);
            for t in 0..m {
                for i in 0..n {
                    for j in 0..k {
                        want_dx[t * k + j] += dy[t * n + i] * w[i * k + j];
                        want_dw[i * k + j] += dy[t * n + i] * x[t * k + j];
                    }
                }
            }
            let packing = Packing { pool: &pool, precision: Precision::Exact, slab: None };
            let weight = packing.pack(TensorType::F32, n, k, bytes_of(&w));
            for isa in Isa::all_here() {
                let (mut dx, mut dw) = (vec![1.0; m * k], vec![1.0; n * k]);
                linear_input_grad(isa, &pool, &dy, m, &weight, &mut dx, true);
                linear_weight_grad(isa, &pool, &x, &dy, m, &mut dw, true);
                assert_close(&dx, &want_dx, 2e-5, 1e-5);
                assert_close(&dw, &want_dw, 2e-5, 1e-5);
                linear_weight_grad(isa, &pool, &x, &dy, m, &mut dw, false);
                want_dw.iter().zip(&dw).for_each(|(want, got)| assert!((want - 1.0 - got).abs() < 3e-5));
            }
        }
    }
}
