//! Exponential, hyperbolic tangent and error function on sixteen lanes.
//!
//! Where:  soft-max, activations, attention and scans.
//! Idea:   range reduction and polynomials, fitted by least squares in f64 on Chebyshev nodes (relative error of the fit beside
//!         each). The same lanes compute tails, so a number's result does not depend on where it stands.

use super::Simd;

/// `exp(x)` within 2e-7 relative; 0 below −87.3 (where the result would be subnormal), infinity above 88.7.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    const LN2_HIGH: f32 = 0.693_359_4; // nine bits, so that its product with a small integer is exact
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let low = s.splat(-87.336_54);
    let clamped = s.max(low, s.min(s.splat(89.0), x));
    let n = s.round(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)));
    let r = s.mul_add(n, s.splat(-LN2_HIGH), clamped);
    let r = s.mul_add(n, s.splat(-LN2_LOW), r);
    // 2.6e-9 on |r| ≤ ln 2 / 2
    let p = polynomial(s, r, [1.394_870_1e-3, 8.375_213e-3, 4.166_621_6e-2, 1.666_641_4e-1, 0.5, 1.0, 1.0]);
    let e = s.mul(s.scale_by_power(p, s.sub(n, s.splat(1.0))), s.splat(2.0));
    s.select_lt(x, low, s.splat(0.0), e)
}

/// `1 / (1 + exp(−x))`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.neg(x))))
}

/// `tanh(x)` within 3e-7 relative.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    let z = s.mul(x, x);
    // 4.7e-9 on |x| < 0.625
    let p = polynomial(s, z, [-5.691_986e-3, 2.062_629_2e-2, -5.373_532e-2, 1.333_138e-1, -3.333_328e-1]);
    let small = s.mul_add(s.mul(x, z), p, x);
    let large = s.sub(one, s.div(s.splat(2.0), s.add(exp(s, s.add(x, x)), one)));
    s.select_lt(s.abs(x), s.splat(0.625), small, large)
}

/// The normal distribution function `Φ(x) = erfc(−x/√2) / 2` within 1e-6 relative.
#[inline(always)]
pub(crate) fn normal_cdf<S: Simd>(s: S, x: S::F) -> S::F {
    let half = s.splat(0.5);
    let u = s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let a = s.abs(u);
    let z = s.mul(u, u);
    // erf(u)/u, 1.2e-9 on |u| ≤ 1
    let p = polynomial(
        s,
        z,
        [
            7.847_259e-5,
            -8.008_189e-4,
            5.188_099e-3,
            -2.685_369e-2,
            1.128_358_2e-1,
            -3.761_262_6e-1,
            std::f32::consts::FRAC_2_SQRT_PI,
        ],
    );
    let near = s.mul_add(s.mul(u, p), half, half);
    // erfc(a)·exp(a²) in t = 1/(1 + 0.4·a), 2.5e-8 on 1 ≤ a ≤ 10
    let t = s.div(s.splat(1.0), s.mul_add(a, s.splat(0.4), s.splat(1.0)));
    let q = polynomial(
        s,
        t,
        [
            -1.198_400_6e-1,
            2.543_070_4e-1,
            -5.044_755_6e-3,
            2.219_556_1e-1,
            1.953_245_1e-1,
            2.274_707e-1,
            2.255_331_3e-1,
            4.685_116e-6,
        ],
    );
    // exp(−a²) with the rounding error of a² put back, or large arguments would lose digits.
    let lost = s.mul_add(a, a, s.neg(z));
    let e = s.mul(exp(s, s.neg(z)), s.sub(s.splat(1.0), lost));
    let tail = s.mul(s.mul(q, e), half);
    let far = s.select_lt(u, s.splat(0.0), tail, s.sub(s.splat(1.0), tail));
    s.select_lt(a, s.splat(1.0), near, far)
}

/// Horner's rule; the highest power comes first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::F, coefficients: [f32; N]) -> S::F {
    let mut p = s.splat(coefficients[0]);
    for &c in &coefficients[1..] {
        p = s.mul_add(p, x, s.splat(c));
    }
    p
}
