//! One case: an operator, the inputs and weights it wants, and how close two devices must come.
//!
//! Idea:   a case says what it needs; a [`Scene`] is one random drawing of that over a ragged batch. Where a case
//!         has gradients, its graph ends in all of them, so that every check of values checks them as well.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use wootz_kernels::TensorType;

use super::cases::cases;
use super::rng::Rng;
use crate::batch::{Batch, Data, Rows, Sequence};
use crate::cost::n_elements;
use crate::device::{Device, Executor, HostTensor, Weights};
use crate::param::{Param, ParamKind, ParamSpec, Params};
use crate::plan::{Plan, PlanOptions};
use crate::shape::{Axis, Dim, Shape, Type};
use crate::state::StateCapacity;
use crate::{Graph, Result, Value};

/// How numbers are drawn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Draw {
    Normal,
    Between(f32, f32),
    /// Sixteenths from −3 to 3, which f16 and bf16 hold exactly.
    Grid,
}

impl Draw {
    pub(super) fn numbers(self, rng: &mut Rng, n: usize) -> Vec<f32> {
        match self {
            Draw::Normal => rng.normals(n),
            Draw::Between(low, high) => (0..n).map(|_| rng.between(low, high)).collect(),
            Draw::Grid => (0..n).map(|_| (rng.below(97) as f32 - 48.0) / 16.0).collect(),
        }
    }
}

/// What a case puts into the batch.
#[derive(Clone, Debug)]
enum Input {
    Numbers { name: &'static str, shape: Shape, draw: Draw },
    Ids { name: &'static str, below: usize },
}

type Build = dyn Fn(&mut Graph, &[Value], &[Param]) -> Result<Value>;

pub(super) struct Case {
    pub(super) name: String,
    inputs: Vec<Input>,
    weights: Vec<(Vec<usize>, ParamKind, Draw)>,
    build: Box<Build>,
    /// Times `1 + |expected|`: what f32 sums in another order may differ by.
    pub(super) tolerance: f32,
    /// Which inputs and which weights have gradients.
    pub(super) grads: (Vec<usize>, Vec<usize>),
    /// Keys are rows of their own, as in cross-attention.
    pub(super) own_keys: bool,
    /// What matrices, stacks and tables are stored as.
    pub(super) stored: TensorType,
    /// Its gradient is declared to be the identity's, not its slope.
    pub(super) straight_through: bool,
}

pub(super) fn case(name: impl Into<String>) -> Case {
    Case {
        name: name.into(),
        inputs: Vec::new(),
        weights: Vec::new(),
        build: Box::new(|_, x, _| Ok(x[0])),
        tolerance: 1e-5,
        grads: (Vec::new(), Vec::new()),
        own_keys: false,
        stored: TensorType::F32,
        straight_through: false,
    }
}

impl Case {
    /// An input (T, dims…).
    pub(super) fn rows(self, dims: &[usize]) -> Self {
        self.drawn_rows(Axis::Tokens, 1, dims, Draw::Normal)
    }

    pub(super) fn drawn_rows(mut self, axis: Axis, times: usize, dims: &[usize], draw: Draw) -> Self {
        const NAMES: [&str; 5] = ["x0", "x1", "x2", "x3", "x4"];
        let mut all = vec![Dim::Rows(axis, times)];
        all.extend(dims.iter().map(|&size| Dim::Fixed(size)));
        let name = NAMES[self.inputs.len()];
        self.inputs.push(Input::Numbers { name, shape: Shape::new(&all), draw });
        self
    }

    /// An input (T) of ids.
    pub(super) fn ids(mut self, name: &'static str, below: usize) -> Self {
        self.inputs.push(Input::Ids { name, below });
        self
    }

    pub(super) fn weight(self, kind: ParamKind, shape: &[usize]) -> Self {
        self.drawn_weight(kind, shape, Draw::Normal)
    }

    pub(super) fn drawn_weight(mut self, kind: ParamKind, shape: &[usize], draw: Draw) -> Self {
        self.weights.push((shape.to_vec(), kind, draw));
        self
    }

    pub(super) fn stored_as(mut self, ty: TensorType) -> Self {
        self.name = format!("{} {ty}", self.name);
        self.stored = ty;
        self
    }

    pub(super) fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    pub(super) fn tolerance(mut self, tolerance: f32) -> Self {
        self.tolerance = tolerance;
        self
    }

    pub(super) fn own_keys(mut self) -> Self {
        self.own_keys = true;
        self
    }

    /// Every input of numbers and every weight has a gradient.
    pub(super) fn grad(self) -> Self {
        let is_number = |i: &usize| matches!(self.inputs[*i], Input::Numbers { .. });
        let inputs: Vec<usize> = (0..self.inputs.len()).filter(is_number).collect();
        let weights: Vec<usize> = (0..self.weights.len()).collect();
        self.grad_of(&inputs, &weights)
    }

    pub(super) fn grad_of(mut self, inputs: &[usize], weights: &[usize]) -> Self {
        self.grads = (inputs.to_vec(), weights.to_vec());
        self
    }

    pub(super) fn straight_through(mut self) -> Self {
        self.straight_through = true;
        self.grad()
    }

    pub(super) fn has_gradient(&self) -> bool {
        !self.grads.0.is_empty() || !self.grads.1.is_empty()
    }

    pub(super) fn build(
        mut self,
        build: impl Fn(&mut Graph, &[Value], &[Param]) -> Result<Value> + 'static,
    ) -> Self {
        self.build = Box::new(build);
        self
    }

    /// Draws weights, inputs and sequences of these lengths.
    pub(super) fn scene(&self, lengths: &[usize], seed: u64) -> Scene {
        let mut rng = Rng::seeded(seed);
        let mut params = Params::default();
        let mut weights = Vec::new();
        for (i, (shape, kind, draw)) in self.weights.iter().enumerate() {
            params.declare(format!("w{i}"), shape, *kind);
            let numbers = draw.numbers(&mut rng, shape.iter().product());
            let ty = if *kind == ParamKind::Vector { TensorType::F32 } else { self.stored };
            weights.push((ty, stored(ty, &numbers)));
        }
        let batch = self.batch(lengths, &mut rng);
        Scene { params, weights, batch }
    }

    fn batch(&self, lengths: &[usize], rng: &mut Rng) -> Batch {
        let mut batch = Batch::new();
        let (mut end, mut key_end) = (0, 0);
        for &len in lengths {
            let n_keys = if self.own_keys { rng.below(9) } else { len };
            batch.push(Sequence {
                rows: end..end + len,
                key_rows: key_end..key_end + n_keys,
                first_position: rng.below(300),
                planned_len: rng.below(100),
                ..Sequence::default()
            });
            (end, key_end) = (end + len, key_end + n_keys);
        }
        batch.set_tokens(vec![0; end]);
        let outputs = (0..end).filter(|_| rng.below(2) == 0).map(|row| row as u32).collect();
        batch.set_outputs(outputs);
        batch.set("noise_seed", Data::U32(vec![7, end as u32]));
        for input in &self.inputs {
            match input {
                Input::Numbers { name, shape, draw } => {
                    let n = n_elements(&Type::f32(*shape), &batch);
                    batch.set(name, Data::F32(draw.numbers(rng, n)));
                }
                Input::Ids { name, below } => {
                    batch.set(name, Data::U32((0..end).map(|_| rng.below(*below) as u32).collect()));
                }
            }
        }
        batch
    }

    /// The graph over declared weights: the case's value first, then the gradients of `Σ value·r`, where the case
    /// has any, and that sum.
    pub(super) fn graph<'p>(&self, params: &'p Params) -> Result<(Graph<'p>, Vec<Value>)> {
        let mut g = Graph::new(params);
        let input = |g: &mut Graph, input: &Input| match *input {
            Input::Numbers { name, shape, .. } => g.input(name, Type::f32(shape)),
            Input::Ids { name, .. } => g.input(name, Type::u32((Dim::Rows(Axis::Tokens, 1),))),
        };
        let x: Vec<Value> = self.inputs.iter().map(|declared| input(&mut g, declared)).collect();
        let handles: Vec<Param> = params.iter().map(|(param, _)| param).collect();
        let y = (self.build)(&mut g, &x, &handles)?;
        let mut outputs = vec![y];
        if self.has_gradient() {
            let ty = g.ty(y);
            let r = g.input("r", ty);
            let loss = g.weighted_sum(y, r)?;
            let mut wrt: Vec<Value> = self.grads.0.iter().map(|&i| x[i]).collect();
            wrt.extend(self.grads.1.iter().map(|&i| g.weight(handles[i])));
            outputs.extend(g.backward(loss, &wrt)?);
            outputs.push(loss);
        }
        Ok((g, outputs))
    }

    /// A scene with a plan of this case's graph for exactly its capacity, `r` drawn as well.
    pub(super) fn planned(&self, lengths: &[usize], seed: u64) -> (Scene, Plan) {
        let mut scene = self.scene(lengths, seed);
        let (g, outputs) = self.graph(&scene.params).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let plan = plan_for(&g, &outputs, &scene.batch);
        let n = n_elements(&g.ty(outputs[0]), &scene.batch);
        scene.batch.set("r", Data::F32(Rng::seeded(seed + 77).normals(n)));
        (scene, plan)
    }

    /// The name of input `i` in the batch.
    pub(super) fn input_name(&self, i: usize) -> &'static str {
        match self.inputs[i] {
            Input::Numbers { name, .. } | Input::Ids { name, .. } => name,
        }
    }
}

fn stored(ty: TensorType, numbers: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; ty.row_bytes(numbers.len()).expect("whole blocks")];
    wootz_kernels::quantize(ty, numbers, &mut bytes).expect("a type that can be written");
    bytes
}

/// Calls `check` with every case of the table, and fails naming all that failed, not only the first.
pub(super) fn each_case(check: impl Fn(Case)) {
    let mut failed = Vec::new();
    for case in cases() {
        let name = case.name.clone();
        let result = catch_unwind(AssertUnwindSafe(|| check(case)));
        failed.extend(result.err().map(|_| name));
    }
    assert!(failed.is_empty(), "cases that failed, for the reasons above: {failed:#?}");
}

/// Weights and a batch.
pub(super) struct Scene {
    pub(super) params: Params,
    weights: Vec<(TensorType, Vec<u8>)>,
    pub(super) batch: Batch,
}

impl Scene {
    pub(super) fn load(&self, device: &dyn Device) -> Weights {
        let source = |spec: &ParamSpec| {
            let param = self.params.find(&spec.name).expect("declared by the same case");
            let (ty, bytes) = &self.weights[param.index()];
            Ok(HostTensor { ty: *ty, bytes: Cow::Borrowed(bytes) })
        };
        device.load(&self.params, &source).expect("weights load")
    }

    pub(super) fn executor(&self, device: &dyn Device) -> Box<dyn Executor> {
        device.executor(&self.load(device), &[], NO_STATES).expect("an executor")
    }
}

pub(super) const NO_STATES: StateCapacity =
    StateCapacity { n_blocks: 0, block_len: 16, n_slots: 0, kv_type: TensorType::F32 };

/// A plan with exactly as much room as the batch rounds up to.
pub(super) fn plan_for(g: &Graph, outputs: &[Value], batch: &Batch) -> Plan {
    let options = PlanOptions { capacity: batch.rows().rounded_up() };
    Plan::new(g, outputs, &options).expect("a plan")
}

/// Panics with `what` and the place of the first number that is too far off.
pub(super) fn assert_close(got: &[f32], want: &[f32], tolerance: f32, what: &dyn Fn() -> String) {
    assert_eq!(got.len(), want.len(), "{}: how many numbers", what());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let close = got == want || (got - want).abs() <= tolerance * (1.0 + want.abs());
        assert!(close, "{}: place {i}: {got} instead of {want}", what());
    }
}

/// Rows of a batch's capacity, for tests that choose it.
pub(super) fn tokens(n: usize) -> Rows {
    Rows { tokens: n, outputs: n, sequences: n, keys: n }
}
