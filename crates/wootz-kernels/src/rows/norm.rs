//! RMS norm, layer norm, dot product, Euclidean length.
//!
//! Source: Zhang & Sennrich 2019, arXiv:1910.07467 (RMS); Ba et al. 2016, arXiv:1607.06450 (layer norm).

use super::rows_per_task;
use crate::isa::Kernel;
use crate::simd::Simd;
use crate::{Isa, Pool};

/// `x / √(mean(x²) + eps) · weight` for every row; rows are as long as `weight`, or `row_len` without one.
pub fn rms_norm(
    isa: Isa,
    pool: &Pool,
    x: &[f32],
    row_len: usize,
    weight: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    assert_eq!(x.len(), out.len(), "rms_norm: length of `out`");
    assert!(weight.is_none_or(|w| w.len() == row_len), "rms_norm: one weight for each of {row_len}");
    pool.rows(out, row_len, rows_per_task(row_len), |first, out| {
        let x = &x[first * row_len..][..out.len()];
        isa.run(RmsNorm { x, row_len, weight, eps, out });
    });
}

struct RmsNorm<'a> {
    x: &'a [f32],
    row_len: usize,
    weight: Option<&'a [f32]>,
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, out) in self.x.chunks_exact(self.row_len).zip(self.out.chunks_exact_mut(self.row_len)) {
            let squares = fold!(s, acc = s.splat(0.0), x in x, or 0.0 => s.mul_add(x, x, acc));
            let factor = s.splat(1.0 / (s.sum(squares) / self.row_len as f32 + self.eps).sqrt());
            match self.weight {
                Some(weight) => each!(s, out, x in x, w in weight => s.mul(s.mul(x, factor), w)),
                None => each!(s, out, x in x => s.mul(x, factor)),
            }
        }
    }
}

/// `(x − mean) / √(variance + eps) · weight + bias` for every row of `row_len`.
#[expect(clippy::too_many_arguments, reason = "the machine, the input, the formula's four and the result")]
pub fn layer_norm(
    isa: Isa,
    pool: &Pool,
    x: &[f32],
    row_len: usize,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    assert_eq!(x.len(), out.len(), "layer_norm: length of `out`");
    assert!(weight.is_none_or(|w| w.len() == row_len), "layer_norm: one weight for each of {row_len}");
    assert!(bias.is_none_or(|b| b.len() == row_len), "layer_norm: one bias for each of {row_len}");
    pool.rows(out, row_len, rows_per_task(row_len), |first, out| {
        let x = &x[first * row_len..][..out.len()];
        isa.run(LayerNorm { x, row_len, weight, bias, eps, out });
    });
}

struct LayerNorm<'a> {
    x: &'a [f32],
    row_len: usize,
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.row_len as f32;
        for (x, out) in self.x.chunks_exact(self.row_len).zip(self.out.chunks_exact_mut(self.row_len)) {
            let mean = s.sum(fold!(s, acc = s.splat(0.0), x in x, or 0.0 => s.add(acc, x))) / n;
            // The tail is filled with the mean, whose distance from itself is zero.
            let squares = fold!(s, acc = s.splat(0.0), x in x, or mean => {
                let d = s.sub(x, s.splat(mean));
                s.mul_add(d, d, acc)
            });
            let mean = s.splat(mean);
            let factor = s.splat(1.0 / (s.sum(squares) / n + self.eps).sqrt());
            each!(s, out, x in x => s.mul(s.sub(x, mean), factor));
            if let Some(weight) = self.weight {
                in_place(out, weight, |x, w| x * w);
            }
            if let Some(bias) = self.bias {
                in_place(out, bias, |x, b| x + b);
            }
        }
    }
}

#[inline(always)]
fn in_place(out: &mut [f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    out.iter_mut().zip(b).for_each(|(o, &b)| *o = f(*o, b));
}

/// `Σ aᵢ·bᵢ`. Panics if the lengths differ.
pub fn dot(isa: Isa, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "dot: lengths differ");
    isa.run(Dot { a, b })
}

struct Dot<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl Kernel for Dot<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        dot_lanes(s, self.a, self.b)
    }
}

/// `Σ aᵢ·bᵢ` inside a kernel: four sums side by side, then one.
#[inline(always)]
pub(crate) fn dot_lanes<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let (a_body, a_tail) = a.as_chunks::<16>();
    let (b_body, b_tail) = b.as_chunks::<16>();
    let (a_fours, a_rest) = a_body.as_chunks::<4>();
    let (b_fours, b_rest) = b_body.as_chunks::<4>();
    let mut acc = [s.splat(0.0); 4];
    for (a, b) in a_fours.iter().zip(b_fours) {
        for i in 0..4 {
            acc[i] = s.mul_add(s.load(&a[i]), s.load(&b[i]), acc[i]);
        }
    }
    for (a, b) in a_rest.iter().zip(b_rest) {
        acc[0] = s.mul_add(s.load(a), s.load(b), acc[0]);
    }
    if !a_tail.is_empty() {
        acc[1] = s.mul_add(s.load_part(a_tail, 0.0), s.load_part(b_tail, 0.0), acc[1]);
    }
    s.sum(s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3])))
}

/// `√Σ xᵢ²`
pub fn l2_norm(isa: Isa, x: &[f32]) -> f32 {
    dot(isa, x, x).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    #[test]
    fn norms_agree_with_their_formulas_on_every_tail() {
        let mut rng = Rng::seeded(11);
        let pool = Pool::new(2);
        for d in (1..40).chain([63, 64, 65, 200]) {
            let n_rows = 1 + d % 3;
            let (x, w, b) = (rng.normals(n_rows * d), rng.normals(d), rng.normals(d));
            let (mut want_rms, mut want_layer) = (Vec::new(), Vec::new());
            for x in x.chunks(d) {
                let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / d as f64;
                let square = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / d as f64;
                let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / d as f64;
                for i in 0..d {
                    want_rms.push((f64::from(x[i]) / (square + 1e-5).sqrt()) as f32 * w[i]);
                    want_layer
                        .push(((f64::from(x[i]) - mean) / (variance + 1e-5).sqrt()) as f32 * w[i] + b[i]);
                }
            }
            for isa in Isa::all_here() {
                let mut out = vec![0.0; n_rows * d];
                rms_norm(isa, &pool, &x, d, Some(&w), 1e-5, &mut out);
                assert_close(&out, &want_rms, 1e-6, 1e-5);
                layer_norm(isa, &pool, &x, d, Some(&w), Some(&b), 1e-5, &mut out);
                assert_close(&out, &want_layer, 2e-5, 1e-4); // one-number rows divide by √eps
                let want = x[..d].iter().zip(&w).map(|(a, b)| a * b).sum::<f32>();
                assert!((dot(isa, &x[..d], &w) - want).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_others_or_the_threads() {
        let x = Rng::seeded(12).normals(300 * 77);
        let norm = |x: &[f32], threads| {
            let mut out = vec![0.0; x.len()];
            rms_norm(Isa::detect(), &Pool::new(threads), x, 77, None, 1e-6, &mut out);
            out
        };
        let all = norm(&x, 2);
        for (x, want) in x.chunks(77).zip(all.chunks(77)) {
            assert_eq!(norm(x, 1), want);
        }
    }
}
