//! Sums and products, number by number.

use crate::isa::Kernel;
use crate::simd::Simd;
use crate::{Isa, Pool};

/// Numbers of one task.
const STRETCH: usize = 1 << 15;

/// `out = a + b`
pub fn add(isa: Isa, pool: &Pool, a: &[f32], b: &[f32], out: &mut [f32]) {
    assert_eq!((a.len(), b.len()), (out.len(), out.len()), "add: lengths differ");
    pool.rows(out, 1, STRETCH, |first, out| {
        let n = out.len();
        isa.run(Pairs { a: &a[first..][..n], b: &b[first..][..n], out, product: false });
    });
}

/// `out = a·b`
pub fn mul(isa: Isa, pool: &Pool, a: &[f32], b: &[f32], out: &mut [f32]) {
    assert_eq!((a.len(), b.len()), (out.len(), out.len()), "mul: lengths differ");
    pool.rows(out, 1, STRETCH, |first, out| {
        let n = out.len();
        isa.run(Pairs { a: &a[first..][..n], b: &b[first..][..n], out, product: true });
    });
}

/// `acc += factor·x`
pub fn add_assign(isa: Isa, pool: &Pool, factor: f32, x: &[f32], acc: &mut [f32]) {
    assert_eq!(x.len(), acc.len(), "add_assign: lengths differ");
    pool.rows(acc, 1, STRETCH, |first, acc| {
        isa.run(AddAssign { factor, x: &x[first..][..acc.len()], acc });
    });
}

/// `out = factor·x`
pub fn scale(isa: Isa, pool: &Pool, factor: f32, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "scale: lengths differ");
    pool.rows(out, 1, STRETCH, |first, out| {
        isa.run(Scale { factor, x: &x[first..][..out.len()], out });
    });
}

struct Pairs<'a> {
    a: &'a [f32],
    b: &'a [f32],
    out: &'a mut [f32],
    product: bool,
}

impl Kernel for Pairs<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.product {
            true => each!(s, self.out, a in self.a, b in self.b => s.mul(a, b)),
            false => each!(s, self.out, a in self.a, b in self.b => s.add(a, b)),
        }
    }
}

struct Scale<'a> {
    factor: f32,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Scale<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factor = s.splat(self.factor);
        each!(s, self.out, x in self.x => s.mul(factor, x));
    }
}

struct AddAssign<'a> {
    factor: f32,
    x: &'a [f32],
    acc: &'a mut [f32],
}

impl Kernel for AddAssign<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        add_scaled(s, s.splat(self.factor), self.x, self.acc);
    }
}

/// `acc += factor·x` inside a kernel.
#[inline(always)]
pub(crate) fn add_scaled<S: Simd>(s: S, factor: S::F, x: &[f32], acc: &mut [f32]) {
    let (x_body, x_tail) = x.as_chunks::<16>();
    let (acc_body, acc_tail) = acc.as_chunks_mut::<16>();
    for (x, acc) in x_body.iter().zip(acc_body) {
        s.store(s.mul_add(factor, s.load(x), s.load(acc)), acc);
    }
    if !x_tail.is_empty() {
        s.store_part(s.mul_add(factor, s.load_part(x_tail, 0.0), s.load_part(acc_tail, 0.0)), acc_tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    #[test]
    fn every_tail_agrees_with_plain_arithmetic() {
        let mut rng = Rng::seeded(41);
        let pool = Pool::new(2);
        for n in (0..67).chain([70_000]) {
            let (a, b) = (rng.normals(n), rng.normals(n));
            let pairs = || a.iter().zip(&b);
            for isa in Isa::all_here() {
                let mut out = vec![0.0; n];
                add(isa, &pool, &a, &b, &mut out);
                assert_eq!(out, pairs().map(|(a, b)| a + b).collect::<Vec<_>>());
                mul(isa, &pool, &a, &b, &mut out);
                assert_eq!(out, pairs().map(|(a, b)| a * b).collect::<Vec<_>>());
                scale(isa, &pool, 0.3, &a, &mut out);
                assert_eq!(out, a.iter().map(|a| a * 0.3).collect::<Vec<_>>());
                out.copy_from_slice(&b);
                add_assign(isa, &pool, 0.3, &a, &mut out);
                assert_close(&out, &pairs().map(|(a, b)| b + a * 0.3).collect::<Vec<_>>(), 1e-6, 0.0);
            }
        }
    }
}
