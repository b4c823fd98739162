//! Activation functions, alone and gating a second input.
//!
//! Source: Hendrycks & Gimpel 2016, arXiv:1606.08415 (GELU, SiLU); Shazeer 2020, arXiv:2002.05202 (gated forms).

use crate::isa::Kernel;
use crate::simd::{LANES, Simd, math};
use crate::{Isa, Pool};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x·σ(x)`, also called swish.
    Silu,
    /// `x·Φ(x)`, by the error function.
    Gelu,
    /// GELU by its approximation with a hyperbolic tangent.
    GeluTanh,
    /// `x·σ(1.702·x)`
    GeluQuick,
    /// `max(x, 0)`
    Relu,
    /// `max(x, 0)²`
    ReluSquared,
    /// `1 / (1 + exp(−x))`
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `exp(x)`
    Exp,
    /// `ln(1 + exp(x))`
    Softplus,
}

/// Numbers of one task.
const STRETCH: usize = 1 << 13;

/// `out = f(x)`
pub fn activate(isa: Isa, pool: &Pool, f: Activation, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "activate: length of `out`");
    pool.rows(out, 1, STRETCH, |first, out| {
        let x = &x[first..][..out.len()];
        choose(isa, f, Alone { x, out });
    });
}

/// `out = f(gate)·up`
pub fn gated(isa: Isa, pool: &Pool, f: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert_eq!((gate.len(), up.len()), (out.len(), out.len()), "gated: lengths differ");
    pool.rows(out, 1, STRETCH, |first, out| {
        let (gate, up) = (&gate[first..][..out.len()], &up[first..][..out.len()]);
        choose(isa, f, Gating { gate, up, out });
    });
}

/// Lanes of one function.
trait Function {
    fn of<S: Simd>(s: S, x: S::F) -> S::F;
}

/// What is done with a function.
trait Use {
    fn with<S: Simd, F: Function>(self, s: S);
}

struct Alone<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Use for Alone<'_> {
    #[inline(always)]
    fn with<S: Simd, F: Function>(self, s: S) {
        each!(s, self.out, x in self.x => F::of(s, x));
    }
}

struct Gating<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Use for Gating<'_> {
    #[inline(always)]
    fn with<S: Simd, F: Function>(self, s: S) {
        each!(s, self.out, gate in self.gate, up in self.up => s.mul(F::of(s, gate), up));
    }
}

struct With<U, F>(U, std::marker::PhantomData<F>);

impl<U: Use, F: Function> Kernel for With<U, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.0.with::<S, F>(s);
    }
}

macro_rules! functions {
    ($(fn $name:ident($s:ident, $x:ident) $body:block)*) => {
        $(
            struct $name;
            impl Function for $name {
                #[inline(always)]
                fn of<S: Simd>($s: S, $x: S::F) -> S::F $body
            }
        )*

        /// Chooses once, outside the loop.
        fn choose<U: Use>(isa: Isa, f: Activation, with: U) {
            match f {
                $(Activation::$name => isa.run(With(with, std::marker::PhantomData::<$name>)),)*
            }
        }
    };
}

functions! {
    fn Silu(s, x) { s.div(x, s.add(s.splat(1.0), math::exp(s, s.neg(x)))) }
    fn Gelu(s, x) { s.mul(x, math::normal_cdf(s, x)) }
    fn GeluTanh(s, x) {
        let cube = s.mul(s.mul(x, x), x);
        let u = s.mul(s.splat(0.797_884_6), s.mul_add(s.splat(0.044_715), cube, x)); // √(2/π)
        let half = s.mul(s.splat(0.5), x);
        s.mul_add(half, math::tanh(s, u), half)
    }
    fn GeluQuick(s, x) { s.mul(x, math::sigmoid(s, s.mul(s.splat(1.702), x))) }
    fn Relu(s, x) { s.max(s.splat(0.0), x) }
    fn ReluSquared(s, x) {
        let r = s.max(s.splat(0.0), x);
        s.mul(r, r)
    }
    fn Sigmoid(s, x) { math::sigmoid(s, x) }
    fn Tanh(s, x) { math::tanh(s, x) }
    fn Exp(s, x) { math::exp(s, x) }
    fn Softplus(s, x) {
        // PERF: the standard library's logarithm, lane by lane; only step sizes of scans need it.
        let mut v = [0.0_f32; LANES];
        s.store(x, &mut v);
        v.iter_mut().for_each(|x| *x = x.max(0.0) + (-x.abs()).exp().ln_1p());
        s.load(&v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    /// Φ by numerical integration of its density in f64: slow and obvious.
    fn normal_cdf(x: f64) -> f64 {
        let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let (a, b, n) = if x < 0.0 { (x - 12.0, x, 4000) } else { (0.0, x, 4000) };
        let h = (b - a) / f64::from(n);
        let simpson: f64 = (0..=n)
            .map(|i| {
                density(a + h * f64::from(i))
                    * if i == 0 || i == n { 1.0 } else { f64::from(2 + 2 * (i % 2)) }
            })
            .sum();
        simpson * h / 3.0 + if x < 0.0 { 0.0 } else { 0.5 }
    }

    fn plain(f: Activation, x: f32) -> f32 {
        let x = f64::from(x);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        (match f {
            Activation::Silu => x * sigmoid(x),
            Activation::Gelu => x * normal_cdf(x),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
            }
            Activation::GeluQuick => x * sigmoid(1.702 * x),
            Activation::Relu => x.max(0.0),
            Activation::ReluSquared => x.max(0.0).powi(2),
            Activation::Sigmoid => sigmoid(x),
            Activation::Tanh => x.tanh(),
            Activation::Exp => x.exp(),
            Activation::Softplus => x.exp().ln_1p(),
        }) as f32
    }

    const ALL: [Activation; 10] = [
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::GeluQuick,
        Activation::Relu,
        Activation::ReluSquared,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Exp,
        Activation::Softplus,
    ];

    #[test]
    fn functions_are_accurate_over_their_range() {
        let pool = Pool::new(1);
        let x: Vec<f32> =
            (-900..900).map(|i| i as f32 * 0.0097).chain([0.0, 1e-9, -1e-9, 40.0, -40.0]).collect();
        for f in ALL {
            let want: Vec<f32> = x.iter().map(|&x| plain(f, x)).collect();
            for isa in Isa::all_here() {
                let mut out = vec![0.0; x.len()];
                activate(isa, &pool, f, &x, &mut out);
                // GeluTanh cancels in its left tail by its very formula, as everyone's f32 does.
                let atol = if f == Activation::GeluTanh { 1e-6 } else { 1e-12 };
                assert_close(&out, &want, atol, 3e-6);
            }
        }
    }

    #[test]
    fn extremes_give_limits_and_nan_stays_nan() {
        let x = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 88.0, 100.0, -200.0];
        for isa in Isa::all_here() {
            let mut out = [0.0; 6];
            activate(isa, &Pool::new(1), Activation::Exp, &x, &mut out);
            assert_eq!((out[0], out[1], out[4], out[5]), (f32::INFINITY, 0.0, f32::INFINITY, 0.0));
            assert!(out[2].is_nan() && (out[3] / 88.0_f32.exp() - 1.0).abs() < 3e-7);
            activate(isa, &Pool::new(1), Activation::Relu, &x, &mut out);
            assert!(out[2].is_nan(), "relu keeps NaN");
        }
    }

    #[test]
    fn a_tail_gives_the_bits_of_a_whole_vector() {
        let x = Rng::seeded(31).normals(67);
        let up = Rng::seeded(32).normals(67);
        let pool = Pool::new(1);
        for isa in Isa::all_here() {
            for f in ALL {
                let mut all = vec![0.0; 67];
                gated(isa, &pool, f, &x, &up, &mut all);
                for n in 0..67 {
                    let mut out = vec![0.0; n];
                    gated(isa, &pool, f, &x[..n], &up[..n], &mut out);
                    assert_eq!(out, all[..n]);
                }
            }
        }
    }
}
