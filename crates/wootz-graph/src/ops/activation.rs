//! Activations, alone and gating. SwiGLU and friends: Shazeer 2020, arXiv:2002.05202.

use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::{CpuRun, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Part, arity};
use crate::shape::Type;
use crate::Result;

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x·σ(x)`. Also called swish.
    Silu,
    /// `x·Φ(x)`, exact.
    Gelu,
    /// `x/2·(1 + tanh(√(2/π)(x + 0.044715x³)))`.
    GeluTanh,
    /// `x·σ(1.702x)`.
    GeluQuick,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    ReluSquared,
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// `tanh x`.
    Tanh,
    /// `ln(1 + eˣ)`.
    Softplus,
    /// `eˣ`.
    Exp,
    /// `c·tanh(x/c)`: keeps scores within ±c.
    Softcap(f32),
}

impl Activation {
    /// The plain definition.
    pub fn value(self, x: f64) -> f64 {
        match self {
            Activation::Silu => x * sigmoid(x),
            Activation::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
            Activation::GeluTanh => 0.5 * x * (1.0 + gelu_inner(x).tanh()),
            Activation::GeluQuick => x * sigmoid(1.702 * x),
            Activation::Relu => x.max(0.0),
            Activation::ReluSquared => x.max(0.0).powi(2),
            Activation::Sigmoid => sigmoid(x),
            Activation::Tanh => x.tanh(),
            Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Activation::Exp => x.exp(),
            Activation::Softcap(cap) => f64::from(cap) * (x / f64::from(cap)).tanh(),
        }
    }

    /// The derivative at `x`.
    pub fn derivative(self, x: f64) -> f64 {
        match self {
            Activation::Silu => sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))),
            Activation::Gelu => {
                let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
                0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2)) + x * density
            }
            Activation::GeluTanh => {
                let tanh = gelu_inner(x).tanh();
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x);
                0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner
            }
            Activation::GeluQuick => {
                let s = sigmoid(1.702 * x);
                s + 1.702 * x * s * (1.0 - s)
            }
            Activation::Relu => f64::from(u8::from(x > 0.0)),
            Activation::ReluSquared => 2.0 * x.max(0.0),
            Activation::Sigmoid => sigmoid(x) * (1.0 - sigmoid(x)),
            Activation::Tanh => 1.0 - x.tanh().powi(2),
            Activation::Softplus => sigmoid(x),
            Activation::Exp => x.exp(),
            Activation::Softcap(cap) => 1.0 - (x / f64::from(cap)).tanh().powi(2),
        }
    }

    /// The kernel, for those that have one.
    fn kernel(self) -> Option<wootz_kernels::Activation> {
        use wootz_kernels::Activation as Kernel;
        Some(match self {
            Activation::Silu => Kernel::Silu,
            Activation::Gelu => Kernel::Gelu,
            Activation::GeluTanh => Kernel::GeluTanh,
            Activation::GeluQuick => Kernel::GeluQuick,
            Activation::Relu => Kernel::Relu,
            Activation::ReluSquared => Kernel::ReluSquared,
            Activation::Sigmoid => Kernel::Sigmoid,
            Activation::Tanh => Kernel::Tanh,
            Activation::Exp => Kernel::Exp,
            Activation::Softplus | Activation::Softcap(_) => return None,
        })
    }
}

/// `y = f(x)`.
#[derive(Clone, Debug)]
pub(crate) struct Activate(Activation);

/// `dx = dy·f′(x)`.
#[derive(Clone, Debug)]
pub(crate) struct ActivationGrad(Activation);

/// `y = f(gate)·up`, both in one pass.
#[derive(Clone, Debug)]
pub(crate) struct Gated(Activation);

/// `dgate = dy·up·f′(gate)` and `dup = dy·f(gate)`, in one pass.
#[derive(Clone, Debug)]
pub(crate) struct GatedGrad {
    f: Activation,
    part: Part,
}

impl Graph<'_> {
    /// `f` of every number.
    pub fn activate(&mut self, x: Value, f: Activation) -> Result<Value> {
        self.push(Activate(f).into(), &[x])
    }

    /// `f(gate)·up`, number by number.
    pub fn gated(&mut self, gate: Value, up: Value, f: Activation) -> Result<Value> {
        self.push(Gated(f).into(), &[gate, up])
    }
}

impl Operator for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn detail(&self) -> String {
        format!("{:?}", self.0).to_lowercase()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        arity::<1>(inputs).map(|[x]| x)
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::elementwise(inputs, output, batch, 8.0)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        Ok(vec![Some(g.push(ActivationGrad(self.0).into(), &[at.dy, at.inputs[0]])?)])
    }

    fn reference(&self, run: &mut RefRun) {
        let x = run.input(0);
        for (y, x) in run.out.iter_mut().zip(x) {
            *y = self.0.value(*x);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        match (self.0.kernel(), self.0) {
            (Some(kernel), _) => wootz_kernels::activate(run.isa, run.pool, kernel, run.f32(0), run.out),
            (None, Activation::Softcap(cap)) => map(run, |x| cap * (x / cap).tanh()),
            (None, f) => map(run, |x| f.value(f64::from(x)) as f32),
        }
    }
}

impl Operator for ActivationGrad {
    fn name(&self) -> &'static str {
        "activation_grad"
    }

    fn detail(&self) -> String {
        format!("{:?}", self.0).to_lowercase()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        arity::<2>(inputs).map(|[dy, _]| dy)
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, x) = (run.input(0), run.input(1));
        for ((dx, dy), x) in run.out.iter_mut().zip(dy).zip(x) {
            *dx = dy * self.0.derivative(*x);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (dy, x) = (run.f32(0), run.f32(1));
        let slope_of = match self.0 {
            Activation::Softplus => Some(wootz_kernels::Activation::Softplus),
            f => f.kernel(),
        };
        if let Some(kernel) = slope_of {
            return wootz_kernels::activation_grad(run.isa, run.pool, kernel, x, dy, run.out);
        }
        let f = self.0;
        run.pool.rows(run.out, 1, 2048, |first, dx| {
            for ((dx, dy), x) in dx.iter_mut().zip(&dy[first..]).zip(&x[first..]) {
                *dx = dy * f.derivative(f64::from(*x)) as f32;
            }
        });
    }
}

impl Operator for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn detail(&self) -> String {
        format!("by {:?}", self.0).to_lowercase()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [gate, up] = arity(inputs)?;
        if gate.shape != up.shape {
            return Err(format!("gate {} and up {} differ", gate.shape, up.shape));
        }
        if self.0.kernel().is_none() {
            return Err(format!("{:?} does not gate", self.0));
        }
        Ok(gate)
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::elementwise(inputs, output, batch, 9.0)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let inputs = [&[at.dy], at.inputs].concat();
        at.parts(g, &inputs, |part| GatedGrad { f: self.0, part }.into())
    }

    fn reference(&self, run: &mut RefRun) {
        let (gate, up) = (run.input(0), run.input(1));
        for ((y, gate), up) in run.out.iter_mut().zip(gate).zip(up) {
            *y = self.0.value(*gate) * up;
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (gate, up) = (run.f32(0), run.f32(1));
        let kernel = self.0.kernel().expect("checked when the node was added");
        wootz_kernels::gated(run.isa, run.pool, kernel, gate, up, run.out);
    }
}

impl Operator for GatedGrad {
    fn name(&self) -> &'static str {
        "gated_grad"
    }

    fn detail(&self) -> String {
        format!("by {:?}", self.f).to_lowercase()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[1 + self.part.index])
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::elementwise(inputs, output, batch, 6.0)
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }

    fn adds(&self) -> bool {
        true
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, gate, up) = (run.input(0), run.input(1), run.input(2));
        for (i, out) in run.out.iter_mut().enumerate() {
            *out = match self.part.index {
                0 => dy[i] * up[i] * self.f.derivative(gate[i]),
                _ => dy[i] * self.f.value(gate[i]),
            };
        }
    }

    fn cpu_parts(&self, run: &CpuRun, [dgate, dup, ..]: Outs) {
        let (dy, gate, up) = (run.f32(0), run.f32(1), run.f32(2));
        let f = self.f.kernel().expect("checked when the node was added");
        let both = |dgate: Option<&mut [f32]>, dup: Option<&mut [f32]>| {
            wootz_kernels::gated_grad(run.isa, run.pool, f, gate, up, dy, dgate, dup);
        };
        match (dgate, dup) {
            (Some(dgate), Some(dup)) => dgate.write(|dgate| dup.write(|dup| both(Some(dgate), Some(dup)))),
            (Some(dgate), None) => dgate.write(|dgate| both(Some(dgate), None)),
            (None, Some(dup)) => dup.write(|dup| both(None, Some(dup))),
            (None, None) => {}
        }
    }
}

fn map(run: &mut CpuRun, f: impl Fn(f32) -> f32 + Sync) {
    let x = run.f32(0);
    run.pool.rows(run.out, 1, 4096, |first, y| {
        y.iter_mut().zip(&x[first..]).for_each(|(y, x)| *y = f(*x));
    });
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn gelu_inner(x: f64) -> f64 {
    (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)
}

/// The error function to 1e-15: its Taylor series near zero, a continued fraction of `erfc` beyond.
pub(crate) fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..100 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else if a < 6.5 {
        let mut fraction = a;
        for n in (1..120).rev() {
            fraction = a + f64::from(n) / 2.0 / fraction;
        }
        1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
    } else {
        1.0
    };
    value.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_agrees_with_tabulated_values() {
        // Abramowitz & Stegun, table 7.1.
        for (x, expected) in [(0.5, 0.5204998778130465), (2.0, 0.9953222650189527), (3.0, 0.9999779095030014)] {
            assert!((erf(x) - expected).abs() < 1e-14, "erf({x}) = {}", erf(x));
        }
    }
}
