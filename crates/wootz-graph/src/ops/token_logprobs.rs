//! Head and loss in one: the log-probability of each row's target, without all logits ever existing at once.
//!
//! Where:  the end of every training graph; SFT, DPO, GRPO and distillation are functions of what it returns.
//! Idea:   logits are made for a few rows, reduced, and forgotten; the backward pass makes them again.
//! Source: Wijmans et al. 2024, arXiv:2411.09009, does the same on GPUs.

use wootz_kernels::LinearPart;

use crate::batch::Batch;
use crate::cost::{Cost, n_elements};
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Takes, arity};
use crate::param::{Param, ParamKind};
use crate::shape::Type;
use crate::{Result, Shape};

/// Rows whose logits exist at the same time.
const CHUNK: usize = 32;

/// What happens to logits before the soft-max.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitTransform {
    /// Multiplies them.
    pub scale: f32,
    /// `c·tanh(z/c)` after that.
    pub softcap: Option<f32>,
}

/// `y[t] = z[t, target[t]] − ln Σᵥ e^z[t, v]` with `z = cap(scale·(x·headᵀ + bias))`.
#[derive(Clone, Debug)]
pub(crate) struct TokenLogprobs(LogitTransform);

/// The gradient of x: `dz·head` with `dz = dy·(onehot − softmax(z))·∂z/∂(x·headᵀ)`.
#[derive(Clone, Debug)]
pub(crate) struct TokenLogprobsInputGrad(TokenLogprobs);

/// The gradient of the head: `dzᵀ·x`.
#[derive(Clone, Debug)]
pub(crate) struct TokenLogprobsWeightGrad(TokenLogprobs);

impl Graph<'_> {
    /// `x` (T, C), `head` (V, C), `bias` (V), `targets` (T) ids → (T) log-probabilities, in nats.
    pub fn token_logprobs(
        &mut self,
        x: Value,
        head: Param,
        bias: Option<Param>,
        targets: Value,
        transform: LogitTransform,
    ) -> Result<Value> {
        let mut inputs = vec![x, self.weight(head), targets];
        inputs.extend(bias.map(|bias| self.weight(bias)));
        self.push(TokenLogprobs(transform).into(), &inputs)
    }
}

impl TokenLogprobs {
    fn z(&self, raw: f64) -> f64 {
        let z = raw * f64::from(self.0.scale);
        self.0.softcap.map_or(z, |cap| f64::from(cap) * (z / f64::from(cap)).tanh())
    }

    fn z_row(&self, x: &[f64], (head, bias): Head64) -> Vec<f64> {
        let bias = |v: usize| bias.map_or(0.0, |b| b[v]);
        head.chunks_exact(x.len()).enumerate().map(|(v, w)| self.z(dot(x, w) + bias(v))).collect()
    }

    /// `∂z/∂raw`, given z.
    fn slope(&self, z: f64) -> f64 {
        f64::from(self.0.scale) * self.0.softcap.map_or(1.0, |cap| 1.0 - (z / f64::from(cap)).powi(2))
    }

    /// `dz·∂z/∂raw` of one row in f64.
    fn raw_gradient(&self, x: &[f64], head: Head64, target: usize, dy: f64) -> Vec<f64> {
        let z = self.z_row(x, head);
        let log_sum = log_sum_exp(&z);
        let one_hot = |v: usize| f64::from(u8::from(v == target));
        let grad = |(v, z): (usize, &f64)| dy * (one_hot(v) - (z - log_sum).exp()) * self.slope(*z);
        z.iter().enumerate().map(grad).collect()
    }

    /// Fills `z` with the transformed logits of `x`'s rows.
    fn logits(&self, run: &CpuRun, x: &[f32], bias: Option<&[f32]>, z: &mut [f32]) {
        let weight = run.matrix(1);
        let m = x.len() / weight.k();
        wootz_kernels::linear(run.isa, run.pool, x, m, &mut [LinearPart { weight, bias, out: z }]);
        if self.0.scale != 1.0 {
            z.iter_mut().for_each(|z| *z *= self.0.scale);
        }
        if let Some(cap) = self.0.softcap {
            z.iter_mut().for_each(|z| *z = cap * (*z / cap).tanh());
        }
    }

    /// Replaces the transformed logits of one row by the gradient of the raw ones.
    fn to_gradient(&self, z: &mut [f32], target: usize, dy: f32) {
        let slopes: Option<Vec<f32>> =
            self.0.softcap.map(|cap| z.iter().map(|z| 1.0 - (z / cap) * (z / cap)).collect());
        let log_sum = log_sum_exp_f32(z);
        z.iter_mut().for_each(|z| *z = -dy * self.0.scale * (*z - log_sum).exp());
        z[target] += dy * self.0.scale;
        if let Some(slopes) = slopes {
            z.iter_mut().zip(&slopes).for_each(|(z, slope)| *z *= slope);
        }
    }
}

fn vocab_size(head: &Type) -> usize {
    head.shape.inner() / head.shape.width()
}

/// The operator and its gradients take rows, head and targets alike.
fn takes(input: usize, inputs: &[Type]) -> Takes {
    match input {
        1 => Takes::Weight(&[ParamKind::Matrix]),
        2 => Takes::Ids { below: Some(vocab_size(&inputs[1])) },
        _ => Takes::Numbers,
    }
}

/// Two products: the logits once more, and the gradient from them.
fn gradient_cost(inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
    let flops = 4.0 * (n_elements(&inputs[2], batch) * inputs[1].shape.inner()) as f64;
    Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
}

/// (V, C) and (V).
type Head64<'a> = (&'a [f64], Option<&'a [f64]>);

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn log_sum_exp(z: &[f64]) -> f64 {
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + z.iter().map(|z| (z - max).exp()).sum::<f64>().ln()
}

fn log_sum_exp_f32(z: &[f32]) -> f32 {
    let max = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (f64::from(max) + z.iter().map(|z| f64::from((z - max).exp())).sum::<f64>().ln()) as f32
}

impl Operator for TokenLogprobs {
    fn name(&self) -> &'static str {
        "token_logprobs"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x, head, targets] = arity(&inputs[..inputs.len().min(3)])?;
        if x.shape.width() != head.shape.width() {
            return Err(format!("head {} does not fit rows {}", head.shape, x.shape));
        }
        if x.shape.dims().len() != 2 || targets.shape.rows() != x.shape.rows() || targets.shape.inner() != 1 {
            return Err(format!("expected a target for each row of {}, got {}", x.shape, targets.shape));
        }
        let vocab_size = vocab_size(&head);
        if let Some(bias) = inputs.get(3)
            && bias.shape.inner() != vocab_size
        {
            return Err(format!("head {} gives {vocab_size} logits, got a bias {}", head.shape, bias.shape));
        }
        Ok(Type::f32(targets.shape))
    }

    fn takes(&self, input: usize, inputs: &[Type]) -> Takes {
        takes(input, inputs)
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let flops = 2.0 * (n_elements(output, batch) * inputs[1].shape.inner()) as f64;
        Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        if at.wanted.get(3) == Some(&true) {
            let node = g.node(at.output);
            return Err(crate::Error::NoGradient { op: "token_logprobs bias", path: node.path.clone() });
        }
        let mut inputs = vec![at.inputs[0], at.inputs[1], at.inputs[2], at.dy];
        inputs.extend(at.inputs.get(3));
        let dx = g.push(TokenLogprobsInputGrad(self.clone()).into(), &inputs)?;
        let dw = || g.push(TokenLogprobsWeightGrad(self.clone()).into(), &inputs);
        Ok(vec![Some(dx), at.wanted[1].then(dw).transpose()?, None, None])
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, head, targets, width) = (run.input(0), run.input(1), run.input(2), run.width(1));
        let bias = (run.n_inputs() == 4).then(|| run.input(3));
        for ((y, x), &target) in run.out.iter_mut().zip(x.chunks_exact(width)).zip(targets) {
            let z = self.z_row(x, (head, bias));
            *y = z[target as usize] - log_sum_exp(&z);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, targets, width) = (run.f32(0), run.u32(2), run.width(1));
        let bias = (run.n_inputs() == 4).then(|| run.f32(3));
        let vocab_size = run.matrix(1).n();
        let mut z = vec![0.0; CHUNK.min(targets.len()) * vocab_size];
        for (chunk, x) in x.chunks(CHUNK * width).enumerate() {
            let n = x.len() / width;
            let z = &mut z[..n * vocab_size];
            self.logits(run, x, bias, z);
            for (i, z) in z.chunks_exact(vocab_size).enumerate() {
                let t = chunk * CHUNK + i;
                run.out[t] = z[targets[t] as usize] - log_sum_exp_f32(z);
            }
        }
    }
}

impl Operator for TokenLogprobsInputGrad {
    fn name(&self) -> &'static str {
        "token_logprobs_input_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[0])
    }

    fn takes(&self, input: usize, inputs: &[Type]) -> Takes {
        takes(input, inputs)
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        gradient_cost(inputs, output, batch)
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, head, targets, dy) = (run.input(0), run.input(1), run.input(2), run.input(3));
        let width = run.width(1);
        let bias = (run.n_inputs() == 5).then(|| run.input(4));
        for (t, dx) in run.out.chunks_exact_mut(width).enumerate() {
            let dz = self.0.raw_gradient(&x[t * width..][..width], (head, bias), targets[t] as usize, dy[t]);
            dx.fill(0.0);
            for (dz, w) in dz.iter().zip(head.chunks_exact(width)) {
                dx.iter_mut().zip(w).for_each(|(dx, w)| *dx += dz * w);
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, targets, dy, width) = (run.f32(0), run.u32(2), run.f32(3), run.width(1));
        let bias = (run.n_inputs() == 5).then(|| run.f32(4));
        let head = run.matrix(1);
        let mut z = vec![0.0; CHUNK.min(targets.len()) * head.n()];
        for (chunk, x) in x.chunks(CHUNK * width).enumerate() {
            let (first, n) = (chunk * CHUNK, x.len() / width);
            let z = &mut z[..n * head.n()];
            self.0.logits(run, x, bias, z);
            for (i, z) in z.chunks_exact_mut(head.n()).enumerate() {
                self.0.to_gradient(z, targets[first + i] as usize, dy[first + i]);
            }
            let dx = &mut run.out[first * width..][..n * width];
            wootz_kernels::linear_input_grad(run.isa, run.pool, z, n, head, dx, false);
        }
    }
}

impl Operator for TokenLogprobsWeightGrad {
    fn name(&self) -> &'static str {
        "token_logprobs_weight_grad"
    }

    fn adds(&self) -> bool {
        true
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(Type::f32(Shape::fixed(&[vocab_size(&inputs[1]), inputs[1].shape.width()])))
    }

    fn takes(&self, input: usize, inputs: &[Type]) -> Takes {
        takes(input, inputs)
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        gradient_cost(inputs, output, batch)
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, head, targets, dy) = (run.input(0), run.input(1), run.input(2), run.input(3));
        let width = run.width(1);
        let bias = (run.n_inputs() == 5).then(|| run.input(4));
        run.out.fill(0.0);
        for (t, x) in x.chunks_exact(width).enumerate() {
            let dz = self.0.raw_gradient(x, (head, bias), targets[t] as usize, dy[t]);
            for (dz, dw) in dz.iter().zip(run.out.chunks_exact_mut(width)) {
                dw.iter_mut().zip(x).for_each(|(dw, x)| *dw += dz * x);
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, targets, dy, width) = (run.f32(0), run.u32(2), run.f32(3), run.width(1));
        let bias = (run.n_inputs() == 5).then(|| run.f32(4));
        let vocab_size = run.matrix(1).n();
        let mut z = vec![0.0; CHUNK.min(targets.len()) * vocab_size];
        if !run.adds {
            run.out.fill(0.0);
        }
        for (chunk, x) in x.chunks(CHUNK * width).enumerate() {
            let (first, n) = (chunk * CHUNK, x.len() / width);
            let z = &mut z[..n * vocab_size];
            self.0.logits(run, x, bias, z);
            for (i, z) in z.chunks_exact_mut(vocab_size).enumerate() {
                self.0.to_gradient(z, targets[first + i] as usize, dy[first + i]);
            }
            wootz_kernels::linear_weight_grad(run.isa, run.pool, x, z, n, run.out, true);
        }
    }
}
