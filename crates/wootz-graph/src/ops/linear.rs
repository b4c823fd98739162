//! Linear layer: rows times a weight matrix, with an optional bias. Its gradients are two more products.
//!
//! Elsewhere: packing and the products themselves (`wootz_kernels::linear`).

use wootz_kernels::LinearPart;

use crate::bank::Site;
use crate::batch::Batch;
use crate::cost::{Cost, n_elements};
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Takes, arity};
use crate::param::{Param, ParamKind};
use crate::shape::Type;
use crate::{Result, Shape};

/// `y[t, n] = Σₖ x[t, k]·w[n, k] + b[n]`.
#[derive(Clone, Debug)]
pub(crate) struct Linear;

/// `dx[t, k] = Σₙ dy[t, n]·w[n, k]`.
#[derive(Clone, Debug)]
pub(crate) struct LinearInputGrad;

/// `dw[n, k] = Σₜ dy[t, n]·x[t, k]`, rounded as products with `w` are.
#[derive(Clone, Debug)]
pub(crate) struct LinearWeightGrad;

impl Graph<'_> {
    /// `x` (T, k) through `w` (n, k) → (T, n).
    pub fn linear(&mut self, x: Value, w: Param) -> Result<Value> {
        self.linear_bias(x, w, None)
    }

    /// `x` (T, k) through `w` (n, k), plus `b` (n) where there is one → (T, n); with the weight's change and what the graph's bank adds
    /// there, if any.
    pub fn linear_bias(&mut self, x: Value, w: Param, b: Option<Param>) -> Result<Value> {
        let y = match self.change_of(w) {
            Some(change) => self.changed_linear(x, w, b, change)?,
            None => self.unchanged_linear(x, w, b)?,
        };
        self.adapt(y, x, Site::Linear(w))
    }

    /// The product alone.
    pub(crate) fn unchanged_linear(&mut self, x: Value, w: Param, b: Option<Param>) -> Result<Value> {
        let inputs: Vec<Value> = [x].into_iter().chain([w].into_iter().chain(b).map(|p| self.weight(p))).collect();
        self.push(Linear.into(), &inputs)
    }
}

impl Operator for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let (x, w) = match inputs {
            [x, w] | [x, w, _] => (x, w),
            _ => return Err(format!("expected 2 or 3 inputs, got {}", inputs.len())),
        };
        let k = w.shape.width();
        if x.shape.width() != k || w.shape.dims().len() != 2 {
            return Err(format!("weight {} takes rows of {k} numbers, got {}", w.shape, x.shape));
        }
        let n = w.shape.inner() / k;
        if let Some(b) = inputs.get(2)
            && b.shape.inner() != n
        {
            return Err(format!("weight {} gives rows of {n} numbers, got a bias {}", w.shape, b.shape));
        }
        Ok(Type::f32(x.shape.with_width(n)))
    }

    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if input == 1 { Takes::Weight(&[ParamKind::Matrix]) } else { Takes::Numbers }
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let flops = 2.0 * (n_elements(output, batch) * inputs[1].shape.width()) as f64;
        Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let (x, w) = (at.inputs[0], at.inputs[1]);
        let dx = at.wanted[0].then(|| g.push(LinearInputGrad.into(), &[at.dy, w])).transpose()?;
        let dw = at.wanted[1].then(|| g.push(LinearWeightGrad.into(), &[at.dy, x, w])).transpose()?;
        let mut grads = vec![dx, dw];
        if at.inputs.len() == 3 {
            let n = g.width(at.dy);
            grads.push(at.wanted[2].then(|| g.sum_rows(at.dy, n)).transpose()?);
        }
        Ok(grads)
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, w, k) = (run.input(0), run.input(1), run.width(1));
        let bias = (run.n_inputs() == 3).then(|| run.input(2));
        let n = w.len() / k;
        for (x, y) in x.chunks_exact(k).zip(run.out.chunks_exact_mut(n)) {
            for (i, (y, w)) in y.iter_mut().zip(w.chunks_exact(k)).enumerate() {
                *y = x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>() + bias.map_or(0.0, |b| b[i]);
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, weight, bias) = (run.f32(0), run.matrix(1), (run.n_inputs() == 3).then(|| run.f32(2)));
        let m = x.len() / weight.k();
        let part = LinearPart { weight, bias, out: run.out };
        wootz_kernels::linear(run.isa, run.pool, x, m, &mut [part]);
    }
}

impl Operator for LinearInputGrad {
    fn name(&self) -> &'static str {
        "linear_input_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [dy, w] = arity(inputs)?;
        Ok(Type::f32(dy.shape.with_width(w.shape.width())))
    }

    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if input == 1 { Takes::Weight(&[ParamKind::Matrix]) } else { Takes::Numbers }
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let flops = 2.0 * (n_elements(output, batch) * inputs[0].shape.width()) as f64;
        Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, w, n, k) = (run.input(0), run.input(1), run.width(0), run.width(1));
        run.out.fill(0.0);
        for (dy, dx) in dy.chunks_exact(n).zip(run.out.chunks_exact_mut(k)) {
            for (dy, w) in dy.iter().zip(w.chunks_exact(k)) {
                for (dx, w) in dx.iter_mut().zip(w) {
                    *dx += dy * w;
                }
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (dy, w) = (run.f32(0), run.matrix(1));
        let m = dy.len() / w.n();
        wootz_kernels::linear_input_grad(run.isa, run.pool, dy, m, w, run.out, false);
    }
}

impl Operator for LinearWeightGrad {
    fn name(&self) -> &'static str {
        "linear_weight_grad"
    }

    fn adds(&self) -> bool {
        true
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [dy, x, _w] = arity(inputs)?;
        Ok(Type::f32(Shape::fixed(&[dy.shape.width(), x.shape.width()])))
    }

    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if input == 2 { Takes::Weight(&[ParamKind::Matrix]) } else { Takes::Numbers }
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let rows = n_elements(&inputs[0], batch) / inputs[0].shape.width();
        let flops = 2.0 * (output.shape.inner() * rows) as f64;
        Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, x, n, k) = (run.input(0), run.input(1), run.width(0), run.width(1));
        run.out.fill(0.0);
        for (dy, x) in dy.chunks_exact(n).zip(x.chunks_exact(k)) {
            for (dy, dw) in dy.iter().zip(run.out.chunks_exact_mut(k)) {
                for (dw, x) in dw.iter_mut().zip(x) {
                    *dw += dy * x;
                }
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (dy, x, n) = (run.f32(0), run.f32(1), run.width(0));
        // The weight itself is not read: how it is kept says what may be rounded.
        let precision = run.matrix(2).grad_precision();
        wootz_kernels::linear_weight_grad(run.isa, run.pool, x, dy, dy.len() / n, precision, run.out, run.adds);
    }
}
