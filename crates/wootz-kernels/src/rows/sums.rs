//! Sums over rows: the gradients of what every row was given.
//!
//! Idea:   a task sums a fixed number of rows; the tasks' sums are then added in order. Neither depends on threads, and a
//!         narrow value of many rows (heads, one by one) keeps all of them busy.

use super::add_scaled;
use crate::isa::Kernel;
use crate::simd::Simd;
use crate::{Isa, Pool};

/// `out[c] = Σₜ x[t, c]`, or `out[c] += …`, over rows as long as `out`.
pub fn sum_rows(isa: Isa, pool: &Pool, x: &[f32], out: &mut [f32], accumulate: bool) {
    let row_len = out.len();
    assert!(row_len > 0 && x.len().is_multiple_of(row_len), "sum_rows: `x` has rows of {row_len}");
    // A column alone is summed as if it were as wide as a vector.
    if row_len == 1 {
        let sum = blocks(pool, x.len(), 1, 1, |rows, sums| sums[0] = isa.run(Flat { x: &x[rows] }));
        out[0] = sum[0] + if accumulate { out[0] } else { 0.0 };
        return;
    }
    let sums = blocks(pool, x.len() / row_len, row_len, row_len, |rows, sums| {
        isa.run(Rows { x: &x[rows.start * row_len..rows.end * row_len], sums });
    });
    finish(out, &sums, accumulate);
}

/// Writes, or adds, finished sums.
pub(super) fn finish(out: &mut [f32], sums: &[f32], accumulate: bool) {
    match accumulate {
        true => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
        false => out.copy_from_slice(sums),
    }
}

/// Sums of `n_sums` numbers over rows of `row_len`: `sum` is given rows and zeros to add to; its results are added in order.
pub(super) fn blocks(
    pool: &Pool,
    n_rows: usize,
    row_len: usize,
    n_sums: usize,
    sum: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    let step = (super::rows_per_task(row_len)).max(16);
    let n_blocks = n_rows.div_ceil(step);
    let mut sums = vec![0.0; n_blocks.max(1) * n_sums];
    if n_rows > 0 {
        pool.rows(&mut sums, n_sums, 1, |block, sums| {
            sum(block * step..((block + 1) * step).min(n_rows), sums)
        });
    }
    let (total, others) = sums.split_at_mut(n_sums);
    for other in others.chunks_exact(n_sums) {
        total.iter_mut().zip(other).for_each(|(total, other)| *total += other);
    }
    sums.truncate(n_sums);
    sums
}

struct Flat<'a> {
    x: &'a [f32],
}

impl Kernel for Flat<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        s.sum(fold!(s, acc = s.splat(0.0), x in self.x, or 0.0 => s.add(acc, x)))
    }
}

struct Rows<'a> {
    x: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for x in self.x.chunks_exact(self.sums.len()) {
            add_scaled(s, s.splat(1.0), x, self.sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    #[test]
    fn sums_agree_with_plain_ones_and_do_not_depend_on_threads() {
        let mut rng = Rng::seeded(91);
        for (n_rows, n) in [(0, 3), (1, 1), (5, 7), (1000, 1), (40_000, 1), (700, 33), (50, 2000)] {
            let x = rng.normals(n_rows * n);
            let mut want = vec![0.0_f64; n];
            for row in x.chunks_exact(n) {
                want.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            let want: Vec<f32> = want.iter().map(|&x| x as f32).collect();
            for isa in Isa::all_here() {
                let [mut one, mut three] = [vec![f32::NAN; n], vec![f32::NAN; n]];
                sum_rows(isa, &Pool::new(1), &x, &mut one, false);
                sum_rows(isa, &Pool::new(3), &x, &mut three, false);
                assert_close(&one, &want, 2e-3, 1e-5); // sums of up to 40,000 numbers
                assert_eq!(one, three);
                sum_rows(isa, &Pool::new(1), &x, &mut three, true);
                one.iter_mut().for_each(|x| *x *= 2.0);
                assert_eq!(one, three);
            }
        }
    }
}
