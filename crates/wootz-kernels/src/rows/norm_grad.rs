//! Gradients of RMS norm, layer norm, soft-max and of dividing a row by its sum or length.
//!
//! Where:  the backward pass of norms and routers, for training.
//! Idea:   what the forward pass made of a row is made again; a row of activations is read once more, nothing is kept for it.
//!         Gradients of the norm's own weight are sums over rows, in a fixed order.
//! Source: Zhang & Sennrich 2019, arXiv:1910.07467, §4 (RMS); Ba et al. 2016, arXiv:1607.06450, §5 (layer norm).

use super::sums::{blocks, finish};
use super::{dot_lanes, rows_per_task};
use crate::isa::Kernel;
use crate::simd::{LANES, Simd};
use crate::{Isa, Pool};

/// Which norm, over rows of a length, with an optional weight for each place.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Numbers a row.
    pub row_len: usize,
    /// `(row_len)`
    pub weight: Option<&'a [f32]>,
    /// Added to the mean of the squares.
    pub eps: f32,
    /// Whether the row's mean is taken away first (layer norm).
    pub centred: bool,
}

impl Norm<'_> {
    fn check(&self, what: &str, x: &[f32], dy: &[f32]) {
        assert!(self.row_len > 0 && x.len().is_multiple_of(self.row_len), "{what}: rows of {}", self.row_len);
        assert_eq!(x.len(), dy.len(), "{what}: length of `dy`");
        assert!(self.weight.is_none_or(|w| w.len() == self.row_len), "{what}: a weight for each place");
    }

    /// Mean and inverse deviation of a row; a mean of 0 where it stays.
    #[inline(always)]
    fn moments<S: Simd>(&self, s: S, x: &[f32]) -> (f32, f32) {
        let n = self.row_len as f32;
        let mean = match self.centred {
            true => s.sum(fold!(s, acc = s.splat(0.0), x in x, or 0.0 => s.add(acc, x))) / n,
            false => 0.0,
        };
        let squares = fold!(s, acc = s.splat(0.0), x in x, or mean => {
            let d = s.sub(x, s.splat(mean));
            s.mul_add(d, d, acc)
        });
        (mean, 1.0 / (s.sum(squares) / n + self.eps).sqrt())
    }
}

/// `dx = r·(g − mean(g) − x̂·mean(g∘x̂))` with `g = w∘dy`, `x̂ = (x − mean(x))·r`; without `mean(g)` where the norm does not centre.
pub fn norm_input_grad(isa: Isa, pool: &Pool, norm: &Norm, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    norm.check("norm_input_grad", x, dy);
    assert_eq!(x.len(), dx.len(), "norm_input_grad: length of `dx`");
    pool.rows(dx, norm.row_len, rows_per_task(norm.row_len), |first, dx| {
        let at = first * norm.row_len..first * norm.row_len + dx.len();
        isa.run(InputGrad { norm, x: &x[at.clone()], dy: &dy[at], dx });
    });
}

struct InputGrad<'a> {
    norm: &'a Norm<'a>,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for InputGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Norm { row_len, weight, centred, .. } = *self.norm;
        let rows = self.x.chunks_exact(row_len).zip(self.dy.chunks_exact(row_len));
        for ((x, dy), dx) in rows.zip(self.dx.chunks_exact_mut(row_len)) {
            let (mean, r) = self.norm.moments(s, x);
            let (mean, factor) = (s.splat(mean), s.splat(r));
            let (mut sum, mut product) = (s.splat(0.0), s.splat(0.0));
            for at in (0..row_len).step_by(LANES) {
                let g = match weight {
                    Some(weight) => s.mul(load(s, &dy[at..]), load(s, &weight[at..])),
                    None => load(s, &dy[at..]),
                };
                sum = s.add(sum, g);
                product = s.mul_add(g, s.mul(s.sub(load(s, &x[at..]), mean), factor), product);
            }
            let of_sum = s.splat(if centred { s.sum(sum) / row_len as f32 } else { 0.0 });
            let of_product = s.splat(s.sum(product) / row_len as f32);
            match weight {
                Some(weight) => each!(s, dx, x in x, dy in dy, w in weight => {
                    let normed = s.mul(s.sub(x, mean), factor);
                    s.mul(factor, s.sub(s.sub(s.mul(dy, w), of_sum), s.mul(normed, of_product)))
                }),
                None => each!(s, dx, x in x, dy in dy => {
                    let normed = s.mul(s.sub(x, mean), factor);
                    s.mul(factor, s.sub(s.sub(dy, of_sum), s.mul(normed, of_product)))
                }),
            }
        }
    }
}

/// Up to sixteen numbers from `x`, zeros after them.
#[inline(always)]
fn load<S: Simd>(s: S, x: &[f32]) -> S::F {
    match x.first_chunk::<LANES>() {
        Some(x) => s.load(x),
        None => s.load_part(x, 0.0),
    }
}

/// `dw = Σₜ dy∘x̂`, or `dw += …`.
pub fn norm_weight_grad(
    isa: Isa,
    pool: &Pool,
    norm: &Norm,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    accumulate: bool,
) {
    let row_len = norm.row_len;
    norm.check("norm_weight_grad", x, dy);
    assert_eq!(dw.len(), row_len, "norm_weight_grad: length of `dw`");
    let sums = blocks(pool, x.len() / row_len, row_len, row_len, |rows, sums| {
        let at = rows.start * row_len..rows.end * row_len;
        isa.run(WeightGrad { norm, x: &x[at.clone()], dy: &dy[at], sums });
    });
    finish(dw, &sums, accumulate);
}

struct WeightGrad<'a> {
    norm: &'a Norm<'a>,
    x: &'a [f32],
    dy: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for WeightGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.norm.row_len;
        for (x, dy) in self.x.chunks_exact(n).zip(self.dy.chunks_exact(n)) {
            let (mean, r) = self.norm.moments(s, x);
            let (mean, factor) = (s.splat(mean), s.splat(r));
            for at in (0..n).step_by(LANES) {
                let normed = s.mul(s.sub(load(s, &x[at..]), mean), factor);
                let sum = &mut self.sums[at..(at + LANES).min(n)];
                let total = s.mul_add(load(s, &dy[at..]), normed, load(s, sum));
                match sum.first_chunk_mut::<LANES>() {
                    Some(sum) => s.store(total, sum),
                    None => s.store_part(total, sum),
                }
            }
        }
    }
}

/// By what a row was divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divided {
    /// Exponentials by their sum: soft-max.
    Exponentials,
    /// By the sum, plus 1e-20.
    BySum,
    /// By the Euclidean length, at least 1e-12.
    ByLength,
}

/// The gradient of dividing a row `x` → `y`, from the output `y`.
///
/// Soft-max: `dx = y∘(dy − Σ dy∘y)`. By the sum `z`: `dx = (dy − Σ dy∘y) / z`. By the length `z`: `dx = (dy − y·Σ dy∘y) / z`,
/// and `dy / z` where `z` is the bound. `x` is read for the divisor alone.
#[expect(clippy::too_many_arguments, reason = "the machine, the operator and its four tensors")]
pub fn divided_grad(
    isa: Isa,
    pool: &Pool,
    by: Divided,
    row_len: usize,
    x: &[f32],
    y: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) {
    assert!(row_len > 0 && dx.len().is_multiple_of(row_len), "divided_grad: rows of {row_len}");
    assert_eq!((x.len(), y.len(), dy.len()), (dx.len(), dx.len(), dx.len()), "divided_grad: lengths");
    pool.rows(dx, row_len, rows_per_task(row_len), |first, dx| {
        let at = first * row_len..first * row_len + dx.len();
        isa.run(DividedGrad { by, row_len, x: &x[at.clone()], y: &y[at.clone()], dy: &dy[at], dx });
    });
}

struct DividedGrad<'a> {
    by: Divided,
    row_len: usize,
    x: &'a [f32],
    y: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for DividedGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.row_len;
        let rows = self.x.chunks_exact(n).zip(self.y.chunks_exact(n)).zip(self.dy.chunks_exact(n));
        for (((x, y), dy), dx) in rows.zip(self.dx.chunks_exact_mut(n)) {
            let along = dot_lanes(s, dy, y);
            match self.by {
                Divided::Exponentials => {
                    let along = s.splat(along);
                    each!(s, dx, y in y, dy in dy => s.mul(y, s.sub(dy, along)));
                }
                Divided::BySum => {
                    let sum = s.sum(fold!(s, acc = s.splat(0.0), x in x, or 0.0 => s.add(acc, x))) + 1e-20;
                    let (along, factor) = (s.splat(along), s.splat(1.0 / sum));
                    each!(s, dx, dy in dy => s.mul(s.sub(dy, along), factor));
                }
                Divided::ByLength => {
                    let length = dot_lanes(s, x, x).sqrt();
                    let along = s.splat(if length < 1e-12 { 0.0 } else { along });
                    let factor = s.splat(1.0 / length.max(1e-12));
                    each!(s, dx, y in y, dy in dy => s.mul(s.sub(dy, s.mul(y, along)), factor));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    #[test]
    fn gradients_of_norms_agree_with_their_formulas_on_every_tail() {
        let mut rng = Rng::seeded(13);
        for n in (2..40).chain([63, 64, 65, 200]) {
            let n_rows = 1 + 7 * (n % 5);
            let (x, dy, w) = (rng.normals(n_rows * n), rng.normals(n_rows * n), rng.normals(n));
            for centred in [false, true] {
                let norm = Norm { row_len: n, weight: Some(&w), eps: 1e-5, centred };
                let (mut want_dx, mut want_dw) = (Vec::new(), vec![0.0_f64; n]);
                for (x, dy) in x.chunks(n).zip(dy.chunks(n)) {
                    let mean_of = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
                    let mean = if centred { mean_of(&|i| f64::from(x[i])) } else { 0.0 };
                    let r = 1.0 / (mean_of(&|i| (f64::from(x[i]) - mean).powi(2)) + 1e-5).sqrt();
                    let hat = |i: usize| (f64::from(x[i]) - mean) * r;
                    let g = |i: usize| f64::from(w[i]) * f64::from(dy[i]);
                    let of_g = if centred { mean_of(&g) } else { 0.0 };
                    let of_product = mean_of(&|i| g(i) * hat(i));
                    want_dx.extend((0..n).map(|i| (r * (g(i) - of_g - hat(i) * of_product)) as f32));
                    (0..n).for_each(|i| want_dw[i] += f64::from(dy[i]) * hat(i));
                }
                let want_dw: Vec<f32> = want_dw.iter().map(|&x| x as f32).collect();
                for isa in Isa::all_here() {
                    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; n]);
                    let pool = Pool::new(2);
                    norm_input_grad(isa, &pool, &norm, &x, &dy, &mut dx);
                    norm_weight_grad(isa, &pool, &norm, &x, &dy, &mut dw, false);
                    assert_close(&dx, &want_dx, 1e-4, 1e-4); // rows of two numbers divide by small differences
                    assert_close(&dw, &want_dw, 2e-5, 1e-5);
                }
            }
        }
    }

    #[test]
    fn a_weights_gradient_does_not_depend_on_threads() {
        let (n_rows, n) = (5000, 48);
        let (x, dy) = (Rng::seeded(14).normals(n_rows * n), Rng::seeded(15).normals(n_rows * n));
        let norm = Norm { row_len: n, weight: None, eps: 1e-5, centred: true };
        let sum = |threads| {
            let mut dw = vec![0.0; n];
            norm_weight_grad(Isa::detect(), &Pool::new(threads), &norm, &x, &dy, &mut dw, false);
            dw
        };
        assert_eq!(sum(1), sum(3));
    }
}
