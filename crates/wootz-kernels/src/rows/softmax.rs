//! Soft-max and its logarithm over rows.

use super::rows_per_task;
use crate::isa::Kernel;
use crate::simd::{Simd, math};
use crate::{Isa, Pool};

/// `exp(x − max) / Σ exp(x − max)` for every row of `row_len`. A row of `−∞` alone becomes NaN.
pub fn softmax(isa: Isa, pool: &Pool, x: &[f32], row_len: usize, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "softmax: length of `out`");
    pool.rows(out, row_len, rows_per_task(row_len), |first, out| {
        isa.run(SoftMax { x: &x[first * row_len..][..out.len()], row_len, out, log: false });
    });
}

/// `x − max − ln Σ exp(x − max)` for every row of `row_len`.
pub fn log_softmax(isa: Isa, pool: &Pool, x: &[f32], row_len: usize, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "log_softmax: length of `out`");
    pool.rows(out, row_len, rows_per_task(row_len), |first, out| {
        isa.run(SoftMax { x: &x[first * row_len..][..out.len()], row_len, out, log: true });
    });
}

struct SoftMax<'a> {
    x: &'a [f32],
    row_len: usize,
    out: &'a mut [f32],
    log: bool,
}

impl Kernel for SoftMax<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let low = f32::NEG_INFINITY;
        for (x, out) in self.x.chunks_exact(self.row_len).zip(self.out.chunks_exact_mut(self.row_len)) {
            let max = s.splat(s.max_lane(fold!(s, acc = s.splat(low), x in x, or low => s.max(acc, x))));
            let sum = s
                .sum(fold!(s, acc = s.splat(0.0), x in x, or low => s.add(acc, math::exp(s, s.sub(x, max)))));
            if self.log {
                let log = s.splat(sum.ln());
                each!(s, out, x in x => s.sub(s.sub(x, max), log));
            } else {
                let factor = s.splat(1.0 / sum);
                each!(s, out, x in x => s.mul(math::exp(s, s.sub(x, max)), factor));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    #[test]
    fn soft_max_agrees_with_its_formula_on_every_tail() {
        let mut rng = Rng::seeded(21);
        let pool = Pool::new(2);
        for n in (1..40).chain([1000]) {
            let mut x: Vec<f32> = rng.normals(2 * n).iter().map(|x| x * 8.0).collect();
            if n > 2 {
                x[1] = f32::NEG_INFINITY;
            }
            let (mut want, mut want_log) = (Vec::new(), Vec::new());
            for x in x.chunks(n) {
                let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = x.iter().map(|&x| f64::from(x - max).exp()).sum();
                want.extend(x.iter().map(|&x| (f64::from(x - max).exp() / sum) as f32));
                want_log.extend(x.iter().map(|&x| (f64::from(x - max) - sum.ln()) as f32));
            }
            for isa in Isa::all_here() {
                let mut out = vec![0.0; 2 * n];
                softmax(isa, &pool, &x, n, &mut out);
                assert_close(&out, &want, 1e-37, 3e-6);
                log_softmax(isa, &pool, &x, n, &mut out);
                assert_close(&out, &want_log, 1e-6, 1e-6);
            }
        }
    }
}
