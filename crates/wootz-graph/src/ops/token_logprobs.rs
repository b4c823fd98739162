//! Head and loss in one: the log-probability of each row's target, without all logits ever existing at once.
//!
//! Where:  the end of every training graph; SFT, DPO, GRPO and distillation are functions of what it returns.
//! Idea:   logits are made for some rows, reduced, and forgotten. The backward pass makes them once more and takes all gradients
//!         from them: three products in all. Rows whose slope is zero, as prompts have, cost nothing there.
//! Source: Wijmans et al. 2024, arXiv:2411.09009, does the same on GPUs.
//! Elsewhere: chunks and soft-max (`wootz_kernels::token_logprobs`).

use wootz_kernels::{LogitHead, LogprobGrads};

use crate::Result;
use crate::batch::Batch;
use crate::cost::{Cost, n_elements};
use crate::device::cpu::{CpuRun, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Part, Takes};
use crate::param::{Param, ParamKind};
use crate::shape::{Dim, Type};

/// What happens to logits before the soft-max.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitTransform {
    /// Multiplies them.
    pub scale: f32,
    /// `c·tanh(z/c)` after that.
    pub softcap: Option<f32>,
}

/// `y[t, i] = z[t, target[t, i]] − ln Σᵥ e^z[t, v]` with `z = cap(scale·(x·headᵀ + bias))`.
#[derive(Clone, Debug)]
pub(crate) struct TokenLogprobs(LogitTransform);

/// The gradients of x (`dz·head`), the head (`dzᵀ·x`) and the bias (`Σ dz`), with
/// `dz = Σᵢ dyᵢ·(onehotᵢ − softmax(z))·∂z/∂(x·headᵀ)`.
#[derive(Clone, Debug)]
pub(crate) struct TokenLogprobsGrad {
    of: TokenLogprobs,
    part: Part,
}

impl Graph<'_> {
    /// `x` (T, C), `head` (V, C), `bias` (V), `targets` (T) ids → (T) log-probabilities, in nats; or `targets` (T, k) → (T, k).
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
    fn raw_gradient(&self, x: &[f64], head: Head64, targets: &[f64], dy: &[f64]) -> Vec<f64> {
        let z = self.z_row(x, head);
        let log_sum = log_sum_exp(&z);
        let grad = |(v, z): (usize, &f64)| {
            let hit = |target: f64| f64::from(u8::from(v == target as usize));
            let pull = |(target, dy): (&f64, &f64)| dy * (hit(*target) - (z - log_sum).exp());
            targets.iter().zip(dy).map(pull).sum::<f64>() * self.slope(*z)
        };
        z.iter().enumerate().map(grad).collect()
    }

    fn head<'a>(&self, run: &CpuRun<'a>, bias: Option<usize>) -> LogitHead<'a> {
        let LogitTransform { scale, softcap } = self.0;
        LogitHead { weight: run.matrix(1), bias: bias.map(|index| run.f32(index)), scale, softcap }
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

/// (V, C) and (V).
type Head64<'a> = (&'a [f64], Option<&'a [f64]>);

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn log_sum_exp(z: &[f64]) -> f64 {
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + z.iter().map(|z| (z - max).exp()).sum::<f64>().ln()
}

impl Operator for TokenLogprobs {
    fn name(&self) -> &'static str {
        "token_logprobs"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let (x, head, targets) = match inputs {
            [x, head, targets] | [x, head, targets, _] => (x, head, targets),
            _ => return Err(format!("expected 3 or 4 inputs, got {}", inputs.len())),
        };
        if x.shape.width() != head.shape.width() {
            return Err(format!("head {} does not fit rows {}", head.shape, x.shape));
        }
        let &[Dim::Rows(axis, times), _] = x.shape.dims() else {
            return Err(format!("expected rows (T, C), got {}", x.shape));
        };
        if targets.shape.rows() != Some((axis, times)) || targets.shape.dims().len() > 2 {
            return Err(format!("expected targets for each row of {}, got {}", x.shape, targets.shape));
        }
        let vocab_size = vocab_size(head);
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
        let flops = 2.0 * (n_elements(&inputs[0], batch) * vocab_size(&inputs[1])) as f64;
        Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let mut inputs = vec![at.inputs[0], at.inputs[1], at.inputs[2], at.dy];
        inputs.extend(at.inputs.get(3));
        at.parts(g, &inputs, |part| TokenLogprobsGrad { of: self.clone(), part }.into())
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, head, targets, width) = (run.input(0), run.input(1), run.input(2), run.width(1));
        let (bias, k) = ((run.n_inputs() == 4).then(|| run.input(3)), run.types[2].shape.inner());
        for (t, x) in x.chunks_exact(width).enumerate() {
            let z = self.z_row(x, (head, bias));
            for i in t * k..(t + 1) * k {
                run.out[i] = z[targets[i] as usize] - log_sum_exp(&z);
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let head = self.head(run, (run.n_inputs() == 4).then_some(3));
        wootz_kernels::token_logprobs(run.isa, run.pool, &head, run.f32(0), run.u32(2), run.out);
    }
}

impl Operator for TokenLogprobsGrad {
    fn name(&self) -> &'static str {
        "token_logprobs_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        // The bias stands behind the slopes.
        Ok(inputs[if self.part.index == 3 { 4 } else { self.part.index }])
    }

    fn takes(&self, input: usize, inputs: &[Type]) -> Takes {
        takes(input, inputs)
    }

    /// One product for each part, and the logits once more, which are counted with the rows' gradient.
    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let product = 2.0 * (n_elements(&inputs[0], batch) * vocab_size(&inputs[1])) as f64;
        let flops = [2.0 * product, product, 0.0, 0.0][self.part.index];
        Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }

    fn adds(&self) -> bool {
        true
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, head, targets, dy) = (run.input(0), run.input(1), run.input(2), run.input(3));
        let (width, k) = (run.width(1), run.types[2].shape.inner());
        let bias = (run.n_inputs() == 5).then(|| run.input(4));
        run.out.fill(0.0);
        for (t, x) in x.chunks_exact(width).enumerate() {
            let of_row = t * k..(t + 1) * k;
            let dz = self.of.raw_gradient(x, (head, bias), &targets[of_row.clone()], &dy[of_row]);
            for (v, dz) in dz.iter().enumerate() {
                match self.part.index {
                    0 => (0..width).for_each(|j| run.out[t * width + j] += dz * head[v * width + j]),
                    1 => (0..width).for_each(|j| run.out[v * width + j] += dz * x[j]),
                    _ => run.out[v] += dz,
                }
            }
        }
    }

    fn cpu_parts(&self, run: &CpuRun, outs: Outs) {
        let (isa, pool, x, targets, dy) = (run.isa, run.pool, run.f32(0), run.u32(2), run.f32(3));
        let head = self.of.head(run, (run.n_inputs() == 5).then_some(4));
        let [dx, dw, _, db, ..] = outs;
        // Weights' gradients either all add up over runs or stand for themselves.
        let adds = [&dw, &db].into_iter().flatten().all(|out| out.adds);
        for out in [&dw, &db].into_iter().flatten() {
            assert_eq!(out.adds, adds, "gradients of one head are wanted in one way");
        }
        let [dw, db] = [dw, db].map(|out| out.map(|out| out.numbers));
        let kernel = |dx: Option<&mut [f32]>| {
            let grads = LogprobGrads { dx, dw, db, accumulate: adds };
            wootz_kernels::token_logprobs_grad(isa, pool, &head, x, targets, dy, grads);
        };
        match dx {
            Some(dx) => dx.write(|dx| kernel(Some(dx))),
            None => kernel(None),
        }
    }
}
