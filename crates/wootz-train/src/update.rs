//! One step of all weights: norm, clipping, rules, and weights back on the device.
//!
//! Where:  the [`Trainer`](crate::Trainer) after the last micro-batch of a step.
//! Idea:   weights that the device keeps in f32 are stepped as they are. Those that it keeps in fewer bits have an f32 master
//!         here, which the optimizer steps and the device gets rounded.

use wootz_graph::{Executor, Param, ParamKind, ParamSpec, Params};
use wootz_kernels::TensorType;

use crate::optimizer::{Adam, Adam8, Lamb, Lion, RmsProp, Rule, ScheduleFree, Sgd, StateMut, Step};
use crate::{Learner, Result};

/// Which rule, and its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerKind {
    /// Stochastic gradient descent
    Sgd {
        /// μ
        momentum: f32,
        /// Whether it looks ahead
        nesterov: bool,
    },
    /// RMSprop
    RmsProp {
        /// α
        alpha: f32,
        /// ε
        eps: f32,
    },
    /// Adam, decay being part of the gradient
    Adam {
        /// β₁, β₂
        betas: [f32; 2],
        /// ε
        eps: f32,
    },
    /// Adam with decay of its own
    AdamW {
        /// β₁, β₂
        betas: [f32; 2],
        /// ε
        eps: f32,
    },
    /// AdamW with moments in eight bits
    AdamW8 {
        /// β₁, β₂
        betas: [f32; 2],
        /// ε
        eps: f32,
    },
    /// Lion
    Lion {
        /// β₁, β₂
        betas: [f32; 2],
    },
    /// LAMB
    Lamb {
        /// β₁, β₂
        betas: [f32; 2],
        /// ε
        eps: f32,
    },
    /// Schedule-free AdamW
    ScheduleFree {
        /// β₁, β₂
        betas: [f32; 2],
        /// ε
        eps: f32,
    },
}

impl OptimizerKind {
    /// The rule of one tensor.
    fn rule(self, spec: &ParamSpec) -> Box<dyn Rule> {
        let n = spec.n_elements();
        match self {
            Self::Sgd { momentum, nesterov } => Box::new(Sgd::new(n, momentum, nesterov)),
            Self::RmsProp { alpha, eps } => Box::new(RmsProp::new(n, alpha, eps)),
            Self::Adam { betas, eps } => Box::new(Adam::plain(n, betas, eps)),
            Self::AdamW { betas, eps } => Box::new(Adam::adam_w(n, betas, eps)),
            Self::AdamW8 { betas, eps } => Box::new(Adam8::new(n, betas, eps)),
            Self::Lion { betas } => Box::new(Lion::new(n, betas)),
            Self::Lamb { betas, eps } => Box::new(Lamb::new(n, betas, eps)),
            Self::ScheduleFree { betas, eps } => Box::new(ScheduleFree::new(n, betas, eps)),
        }
    }
}

/// All rules of a model.
pub struct Update {
    tensors: Vec<Tensor>,
}

struct Tensor {
    param: Param,
    name: String,
    ty: TensorType,
    decays: bool,
    master: Option<Vec<f32>>,
    rule: Box<dyn Rule>,
}

/// What one step is done with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateStep {
    /// The scheduled rate
    pub lr: f64,
    /// Counted from 1
    pub step: u64,
    /// Of weights that decay
    pub weight_decay: f64,
    /// Gradients are shortened by this before they are used
    pub factor: f64,
}

impl Update {
    /// Rules for everything that learns. Norms and biases do not decay.
    pub fn new(learner: &Learner, kind: OptimizerKind) -> Self {
        let tensors = learner.trained().iter().map(|&param| {
            let spec = learner.params().spec(param);
            let ty = learner.kept_in(param);
            let master = (ty != TensorType::F32).then(|| learner.weight(param));
            let decays = decays(learner.params(), param);
            Tensor { param, name: spec.name.clone(), ty, decays, master, rule: kind.rule(spec) }
        });
        Self { tensors: tensors.collect() }
    }

    /// The Euclidean norm of all gradients together, in their order.
    pub fn grad_norm(&self, executor: &mut dyn Executor) -> f64 {
        let mut squares = 0.0;
        for tensor in &self.tensors {
            executor.with_gradient(tensor.param, &mut |grad| squares += sum_of_squares(grad));
        }
        squares.sqrt()
    }

    /// Steps every weight along its gradient.
    ///
    /// # Errors
    /// What the device says to new weights.
    pub fn step(&mut self, executor: &mut dyn Executor, at: &UpdateStep) -> Result<()> {
        for tensor in &mut self.tensors {
            let mut weights = match tensor.master.take() {
                Some(master) => master,
                None => executor.weight(tensor.param),
            };
            let weight_decay = if tensor.decays { at.weight_decay as f32 } else { 0.0 };
            let step = Step { lr: at.lr as f32, step: at.step, weight_decay };
            let rule = &mut tensor.rule;
            executor.with_gradient(tensor.param, &mut |grad| {
                if at.factor != 1.0 {
                    let factor = at.factor as f32;
                    grad.iter_mut().for_each(|g| *g *= factor);
                }
                rule.step(&mut weights, grad, &step);
            });
            executor.set_weight(tensor.param, tensor.ty, &weights)?;
            if tensor.ty != TensorType::F32 {
                tensor.master = Some(weights);
            }
        }
        Ok(())
    }

    /// Everything that has to be kept for a run to go on exactly: names and numbers of masters and states.
    pub fn each_state(&mut self, mut each: impl FnMut(&str, StateMut<'_>)) {
        for tensor in &mut self.tensors {
            if let Some(master) = &mut tensor.master {
                each(&format!("{}:master", tensor.name), StateMut::F32(master));
            }
            for (state, numbers) in tensor.rule.state() {
                each(&format!("{}:{state}", tensor.name), numbers);
            }
        }
    }
}

/// In f64, in blocks: one sum of many small squares would lose them.
fn sum_of_squares(numbers: &[f32]) -> f64 {
    numbers.chunks(4096).map(|block| block.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()).sum()
}

/// Everything decays but norms and biases: what transformers' trainer does, too.
fn decays(params: &Params, param: Param) -> bool {
    params.spec(param).kind != ParamKind::Vector
}
