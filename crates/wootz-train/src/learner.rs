//! A model in training: its weights on a device, and the plans that score and differentiate it.
//!
//! Where:  driven by the [`Trainer`](crate::Trainer).
//! Idea:   one plan is forward and backward at once; between its halves the objective turns log-probabilities into slopes. The
//!         same weights serve a second plan that scores alone, and one without low-rank changes, which is the reference model
//!         of a LoRA for free.
//! Source: gradients that add up over micro-batches: `Graph::backward_to`.

use wootz_graph::{
    Batch, Cost, Data, Device, Executor, Graph, HostTensor, LowRankChanges, Param, ParamKind, ParamSpec,
    Params, Plan, PlanOptions, Randomness, Rows, Shape, StateCapacity, Taps, Weights,
};
use wootz_kernels::TensorType;
use wootz_model::Network;

use crate::objective::{Judged, Objective, Totals, judge};
use crate::sequence::MicroBatch;
use crate::{LowRank, Result};

/// The most that goes through the model at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Tokens
    pub n_rows: usize,
    /// Sequences
    pub n_sequences: usize,
}

/// How a model learns.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerSettings {
    /// Which weights learn
    pub trains: Trains,
    /// The type in which the device keeps the model's plain matrices; low-rank changes are always f32
    pub dtype: TensorType,
    /// The most that goes through the model at once
    pub room: Room,
    /// What is random while it learns
    pub randomness: Randomness,
    /// Layers are computed again on the way back instead of kept: less memory for about a third more work
    pub recomputes_layers: bool,
}

/// Which weights learn.
#[derive(Debug, Clone, PartialEq)]
pub enum Trains {
    /// All of them
    All,
    /// Low-rank changes of some of them
    LowRank(LowRank),
}

/// A model in training.
pub struct Learner {
    params: Params,
    trained: Vec<Param>,
    /// The type of matrices that learn.
    trained_in: TensorType,
    weights: Weights,
    executor: Box<dyn Executor>,
    learning: Plan,
    scoring: Plan,
    /// Without changes; none where all weights learn.
    reference: Option<Plan>,
}

impl Learner {
    /// Loads a model's weights and plans its steps.
    ///
    /// # Errors
    /// What the device or the graph refuse: a weight that `source` cannot give, an operator without a gradient.
    pub fn new<'s>(
        network: &Network,
        device: &dyn Device,
        settings: &LearnerSettings,
        source: &dyn Fn(&ParamSpec) -> wootz_graph::Result<HostTensor<'s>>,
    ) -> Result<Self> {
        let LearnerSettings { ref trains, dtype, room, .. } = *settings;
        let mut params = network.params.clone();
        let n_model = params.specs().len();
        let (changes, trained) = match trains {
            Trains::All => (LowRankChanges::new(), params.iter().map(|(param, _)| param).collect()),
            Trains::LowRank(low_rank) => low_rank.declare(network, &mut params)?,
        };
        let is_trained: Vec<bool> = params.iter().map(|(param, _)| trained.contains(&param)).collect();
        let weights = device.load(&params, &|spec| {
            let index = params.find(&spec.name).expect("a declared weight").index();
            let tensor = match trains {
                Trains::LowRank(low_rank) if index >= n_model => low_rank.initial(spec, network, source)?,
                _ => source(spec)?,
            };
            // Frozen weights stay as their file has them, but f32 where fewer bits are asked for.
            Ok(match (is_trained[index], trains) {
                (true, Trains::All) => kept_as(spec, tensor, dtype),
                (true, Trains::LowRank(_)) => kept_as(spec, tensor, TensorType::F32),
                (false, _) if tensor.ty == TensorType::F32 => kept_as(spec, tensor, dtype),
                (false, _) => tensor,
            })
        })?;
        let none = StateCapacity { n_blocks: 0, n_slots: 0, block_len: 64, kv_type: TensorType::F32 };
        let executor = device.executor(&weights, &[], none)?;
        let plan = |changes: &LowRankChanges, learns: bool| {
            let g = Graph::new(&params).with_changes(changes.clone());
            match (learns, settings.recomputes_layers) {
                (false, _) => plan(network, g, None, room),
                (true, false) => plan(network, g.with_randomness(settings.randomness), Some(&trained), room),
                (true, true) => {
                    let g = g.with_randomness(settings.randomness).with_recomputed_layers();
                    plan(network, g, Some(&trained), room)
                }
            }
        };
        let learning = plan(&changes, true)?;
        let scoring = plan(&changes, false)?;
        let reference = match trains {
            Trains::All => None,
            Trains::LowRank(_) => Some(plan(&LowRankChanges::new(), false)?),
        };
        let trained_in = if reference.is_some() { TensorType::F32 } else { dtype };
        Ok(Self { params, trained, trained_in, weights, executor, learning, scoring, reference })
    }

    /// Everything that is declared: the model's weights, then those of changes.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The type in which the device keeps a weight that learns.
    pub(crate) fn kept_in(&self, param: Param) -> TensorType {
        match self.params.spec(param).kind {
            ParamKind::Vector => TensorType::F32,
            _ => self.trained_in,
        }
    }

    /// The weights that learn.
    pub fn trained(&self) -> &[Param] {
        &self.trained
    }

    /// The weights on the device; whoever shares them sees them learn.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What runs plans, for optimizers.
    pub fn executor(&mut self) -> &mut dyn Executor {
        &mut *self.executor
    }

    /// A weight's numbers.
    pub fn weight(&self, param: Param) -> Vec<f32> {
        self.executor.weight(param)
    }

    /// Bytes of the arena in which a micro-batch is run, forward and backward.
    pub fn arena_bytes(&self) -> usize {
        self.learning.arena_bytes()
    }

    /// Operations of one micro-batch, forward and backward, apart from what is computed twice to save memory.
    pub fn cost(&self, batch: &MicroBatch) -> Cost {
        let costs = self.learning.cost(&batch.to_batch());
        costs.into_iter().fold(Cost::default(), |sum, (_, cost)| sum + cost)
    }

    /// Operations of one micro-batch that the model asks for: forward, and backward twice as much, or once where most weights
    /// are frozen. What is computed again to save memory does not count.
    pub fn model_flops(&self, batch: &MicroBatch) -> f64 {
        let costs = self.scoring.cost(&batch.to_batch());
        let forward: f64 = costs.into_iter().map(|(_, cost)| cost.flops).sum();
        forward * if self.reference.is_some() { 2.0 } else { 3.0 }
    }

    /// Whether there is a reference model in the same weights.
    pub fn has_reference(&self) -> bool {
        self.reference.is_some()
    }

    /// One run forward and backward: what `objective` says, and gradients added up in the executor. What is random is drawn by
    /// `draw`.
    pub fn learn(
        &mut self,
        batch: &MicroBatch,
        objective: &dyn Objective,
        totals: &Totals,
        draw: [u32; 2],
    ) -> Result<Judged> {
        let mut input = batch.to_batch();
        input.set("noise_seed", Data::U32(draw.to_vec()));
        let mut between =
            Between { batch, objective, totals, logprobs: Vec::new(), judged: Judged::default() };
        self.executor.run(&self.learning, &input, Some(&mut between))?;
        Ok(between.judged)
    }

    /// Log-probabilities of every row's target, sequence after sequence.
    pub fn score(&mut self, batch: &MicroBatch) -> Result<Vec<f32>> {
        scores(&mut *self.executor, &self.scoring, &batch.to_batch())
    }

    /// The same without the changes that learn.
    ///
    /// # Panics
    /// If all weights learn: then the reference is gone after the first step.
    pub fn score_reference(&mut self, batch: &MicroBatch) -> Result<Vec<f32>> {
        let plan = self.reference.as_ref().expect("asked for only where there is one");
        scores(&mut *self.executor, plan, &batch.to_batch())
    }
}

fn scores(executor: &mut dyn Executor, plan: &Plan, batch: &Batch) -> Result<Vec<f32>> {
    executor.run(plan, batch, None)?;
    Ok(executor.output(plan, batch, 0))
}

/// A plan of log-probabilities, with the gradients of what is trained if it learns.
fn plan(network: &Network, mut g: Graph, trained: Option<&[Param]>, room: Room) -> Result<Plan> {
    let x = network.hidden(&mut g, false)?; // (T, C)
    let targets = g.targets();
    let logprobs = network.token_logprobs(&mut g, x, targets)?; // (T)
    let logprobs = g.name(logprobs, LOGPROBS);
    let mut outputs = vec![logprobs];
    if let Some(trained) = trained {
        let slope = g.slope(logprobs, SLOPE)?;
        g.backward_to(&[(logprobs, slope)], trained)?;
        outputs.clear();
    }
    let capacity = Rows { tokens: room.n_rows, sequences: room.n_sequences, ..Rows::default() };
    Ok(Plan::new(&g, &outputs, &PlanOptions { capacity })?)
}

const LOGPROBS: &str = "logprobs";
const SLOPE: &str = "logprobs.slope";

/// What happens between forward and backward.
struct Between<'a> {
    batch: &'a MicroBatch,
    objective: &'a dyn Objective,
    totals: &'a Totals,
    logprobs: Vec<f32>,
    judged: Judged,
}

impl Taps for Between<'_> {
    fn tap(&mut self, name: &str, _shape: &Shape, numbers: &mut [f32]) {
        match name {
            LOGPROBS => self.logprobs = numbers.to_vec(),
            SLOPE => self.judged = judge(self.objective, self.batch, self.totals, &self.logprobs, numbers),
            _ => {}
        }
    }
}

/// A tensor in the type in which it is trained: matrices and tables in `dtype`, vectors always in f32.
fn kept_as<'a>(spec: &ParamSpec, tensor: HostTensor<'a>, dtype: TensorType) -> HostTensor<'a> {
    let ty = if spec.kind == ParamKind::Vector { TensorType::F32 } else { dtype };
    if tensor.ty == ty {
        return tensor;
    }
    let mut numbers = vec![0.0; spec.n_elements()];
    wootz_kernels::dequantize(tensor.ty, &tensor.bytes, &mut numbers);
    let mut bytes = vec![0; ty.row_bytes(numbers.len()).expect("plain types have no blocks")];
    wootz_kernels::quantize(ty, &numbers, &mut bytes).expect("plain types are written");
    HostTensor { ty, bytes: bytes.into() }
}
