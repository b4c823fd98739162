//! Derivatives of activation functions, alone and gating.
//!
//! Where:  the backward pass of feed-forward layers, for training.
//! Idea:   value and slope share their exponential, so a gate's two gradients are made together.
//! Source: Hendrycks & Gimpel 2016, arXiv:1606.08415 (GELU); Shazeer 2020, arXiv:2002.05202 (gated forms).

use super::Activation;
use crate::isa::Kernel;
use crate::simd::{LANES, Simd, math};
use crate::{Isa, Pool};

/// Numbers of one task.
const STRETCH: usize = 1 << 13;

/// `dx = dy·f′(x)`
pub fn activation_grad(isa: Isa, pool: &Pool, f: Activation, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert_eq!((x.len(), dy.len()), (dx.len(), dx.len()), "activation_grad: lengths differ");
    pool.rows(dx, 1, STRETCH, |first, dx| {
        let (x, dy) = (&x[first..][..dx.len()], &dy[first..][..dx.len()]);
        choose(isa, f, Alone { x, dy, dx });
    });
}

/// `dgate = dy·up·f′(gate)` and `dup = dy·f(gate)`, either or both.
#[expect(clippy::too_many_arguments, reason = "the machine, the function and its five tensors")]
pub fn gated_grad(
    isa: Isa,
    pool: &Pool,
    f: Activation,
    gate: &[f32],
    up: &[f32],
    dy: &[f32],
    dgate: Option<&mut [f32]>,
    dup: Option<&mut [f32]>,
) {
    let n = dy.len();
    assert_eq!((gate.len(), up.len()), (n, n), "gated_grad: lengths differ");
    let lens = [&dgate, &dup].map(|out| out.as_ref().map_or(n, |out| out.len()));
    assert_eq!(lens, [n, n], "gated_grad: lengths of the gradients");
    let [dgate, dup] = [dgate, dup].map(|out| out.map(crate::pool::SharedSlice::new));
    pool.run(n.div_ceil(STRETCH), |task| {
        let at = task * STRETCH..((task + 1) * STRETCH).min(n);
        // SAFETY: every task has its own stretch.
        let [dgate, dup] = [&dgate, &dup].map(|out| out.as_ref().map(|out| unsafe { out.slice(at.clone()) }));
        choose(
            isa,
            f,
            Gating { gate: &gate[at.clone()], up: &up[at.clone()], dy: &dy[at.clone()], dgate, dup },
        );
    });
}

/// Lanes of one function: its value and its derivative.
trait Function {
    fn of<S: Simd>(s: S, x: S::F) -> (S::F, S::F);
}

/// What is done with a function.
trait Use {
    fn with<S: Simd, F: Function>(self, s: S);
}

struct Alone<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Use for Alone<'_> {
    #[inline(always)]
    fn with<S: Simd, F: Function>(self, s: S) {
        each!(s, self.dx, x in self.x, dy in self.dy => s.mul(dy, F::of(s, x).1));
    }
}

struct Gating<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    dy: &'a [f32],
    dgate: Option<&'a mut [f32]>,
    dup: Option<&'a mut [f32]>,
}

impl Use for Gating<'_> {
    #[inline(always)]
    fn with<S: Simd, F: Function>(self, s: S) {
        let (gate, up, dy) = (self.gate, self.up, self.dy);
        match (self.dgate, self.dup) {
            (Some(dgate), Some(dup)) => {
                let whole = dy.len() / LANES * LANES;
                for at in (0..whole).step_by(LANES) {
                    let (g, u, d) = (load(s, &gate[at..]), load(s, &up[at..]), load(s, &dy[at..]));
                    let (value, slope) = F::of(s, g);
                    s.store(s.mul(s.mul(d, u), slope), dgate[at..].first_chunk_mut().expect("whole vectors"));
                    s.store(s.mul(d, value), dup[at..].first_chunk_mut().expect("whole vectors"));
                }
                if whole < dy.len() {
                    let (g, u, d) = (load(s, &gate[whole..]), load(s, &up[whole..]), load(s, &dy[whole..]));
                    let (value, slope) = F::of(s, g);
                    s.store_part(s.mul(s.mul(d, u), slope), &mut dgate[whole..]);
                    s.store_part(s.mul(d, value), &mut dup[whole..]);
                }
            }
            (Some(dgate), None) => {
                each!(s, dgate, g in gate, u in up, d in dy => s.mul(s.mul(d, u), F::of(s, g).1));
            }
            (None, Some(dup)) => each!(s, dup, g in gate, d in dy => s.mul(d, F::of(s, g).0)),
            (None, None) => {}
        }
    }
}

/// Up to sixteen numbers, zeros after them.
#[inline(always)]
fn load<S: Simd>(s: S, x: &[f32]) -> S::F {
    match x.first_chunk::<LANES>() {
        Some(x) => s.load(x),
        None => s.load_part(x, 0.0),
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
                fn of<S: Simd>($s: S, $x: S::F) -> (S::F, S::F) $body
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
    fn Silu(s, x) { times_sigmoid(s, x, 1.0) }
    fn Gelu(s, x) {
        let cdf = math::normal_cdf(s, x);
        let half = s.mul(s.mul(x, x), s.splat(-0.5));
        let density = s.mul(math::exp(s, half), s.splat(0.398_942_3)); // 1/√(2π)
        (s.mul(x, cdf), s.mul_add(x, density, cdf))
    }
    fn GeluTanh(s, x) {
        let square = s.mul(x, x);
        let u = s.mul(s.splat(0.797_884_6), s.mul(x, s.mul_add(s.splat(0.044_715), square, s.splat(1.0)))); // √(2/π)
        let tanh = math::tanh(s, u);
        let half = s.mul(s.splat(0.5), x);
        // 3·0.044715
        let inner = s.mul(s.splat(0.797_884_6), s.mul_add(s.splat(0.134_145), square, s.splat(1.0)));
        let curve = s.mul(s.sub(s.splat(1.0), s.mul(tanh, tanh)), inner);
        let cdf = s.mul_add(s.splat(0.5), tanh, s.splat(0.5));
        (s.mul_add(half, tanh, half), s.mul_add(half, curve, cdf))
    }
    fn GeluQuick(s, x) { times_sigmoid(s, x, 1.702) }
    fn Relu(s, x) {
        let zero = s.splat(0.0);
        (s.max(zero, x), s.select_lt(zero, x, s.splat(1.0), zero))
    }
    fn ReluSquared(s, x) {
        let r = s.max(s.splat(0.0), x);
        (s.mul(r, r), s.add(r, r))
    }
    fn Sigmoid(s, x) {
        let y = math::sigmoid(s, x);
        (y, s.mul(y, s.sub(s.splat(1.0), y)))
    }
    fn Tanh(s, x) {
        let y = math::tanh(s, x);
        (y, s.sub(s.splat(1.0), s.mul(y, y)))
    }
    fn Exp(s, x) {
        let y = math::exp(s, x);
        (y, y)
    }
    fn Softplus(s, x) {
        // Gated by nobody: its value is not asked for.
        let y = math::sigmoid(s, x);
        (y, y)
    }
}

/// `x·σ(a·x)` and its slope `σ + a·x·σ·(1 − σ)`.
#[inline(always)]
fn times_sigmoid<S: Simd>(s: S, x: S::F, a: f32) -> (S::F, S::F) {
    let scaled = s.mul(s.splat(a), x);
    let sigmoid = math::sigmoid(s, scaled);
    let rest = s.mul(s.mul(scaled, sigmoid), s.sub(s.splat(1.0), sigmoid));
    (s.mul(x, sigmoid), s.add(sigmoid, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::activate;
    use crate::test_rng::{Rng, assert_close};

    const ALL: [Activation; 9] = [
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::GeluQuick,
        Activation::Relu,
        Activation::ReluSquared,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Exp,
    ];

    #[test]
    fn slopes_agree_with_differences_of_the_functions() {
        let pool = Pool::new(1);
        // No point at the corner of `max(x, 0)`.
        let x: Vec<f32> = (-300..300).map(|i| i as f32 * 0.0201 + 0.005).collect();
        let step = 1.0 / 256.0;
        for f in ALL {
            for isa in Isa::all_here() {
                let moved = |by: f32| {
                    let x: Vec<f32> = x.iter().map(|x| x + by).collect();
                    let mut y = vec![0.0; x.len()];
                    activate(isa, &pool, f, &x, &mut y);
                    y
                };
                let (above, below) = (moved(step), moved(-step));
                let mut want: Vec<f32> =
                    above.iter().zip(&below).map(|(a, b)| (a - b) / (2.0 * step)).collect();
                let mut dx = vec![0.0; x.len()];
                activation_grad(isa, &pool, f, &x, &vec![1.0; x.len()], &mut dx);
                for ((want, dx), x) in want.iter_mut().zip(&dx).zip(&x) {
                    // Differences across the corner say nothing.
                    *want = if x.abs() < step { *dx } else { *want };
                }
                assert_close(&dx, &want, 3e-4, 3e-4); // differences of f32 values
            }
        }
    }

    #[test]
    fn a_gates_gradients_are_the_same_alone_and_together() {
        let pool = Pool::new(2);
        let mut rng = Rng::seeded(33);
        for n in [0, 1, 15, 16, 67, 20_000] {
            let (gate, up, dy) = (rng.normals(n), rng.normals(n), rng.normals(n));
            for isa in Isa::all_here() {
                for f in ALL {
                    let (mut dgate, mut dup) = (vec![0.0; n], vec![0.0; n]);
                    gated_grad(isa, &pool, f, &gate, &up, &dy, Some(&mut dgate), Some(&mut dup));
                    let mut alone = vec![0.0; n];
                    gated_grad(isa, &pool, f, &gate, &up, &dy, Some(&mut alone), None);
                    assert_eq!(alone, dgate);
                    gated_grad(isa, &pool, f, &gate, &up, &dy, None, Some(&mut alone));
                    assert_eq!(alone, dup);
                    let (mut value, mut slope) = (vec![0.0; n], vec![0.0; n]);
                    activate(isa, &pool, f, &gate, &mut value);
                    activation_grad(isa, &pool, f, &gate, &dy, &mut slope);
                    let want: Vec<f32> = value.iter().zip(&dy).map(|(v, d)| v * d).collect();
                    assert_close(&dup, &want, 1e-6, 1e-5);
                    let want: Vec<f32> = slope.iter().zip(&up).map(|(s, u)| s * u).collect();
                    assert_close(&dgate, &want, 1e-6, 1e-5);
                }
            }
        }
    }
}
