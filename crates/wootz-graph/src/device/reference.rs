//! The reference device: every operator by its plain f64 definition, one buffer a value, one thread.
//!
//! Where:  tests hold the other devices against it; gradients are checked on it by finite differences.
//! Idea:   nothing here is clever. Ids are f64 as well, and states are flat arrays of positions.

use std::sync::Arc;

use wootz_kernels::TensorType;

use crate::bank::{Addition, Site, Slots};
use crate::batch::{Batch, Data, Sequence};
use crate::cost::n_elements;
use crate::device::door::Door;
use crate::device::{Device, Executor, HostTensor, Loaded, Source, Taps, Weights};
use crate::param::{Param, ParamSpec, Params};
use crate::plan::{Place, Plan};
use crate::shape::{DType, Type};
use crate::state::{State, StateCapacity, StateKind, StateSpec};
use crate::{Error, Result};

/// The f64 device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl Device for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn load(&self, params: &Params, source: &Source) -> Result<Weights> {
        Loaded::load(params, source, |spec: &ParamSpec, tensor: &HostTensor| {
            let mut numbers = vec![0.0; spec.n_elements()];
            wootz_kernels::dequantize(tensor.ty, &tensor.bytes, &mut numbers);
            numbers.into_iter().map(f64::from).collect::<Vec<f64>>()
        })
    }

    fn executor(
        &self,
        weights: &Weights,
        states: &[StateSpec],
        capacity: StateCapacity,
    ) -> Result<Box<dyn Executor>> {
        Ok(Box::new(ReferenceExecutor::new(weights, states, capacity)?))
    }
}

/// Runs plans in f64 and keeps every value.
pub(crate) struct ReferenceExecutor {
    weights: Arc<Loaded<Vec<f64>>>,
    states: Vec<RefState>,
    door: Door,
    bank: RefBank,
    /// By weight; empty where no plan adds to it.
    gradients: Vec<Vec<f64>>,
    /// By node; a value seen through another shape is its root's.
    values: Vec<Vec<f64>>,
}

/// One state in f64.
pub(crate) enum RefState {
    /// Keys and values by slot: block · `block_len` + offset.
    Kv { keys: Vec<f64>, values: Vec<f64>, n_blocks: usize, block_len: usize, v_in_k: bool },
    /// Recurrences by slot.
    Recurrent { numbers: Vec<f64>, len: usize },
}

impl RefState {
    fn new(spec: &StateSpec, capacity: &StateCapacity) -> Self {
        match spec.kind {
            StateKind::Kv { n_kv_heads, d_k, d_v, v_in_k, .. } => {
                let positions = capacity.n_blocks * capacity.block_len;
                let d_v = if v_in_k { 0 } else { d_v };
                RefState::Kv {
                    keys: vec![0.0; positions * n_kv_heads * d_k],
                    values: vec![0.0; positions * n_kv_heads * d_v],
                    n_blocks: capacity.n_blocks,
                    block_len: capacity.block_len,
                    v_in_k,
                }
            }
            StateKind::Recurrent { len } => {
                RefState::Recurrent { numbers: vec![0.0; capacity.n_slots * len], len }
            }
        }
    }
}

/// The bank in f64.
pub(crate) type RefBank = Slots<RefAddition>;

/// One addition in f64.
pub(crate) struct RefAddition {
    pub k: usize,
    pub rank: usize,
    pub scale: f64,
    /// (rank, k).
    pub a: Vec<f64>,
    /// (n, rank).
    pub b: Vec<f64>,
    gain: Option<Vec<f64>>,
    pub shift: Option<Vec<f64>>,
}

impl RefAddition {
    fn of(addition: &Addition) -> (Site, Self) {
        let Addition { site, shape: [n, k], rank, .. } = *addition;
        let wide = |numbers: &[f32]| numbers.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let numbers = |tensor: &HostTensor, n: usize| {
            let mut numbers = vec![0.0; n];
            wootz_kernels::dequantize(tensor.ty, &tensor.bytes, &mut numbers);
            wide(&numbers)
        };
        let reference = Self {
            k,
            rank,
            scale: f64::from(addition.scale),
            a: numbers(&addition.a, rank * k),
            b: numbers(&addition.b, n * rank),
            gain: addition.gain.as_deref().map(wide),
            shift: addition.shift.as_deref().map(wide),
        };
        (site, reference)
    }

    pub(crate) fn gain(&self, i: usize) -> f64 {
        self.gain.as_ref().map_or(1.0, |gain| gain[i])
    }
}

impl ReferenceExecutor {
    pub(crate) fn new(weights: &Weights, states: &[StateSpec], capacity: StateCapacity) -> Result<Self> {
        let weights = Loaded::of(weights)?;
        let door = Door::new(&weights.specs, states, capacity)?;
        let states = states.iter().map(|spec| RefState::new(spec, &capacity)).collect();
        let gradients = vec![Vec::new(); weights.specs.len()];
        Ok(Self { weights, states, door, bank: RefBank::default(), gradients, values: Vec::new() })
    }

    /// A value of the plan that ran last, in f64.
    #[cfg(test)]
    pub(crate) fn output_f64(&self, plan: &Plan, index: usize) -> &[f64] {
        &self.values[plan.root(plan.outputs[index])]
    }

    /// Changes one number of a weight, as finite differences do.
    #[cfg(test)]
    pub(crate) fn nudge(&mut self, param: Param, at: usize, by: f64) {
        self.weights.write()[param.index()][at] += by;
    }

    fn step(&mut self, plan: &Plan, batch: &Batch, index: usize) {
        let node = &plan.nodes[index];
        let weights = self.weights.read();
        let types: Vec<Type> = node.inputs.iter().map(|input| plan.nodes[input.index()].ty).collect();
        let inputs: Vec<&[f64]> = node
            .inputs
            .iter()
            .map(|input| match plan.place(input.index()) {
                Place::Weight(param) => &weights[param.index()][..],
                _ => &self.values[plan.root(input.index())][..],
            })
            .collect();
        let mut out = vec![0.0; n_elements(&node.ty, batch)];
        node.op.reference(&mut RefRun {
            inputs: &inputs,
            types: &types,
            out_ty: node.ty,
            batch,
            out: &mut out,
            states: &mut self.states,
            bank: &self.bank,
        });
        if let Some(param) = node.adds_to {
            self.gradients[param.index()].iter_mut().zip(&out).for_each(|(sum, term)| *sum += term);
        }
        self.values[index] = out;
    }
}

impl Executor for ReferenceExecutor {
    fn run(&mut self, plan: &Plan, batch: &Batch, mut taps: Option<&mut dyn Taps>) -> Result<()> {
        self.door.check_run(plan, batch)?;
        self.values = vec![Vec::new(); plan.nodes.len()];
        plan.gradients.iter().for_each(|&(param, n)| self.gradients[param.index()].resize(n, 0.0));
        for (value, place) in self.values.iter_mut().zip(&plan.places) {
            if let Place::Input(name) = place {
                *value = match &batch.inputs[name] {
                    Data::F32(numbers) => numbers.iter().map(|&x| f64::from(x)).collect(),
                    Data::U32(ids) => ids.iter().map(|&id| f64::from(id)).collect(),
                };
            }
        }
        for (step, named) in plan.steps.iter().zip(&plan.named) {
            step.nodes().iter().for_each(|&node| self.step(plan, batch, node));
            if let Some(taps) = taps.as_deref_mut() {
                named.iter().for_each(|&node| tap(taps, plan, &mut self.values[plan.root(node)], node));
            }
        }
        Ok(())
    }

    fn output(&self, plan: &Plan, _batch: &Batch, index: usize) -> Vec<f32> {
        match plan.place(plan.outputs[index]) {
            Place::Weight(param) => self.weight(param),
            _ => self.values[plan.root(plan.outputs[index])].iter().map(|&x| x as f32).collect(),
        }
    }

    fn copy_block(&mut self, from: u32, to: u32) {
        for state in &mut self.states {
            if let RefState::Kv { keys, values, n_blocks, .. } = state {
                for numbers in [keys, values] {
                    let len = numbers.len() / *n_blocks;
                    numbers.copy_within(from as usize * len..(from as usize + 1) * len, to as usize * len);
                }
            }
        }
    }

    fn block(&self, block: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for state in &self.states {
            if let RefState::Kv { keys, values, n_blocks, .. } = state {
                for numbers in [keys, values] {
                    let len = numbers.len() / n_blocks;
                    let own = &numbers[block as usize * len..][..len];
                    bytes.extend(own.iter().flat_map(|number| number.to_le_bytes()));
                }
            }
        }
        bytes
    }

    fn set_block(&mut self, block: u32, bytes: &[u8]) -> Result<()> {
        let expected = self.block(block).len();
        if bytes.len() != expected {
            return Err(Error::Mismatch(format!("a block of {} bytes, expected {expected}", bytes.len())));
        }
        let (numbers, _) = bytes.as_chunks::<8>();
        let mut from = numbers.iter().map(|bytes| f64::from_le_bytes(*bytes));
        for state in &mut self.states {
            if let RefState::Kv { keys, values, n_blocks, .. } = state {
                for numbers in [keys, values] {
                    let len = numbers.len() / *n_blocks;
                    for number in &mut numbers[block as usize * len..][..len] {
                        *number = from.next().expect("counted above");
                    }
                }
            }
        }
        Ok(())
    }

    fn slot(&self, slot: usize) -> Vec<f32> {
        let of = |state: &RefState| match state {
            RefState::Recurrent { numbers, len } => {
                numbers[slot * len..(slot + 1) * len].iter().map(|&x| x as f32).collect()
            }
            RefState::Kv { .. } => Vec::new(),
        };
        self.states.iter().flat_map(of).collect()
    }

    fn set_slot(&mut self, slot: usize, from: &[f32]) {
        let mut rest = from.iter();
        for state in &mut self.states {
            if let RefState::Recurrent { numbers, len } = state {
                for number in &mut numbers[slot * *len..(slot + 1) * *len] {
                    *number = rest.next().map_or(0.0, |&x| f64::from(x));
                }
            }
        }
    }

    fn set_adapter(&mut self, slot: usize, additions: Option<&[Addition]>) -> Result<()> {
        self.door.check_adapter(slot, additions)?;
        self.bank.set(slot, additions.map(|all| all.iter().map(RefAddition::of).collect()));
        Ok(())
    }

    fn set_weight(&mut self, param: Param, _ty: TensorType, numbers: &[f32]) -> Result<()> {
        self.door.check_weight(param, numbers.len())?;
        self.weights.write()[param.index()] = numbers.iter().map(|&x| f64::from(x)).collect();
        Ok(())
    }

    fn with_gradient(&mut self, param: Param, use_it: &mut dyn FnMut(&mut [f32])) {
        let gradient = &mut self.gradients[param.index()];
        if gradient.is_empty() {
            return;
        }
        let mut shown: Vec<f32> = gradient.iter().map(|&x| x as f32).collect();
        use_it(&mut shown);
        for (gradient, shown) in gradient.iter_mut().zip(shown) {
            if shown.to_bits() != (*gradient as f32).to_bits() {
                *gradient = f64::from(shown);
            }
        }
    }

    fn clear_gradients(&mut self) {
        self.gradients.iter_mut().for_each(|gradient| gradient.fill(0.0));
    }

    fn weight(&self, param: Param) -> Vec<f32> {
        self.weights.read()[param.index()].iter().map(|&x| x as f32).collect()
    }
}

/// Shows a named value in f32 and takes back what was changed, so that looking alone changes nothing.
fn tap(taps: &mut dyn Taps, plan: &Plan, value: &mut [f64], index: usize) {
    let node = &plan.nodes[index];
    let Some(name) = &node.name else { return };
    let mut shown: Vec<f32> = value.iter().map(|&x| x as f32).collect();
    taps.tap(name, &node.ty.shape, &mut shown);
    if node.ty.dtype == DType::U32 {
        return;
    }
    for (value, shown) in value.iter_mut().zip(shown) {
        if shown.to_bits() != (*value as f32).to_bits() {
            *value = f64::from(shown);
        }
    }
}

/// One operator's call on this device.
pub(crate) struct RefRun<'a> {
    pub(crate) inputs: &'a [&'a [f64]],
    pub types: &'a [Type],
    pub out_ty: Type,
    pub batch: &'a Batch,
    pub out: &'a mut [f64],
    states: &'a mut [RefState],
    pub bank: &'a RefBank,
}

impl<'a> RefRun<'a> {
    pub(crate) fn n_inputs(&self) -> usize {
        self.inputs.len()
    }

    pub(crate) fn input(&self, index: usize) -> &'a [f64] {
        self.inputs[index]
    }

    /// The last dimension of an input.
    pub(crate) fn width(&self, index: usize) -> usize {
        self.types[index].shape.width()
    }

    pub(crate) fn state(&mut self, state: State) -> &mut RefState {
        &mut self.states[state.0 as usize]
    }

    /// A sequence's recurrence: `len` numbers, zero without a state.
    pub(crate) fn slot(&self, state: Option<State>, seq: &Sequence, len: usize) -> Vec<f64> {
        match state.map(|state| &self.states[state.0 as usize]) {
            Some(RefState::Recurrent { numbers, .. }) => numbers[seq.slot * len..][..len].to_vec(),
            _ => vec![0.0; len],
        }
    }

    pub(crate) fn set_slot(&mut self, state: Option<State>, seq: &Sequence, now: &[f64]) {
        if let Some(RefState::Recurrent { numbers, len }) =
            state.map(|state| &mut self.states[state.0 as usize])
        {
            numbers[seq.slot * *len..][..*len].copy_from_slice(now);
        }
    }
}
