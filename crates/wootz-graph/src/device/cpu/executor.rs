//! Runs plans on the CPU: one arena, a step after the other.
//!
//! Where:  made by [`Cpu::executor`](crate::Device::executor); the engine and the trainer keep one each.
//! Idea:   a step's outputs are cut out of the arena, its inputs are looked up in what is left.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wootz_kernels::{AlignedBytes, HostMatrix, LinearPart, LowRank, LowRankExtras, TensorType, cast};

use crate::bank::{Addition, Slots};
use crate::batch::{Batch, Data};
use crate::device::cpu::Cpu;
use crate::device::cpu::arena::{Rest, span};
use crate::device::cpu::call::{Arg, CpuRun, Out, Outs};
use crate::device::cpu::state::CpuState;
use crate::device::cpu::stored::Stored;
use crate::device::door::Door;
use crate::device::{Executor, HostTensor, Loaded, StepTime, Taps, Weights};
use crate::param::Param;
use crate::plan::{Place, Plan, Step};
use crate::shape::{DType, Type};
use crate::state::{StateCapacity, StateSpec};
use crate::{Error, Result};

/// Weights shared with others, states and an arena of its own.
pub(super) struct CpuExecutor {
    cpu: Cpu,
    weights: Arc<Loaded<Stored>>,
    states: Vec<CpuState>,
    door: Door,
    bank: Slots<LowRank>,
    /// By weight; empty where no plan adds to it.
    gradients: Vec<AlignedBytes>,
    arena: AlignedBytes,
    /// What steps have taken since it was asked for.
    times: Option<Vec<StepTime>>,
}

impl CpuExecutor {
    pub(super) fn new(
        cpu: &Cpu,
        weights: &Weights,
        states: &[StateSpec],
        capacity: StateCapacity,
    ) -> Result<Self> {
        let weights = Loaded::<Stored>::of(weights)?;
        let door = Door::new(&weights.specs, states, capacity)?;
        let states = states.iter().map(|spec| CpuState::new(spec, &capacity)).collect();
        let (cpu, bank, arena) = (cpu.clone(), Slots::default(), AlignedBytes::zeroed(0));
        let gradients = weights.specs.iter().map(|_| AlignedBytes::zeroed(0)).collect();
        Ok(Self { cpu, weights, states, door, bank, gradients, arena, times: None })
    }
}

impl Executor for CpuExecutor {
    fn run(&mut self, plan: &Plan, batch: &Batch, mut taps: Option<&mut dyn Taps>) -> Result<()> {
        self.door.check_run(plan, batch)?;
        if self.arena.len() < plan.arena_bytes() {
            self.arena = AlignedBytes::zeroed(plan.arena_bytes());
        }
        for &(param, n) in &plan.gradients {
            let gradient = &mut self.gradients[param.index()];
            if gradient.len() != 4 * n {
                *gradient = AlignedBytes::zeroed(4 * n);
            }
        }
        let weights = self.weights.read();
        let arena = cast::cast_mut(&mut self.arena).expect("aligned for numbers of 4 bytes");
        let run = Run { cpu: &self.cpu, plan, batch, weights: &weights, bank: &self.bank };
        for (step, named) in plan.steps.iter().zip(&plan.named) {
            let start = self.times.is_some().then(Instant::now);
            match step {
                Step::One { node } => run.one(arena, &mut self.states, &mut self.gradients, *node),
                Step::Linears { nodes } => run.linears(arena, nodes),
                Step::Parts { nodes } => run.parts(arena, &mut self.states, &mut self.gradients, nodes),
            }
            if let (Some(times), Some(start)) = (&mut self.times, start) {
                note(times, plan, step, start.elapsed());
            }
            if let Some(taps) = taps.as_deref_mut() {
                named.iter().for_each(|&node| tap(taps, plan, batch, arena, node));
            }
        }
        Ok(())
    }

    fn output(&self, plan: &Plan, batch: &Batch, index: usize) -> Vec<f32> {
        let mut copy = Vec::new();
        self.with_output(plan, batch, index, &mut |numbers| copy.extend_from_slice(numbers));
        copy
    }

    fn with_output(&self, plan: &Plan, batch: &Batch, index: usize, read: &mut dyn FnMut(&[f32])) {
        let node = plan.outputs[index];
        let arena: &[f32] = cast::cast(&self.arena).expect("aligned for numbers of 4 bytes");
        match (plan.place(node), plan.nodes[node].ty.dtype) {
            (Place::Arena(_), DType::F32) => read(&arena[span(plan, batch, node)]),
            (Place::Arena(_), DType::U32) => read(&to_numbers(&arena[span(plan, batch, node)])),
            (Place::Weight(param), _) => read(&self.weight(param)),
            (Place::Input(name), _) => match &batch.inputs[name] {
                Data::F32(numbers) => read(numbers),
                Data::U32(ids) => read(&ids.iter().map(|&id| id as f32).collect::<Vec<_>>()),
            },
            (Place::Nowhere | Place::Gradient(_), _) => {
                unreachable!("a plan gives each of its outputs a place, and nothing reads a gradient's term")
            }
        }
    }

    fn take_times(&mut self) -> Vec<StepTime> {
        self.times.replace(Vec::new()).unwrap_or_default()
    }

    fn copy_block(&mut self, from: u32, to: u32) {
        for state in &mut self.states {
            if let CpuState::Kv(store) = state {
                store.copy_block(from as usize, to as usize);
            }
        }
    }

    fn block(&self, block: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for state in &self.states {
            if let CpuState::Kv(store) = state {
                let (k, v) = store.block(block as usize);
                bytes.extend_from_slice(k);
                bytes.extend_from_slice(v);
            }
        }
        bytes
    }

    fn set_block(&mut self, block: u32, bytes: &[u8]) -> Result<()> {
        let sizes = self.states.iter().map(|state| match state {
            CpuState::Kv(store) => store.bytes_a_block().0 + store.bytes_a_block().1,
            CpuState::Recurrent { .. } => 0,
        });
        let expected: usize = sizes.sum();
        if bytes.len() != expected {
            return Err(Error::Mismatch(format!("a block of {} bytes, expected {expected}", bytes.len())));
        }
        let mut rest = bytes;
        for state in &mut self.states {
            if let CpuState::Kv(store) = state {
                let (k_bytes, v_bytes) = store.bytes_a_block();
                let (own, others) = rest.split_at(k_bytes + v_bytes);
                store.set_block(block as usize, own);
                rest = others;
            }
        }
        Ok(())
    }

    fn slot(&self, slot: usize) -> Vec<f32> {
        let of = |state: &CpuState| match state {
            CpuState::Recurrent { numbers, len } => numbers[slot * len..(slot + 1) * len].to_vec(),
            CpuState::Kv(_) => Vec::new(),
        };
        self.states.iter().flat_map(of).collect()
    }

    fn set_slot(&mut self, slot: usize, from: &[f32]) {
        let mut rest = from.iter();
        for state in &mut self.states {
            if let CpuState::Recurrent { numbers, len } = state {
                for number in &mut numbers[slot * *len..(slot + 1) * *len] {
                    *number = rest.next().copied().unwrap_or(0.0);
                }
            }
        }
    }

    fn set_adapter(&mut self, slot: usize, additions: Option<&[Addition]>) -> Result<()> {
        self.door.check_adapter(slot, additions)?;
        self.bank.set(slot, additions.map(|all| all.iter().map(|one| (one.site, low_rank(one))).collect()));
        Ok(())
    }

    fn set_weight(&mut self, param: Param, ty: TensorType, numbers: &[f32]) -> Result<()> {
        self.door.check_weight(param, numbers.len())?;
        let spec = &self.weights.specs[param.index()];
        let stored = Stored::from_f32(&self.cpu, spec, ty, numbers)
            .map_err(|message| Error::Weight { name: spec.name.clone(), message })?;
        self.weights.write()[param.index()] = stored;
        Ok(())
    }

    fn with_gradient(&mut self, param: Param, use_it: &mut dyn FnMut(&mut [f32])) {
        let gradient = &mut self.gradients[param.index()];
        if !gradient.is_empty() {
            use_it(numbers_of(gradient));
        }
    }

    fn clear_gradients(&mut self) {
        self.gradients.iter_mut().for_each(|gradient| numbers_of(gradient).fill(0.0));
    }

    fn weight(&self, param: Param) -> Vec<f32> {
        self.weights.read()[param.index()].to_f32()
    }
}

fn numbers_of(bytes: &mut AlignedBytes) -> &mut [f32] {
    cast::cast_mut(bytes).expect("aligned for numbers of 4 bytes")
}

/// An addition as the kernel reads it.
fn low_rank(addition: &Addition) -> LowRank {
    let Addition { shape: [n, k], rank, scale, .. } = *addition;
    fn matrix<'t>(tensor: &'t HostTensor) -> HostMatrix<'t> {
        HostMatrix { ty: tensor.ty, bytes: &tensor.bytes }
    }
    let extras = LowRankExtras { scale, gain: addition.gain.clone(), shift: addition.shift.clone() };
    LowRank::new([n, k, rank], matrix(&addition.a), matrix(&addition.b), extras)
}

/// Adds what a step took to the steps like it.
fn note(times: &mut Vec<StepTime>, plan: &Plan, step: &Step, time: Duration) {
    let nodes = step.nodes();
    let node = &plan.nodes[nodes[0]];
    let is_like_it =
        |t: &StepTime| t.name == node.op.name() && t.shape == node.ty.shape && t.n_parts == nodes.len();
    let entry = match times.iter().position(is_like_it) {
        Some(index) => &mut times[index],
        None => {
            let (name, shape, n_parts) = (node.op.name(), node.ty.shape, nodes.len());
            times.push(StepTime { name, shape, n_parts, n_calls: 0, time: Duration::ZERO });
            times.last_mut().expect("just pushed")
        }
    };
    entry.n_calls += 1;
    entry.time += time;
}

/// Ids that stand in the arena, as numbers.
fn to_numbers(ids: &[f32]) -> Vec<f32> {
    ids.iter().map(|id| id.to_bits() as f32).collect()
}

/// Shows a named value and takes back what is left of it.
fn tap(taps: &mut dyn Taps, plan: &Plan, batch: &Batch, arena: &mut [f32], index: usize) {
    let node = &plan.nodes[index];
    let Some(name) = &node.name else { return };
    let place = &mut arena[span(plan, batch, index)];
    match node.ty.dtype {
        DType::F32 => taps.tap(name, &node.ty.shape, place),
        DType::U32 => taps.tap(name, &node.ty.shape, &mut to_numbers(place)),
    }
}

/// What the steps of one run share.
struct Run<'a> {
    cpu: &'a Cpu,
    plan: &'a Plan,
    batch: &'a Batch,
    weights: &'a [Stored],
    bank: &'a Slots<LowRank>,
}

impl<'a> Run<'a> {
    fn span(&self, node: usize) -> Range<usize> {
        span(self.plan, self.batch, node)
    }

    /// The value of a node, where a step reads it.
    fn argument<'r>(&self, rest: &Rest<'r>, node: usize) -> Arg<'r>
    where
        'a: 'r,
    {
        match self.plan.place(node) {
            Place::Weight(param) => Arg::Weight(&self.weights[param.index()]),
            Place::Input(name) => match &self.batch.inputs[name] {
                Data::F32(numbers) => Arg::F32(numbers),
                Data::U32(ids) => Arg::U32(ids),
            },
            Place::Arena(_) | Place::Nowhere | Place::Gradient(_) => Arg::F32(rest.get(self.span(node))),
        }
    }

    fn one(&self, arena: &mut [f32], states: &mut [CpuState], gradients: &mut [AlignedBytes], index: usize) {
        let node = &self.plan.nodes[index];
        let gradient = node.adds_to.map(|param| numbers_of(&mut gradients[param.index()]));
        let (span, gradient_as_out) = match self.plan.place(index) {
            Place::Gradient(_) => (0..0, true),
            _ => (self.span(index), false),
        };
        let (rest, mut out) = Rest::cut(arena, &[span]);
        let (out, sum) = match (gradient, gradient_as_out) {
            (Some(gradient), true) => (gradient, None),
            (gradient, _) => (out.remove(0), gradient),
        };
        let inputs: Vec<Arg> = node.inputs.iter().map(|input| self.argument(&rest, input.index())).collect();
        let types: Vec<Type> = node.inputs.iter().map(|input| self.plan.nodes[input.index()].ty).collect();
        node.op.cpu(&mut CpuRun {
            isa: self.cpu.isa,
            pool: &self.cpu.pool,
            inputs: &inputs,
            types: &types,
            out_ty: node.ty,
            batch: self.batch,
            out,
            adds: gradient_as_out,
            states,
            bank: self.bank,
        });
        if let Some(sum) = sum {
            sum.iter_mut().zip(&*out).for_each(|(sum, term)| *sum += term);
        }
    }

    /// What all nodes read is looked up once; each writes to its place or adds to its weight's gradient.
    fn parts(
        &self,
        arena: &mut [f32],
        states: &mut [CpuState],
        gradients: &mut [AlignedBytes],
        nodes: &[usize],
    ) {
        let mut of_weights: Vec<Option<(usize, AlignedBytes)>> = Vec::with_capacity(nodes.len());
        for &index in nodes {
            of_weights.push(match self.plan.place(index) {
                Place::Gradient(param) => {
                    let empty = AlignedBytes::zeroed(0);
                    Some((param.index(), std::mem::replace(&mut gradients[param.index()], empty)))
                }
                _ => None,
            });
        }
        let span = |(&index, of_weight): (&usize, &Option<_>)| match of_weight {
            Some(_) => 0..0,
            None => self.span(index),
        };
        let spans: Vec<Range<usize>> = nodes.iter().zip(&of_weights).map(span).collect();
        let (rest, arena_outs) = Rest::cut(arena, &spans);
        let mut outs = Outs::default();
        for ((&index, of_weight), out) in nodes.iter().zip(&mut of_weights).zip(arena_outs) {
            let part = self.plan.nodes[index].op.part().expect("a plan groups parts");
            outs[part.index] = Some(match of_weight {
                Some((_, bytes)) => Out { numbers: numbers_of(bytes), adds: true },
                None => Out { numbers: out, adds: false },
            });
        }
        let node = &self.plan.nodes[nodes[0]];
        let inputs: Vec<Arg> = node.inputs.iter().map(|input| self.argument(&rest, input.index())).collect();
        let types: Vec<Type> = node.inputs.iter().map(|input| self.plan.nodes[input.index()].ty).collect();
        let run = CpuRun {
            isa: self.cpu.isa,
            pool: &self.cpu.pool,
            inputs: &inputs,
            types: &types,
            out_ty: node.ty,
            batch: self.batch,
            out: &mut [],
            adds: false,
            states,
            bank: self.bank,
        };
        node.op.cpu_parts(&run, outs);
        for (param, gradient) in of_weights.into_iter().flatten() {
            gradients[param] = gradient;
        }
    }

    fn linears(&self, arena: &mut [f32], nodes: &[usize]) {
        let spans: Vec<Range<usize>> = nodes.iter().map(|&index| self.span(index)).collect();
        let (rest, outs) = Rest::cut(arena, &spans);
        let mut parts: Vec<LinearPart> = Vec::with_capacity(nodes.len());
        for (&index, out) in nodes.iter().zip(outs) {
            let inputs = &self.plan.nodes[index].inputs;
            let Arg::Weight(Stored::Matrix(weight)) = self.argument(&rest, inputs[1].index()) else {
                panic!("checked when the node was added: a matrix");
            };
            let bias = inputs.get(2).map(|bias| match self.argument(&rest, bias.index()) {
                Arg::Weight(Stored::Vector(numbers)) => &numbers[..],
                _ => panic!("a plan groups layers whose biases are weights"),
            });
            parts.push(LinearPart { weight, bias, out });
        }
        let Arg::F32(x) = self.argument(&rest, self.plan.nodes[nodes[0]].inputs[0].index()) else {
            panic!("checked when the node was added: numbers");
        };
        let m = x.len() / parts[0].weight.k();
        wootz_kernels::linear(self.cpu.isa, &self.cpu.pool, x, m, &mut parts);
    }
}
