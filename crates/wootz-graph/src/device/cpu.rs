//! The CPU device: plans run by SIMD kernels in one arena, on one pool of threads.
//!
//! Where:  the default device of everything.
//! Idea:   the arena is cut into what a step writes and what lies between, so that reading and writing are
//!         disjoint slices without a copy and without `unsafe`.
//! Elsewhere: each operator calls its kernel in its own file; the kernels are in `wootz-kernels`.

use std::ops::Range;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use wootz_kernels::{
    AlignedBytes, Isa, KvStore, LinearPart, PackedMatrix, Pool, Precision, TensorType, Values, cast,
};

use crate::batch::{Batch, Data, Sequence};
use crate::cost::n_elements;
use crate::device::{Device, Executor, HostTensor, Source, Taps, Weights, check_run, check_tensor};
use crate::param::{Param, ParamKind, ParamSpec, Params};
use crate::plan::{Place, Plan, Step};
use crate::shape::Type;
use crate::state::{State, StateCapacity, StateKind, StateSpec};
use crate::{Error, Result};

/// The CPU device. Cloning shares the threads.
#[derive(Clone)]
pub struct Cpu {
    isa: Isa,
    pool: Arc<Pool>,
    precision: Precision,
}

impl Cpu {
    /// A device on `n_threads` threads with the best instruction set that this machine has.
    pub fn new(n_threads: usize) -> Self {
        Self::with(Isa::detect(), n_threads, Precision::Fast)
    }

    /// A device with a given instruction set, and with products that may or may not round activations.
    pub fn with(isa: Isa, n_threads: usize, precision: Precision) -> Self {
        Self { isa, pool: Arc::new(Pool::new(n_threads)), precision }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads in use.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    fn store(&self, spec: &ParamSpec, tensor: &HostTensor) -> Stored {
        let pack = |n: usize, k: usize, bytes: &[u8]| {
            PackedMatrix::pack(self.isa, &self.pool, tensor.ty, n, k, bytes, self.precision)
        };
        match (spec.kind, &spec.shape[..]) {
            (ParamKind::Matrix, &[n, k]) => Stored::Matrix(pack(n, k, &tensor.bytes)),
            (ParamKind::Stack, &[e, n, k]) => {
                let each = tensor.bytes.len() / e.max(1);
                Stored::Stack(tensor.bytes.chunks_exact(each.max(1)).map(|bytes| pack(n, k, bytes)).collect())
            }
            (ParamKind::Table, &[_, width]) => {
                Stored::Table { ty: tensor.ty, width, bytes: tensor.bytes.to_vec() }
            }
            _ => {
                let mut numbers = vec![0.0; spec.n_elements()];
                wootz_kernels::dequantize(tensor.ty, &tensor.bytes, &mut numbers);
                Stored::Vector(numbers)
            }
        }
    }
}

impl Device for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn load(&self, params: &Params, source: &Source) -> Result<Weights> {
        let load = |spec: &ParamSpec| {
            let tensor = source(spec)?;
            check_tensor(spec, &tensor)?;
            Ok(self.store(spec, &tensor))
        };
        let stored: Vec<Stored> = params.specs().iter().map(load).collect::<Result<_>>()?;
        Ok(Weights(Arc::new(RwLock::new(stored))))
    }

    fn executor(
        &self,
        weights: &Weights,
        states: &[StateSpec],
        capacity: StateCapacity,
    ) -> Result<Box<dyn Executor>> {
        let weights = weights.0.clone().downcast::<RwLock<Vec<Stored>>>();
        let weights = weights.map_err(|_| Error::Mismatch("weights of another device".to_owned()))?;
        let states = states.iter().map(|spec| CpuState::new(spec, &capacity)).collect();
        Ok(Box::new(CpuExecutor { device: self.clone(), weights, states, arena: AlignedBytes::zeroed(0) }))
    }
}

/// A weight as this device keeps it.
#[derive(Debug)]
pub(crate) enum Stored {
    Vector(Vec<f32>),
    Matrix(PackedMatrix),
    Stack(Vec<PackedMatrix>),
    Table { ty: TensorType, width: usize, bytes: Vec<u8> },
}

impl Stored {
    /// Row `i` of a matrix or a table. Panics if there is no such row.
    pub(crate) fn row(&self, i: usize, out: &mut [f32]) {
        match self {
            Stored::Matrix(matrix) => matrix.row(i, out),
            Stored::Table { ty, width, bytes } => {
                let len = ty.row_bytes(*width).expect("checked when it was loaded");
                wootz_kernels::dequantize(*ty, &bytes[i * len..][..len], out);
            }
            Stored::Vector(numbers) => out.copy_from_slice(&numbers[i * out.len()..][..out.len()]),
            Stored::Stack(_) => panic!("a stack of matrices has no rows"),
        }
    }

    fn to_f32(&self) -> Vec<f32> {
        match self {
            Stored::Vector(numbers) => numbers.clone(),
            Stored::Matrix(matrix) => matrix.to_f32(),
            Stored::Stack(matrices) => matrices.iter().flat_map(PackedMatrix::to_f32).collect(),
            Stored::Table { ty, bytes, .. } => {
                let mut numbers = vec![0.0; bytes.len() / ty.block_bytes() * ty.block_len()];
                wootz_kernels::dequantize(*ty, bytes, &mut numbers);
                numbers
            }
        }
    }
}

/// One state's storage.
enum CpuState {
    Kv(KvStore),
    Recurrent { numbers: Vec<f32>, len: usize },
}

impl CpuState {
    fn new(spec: &StateSpec, capacity: &StateCapacity) -> Self {
        match spec.kind {
            StateKind::Kv { n_kv_heads, d_k, d_v, v_in_k, .. } => CpuState::Kv(KvStore::new(
                capacity.kv_type,
                capacity.n_blocks,
                capacity.block_len,
                n_kv_heads,
                (d_k, d_v),
                if v_in_k { Values::FirstOfKeys } else { Values::Stored },
            )),
            StateKind::Recurrent { len } => {
                CpuState::Recurrent { numbers: vec![0.0; capacity.n_slots * len], len }
            }
        }
    }
}

struct CpuExecutor {
    device: Cpu,
    weights: Arc<RwLock<Vec<Stored>>>,
    states: Vec<CpuState>,
    arena: AlignedBytes,
}

impl Executor for CpuExecutor {
    fn run(&mut self, plan: &Plan, batch: &Batch, mut taps: Option<&mut dyn Taps>) -> Result<()> {
        check_run(plan, batch)?;
        if self.arena.len() < plan.arena_bytes() {
            self.arena = AlignedBytes::zeroed(plan.arena_bytes());
        }
        check_inputs(plan, batch)?;
        let weights: RwLockReadGuard<Vec<Stored>> = self.weights.read().expect("no run panicked");
        let arena = cast::cast_mut(&mut self.arena).expect("aligned for numbers of 4 bytes");
        for step in &plan.steps {
            match step {
                Step::One { node } => {
                    run_one(&self.device, plan, batch, &weights, arena, &mut self.states, *node);
                }
                Step::Linears { nodes } => run_linears(&self.device, plan, batch, &weights, arena, nodes),
            }
            if let Some(taps) = taps.as_deref_mut() {
                for &index in step.nodes() {
                    let node = &plan.nodes[index];
                    if let Some(name) = &node.name {
                        taps.tap(name, &node.ty.shape, &mut arena[span(plan, batch, index)]);
                    }
                }
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
        let arena: &[f32] = cast::cast(&self.arena).expect("aligned for numbers of 4 bytes");
        match plan.place(plan.outputs[index]) {
            Place::Arena(_) => read(&arena[span(plan, batch, plan.outputs[index])]),
            Place::Weight(param) => read(&self.weight(param)),
            Place::Input(_) | Place::Nowhere => panic!("an output is computed"),
        }
    }

    fn copy_block(&mut self, from: u32, to: u32) {
        for state in &mut self.states {
            if let CpuState::Kv(store) = state {
                store.copy_block(from as usize, to as usize);
            }
        }
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

    fn set_weight(&mut self, param: Param, numbers: &[f32]) -> Result<()> {
        let mut weights = self.weights.write().expect("no run panicked");
        let stored = &mut weights[param.index()];
        let pack = |n: usize, k: usize, numbers: &[f32]| {
            let (isa, pool) = (self.device.isa, &self.device.pool);
            let bytes = cast::bytes_of(numbers);
            PackedMatrix::pack(isa, pool, TensorType::F32, n, k, bytes, self.device.precision)
        };
        match stored {
            Stored::Vector(old) => old.copy_from_slice(numbers),
            Stored::Matrix(old) => *old = pack(old.n(), old.k(), numbers),
            Stored::Stack(old) => {
                let each = numbers.len() / old.len().max(1);
                for (old, numbers) in old.iter_mut().zip(numbers.chunks_exact(each.max(1))) {
                    *old = pack(old.n(), old.k(), numbers);
                }
            }
            Stored::Table { ty, bytes, .. } => {
                *ty = TensorType::F32;
                *bytes = cast::bytes_of(numbers).to_vec();
            }
        }
        Ok(())
    }

    fn weight(&self, param: Param) -> Vec<f32> {
        self.weights.read().expect("no run panicked")[param.index()].to_f32()
    }
}

fn check_inputs(plan: &Plan, batch: &Batch) -> Result<()> {
    for (node, place) in plan.nodes.iter().zip(&plan.places) {
        if let Place::Input(name) = *place {
            batch.input(name, n_elements(&node.ty, batch))?;
        }
    }
    Ok(())
}

/// Where in the arena a node's value lies in this batch.
fn span(plan: &Plan, batch: &Batch, index: usize) -> Range<usize> {
    let Place::Arena(offset) = plan.place(index) else {
        panic!("`{}` has no place", plan.nodes[index].op_name())
    };
    offset..offset + n_elements(&plan.nodes[index].ty, batch)
}

/// The arena with the outputs of a step cut out: what is left can only be read.
struct Rest<'a> {
    gaps: Vec<(usize, &'a [f32])>,
}

impl<'a> Rest<'a> {
    /// Cuts `spans` (disjoint) out of the arena and returns them in the order given.
    fn cut(mut arena: &'a mut [f32], spans: &[Range<usize>]) -> (Self, Vec<&'a mut [f32]>) {
        let mut order: Vec<usize> = (0..spans.len()).collect();
        order.sort_by_key(|&i| (spans[i].start, spans[i].end));
        let mut cut: Vec<Option<&mut [f32]>> = spans.iter().map(|_| None).collect();
        let (mut gaps, mut at) = (Vec::new(), 0);
        for i in order {
            let (gap, rest) = arena.split_at_mut(spans[i].start - at);
            let (out, rest) = rest.split_at_mut(spans[i].len());
            gaps.push((at, &*gap));
            cut[i] = Some(out);
            arena = rest;
            at = spans[i].end;
        }
        gaps.push((at, &*arena));
        (Self { gaps }, cut.into_iter().map(|out| out.expect("every span was cut")).collect())
    }

    fn get(&self, span: Range<usize>) -> &'a [f32] {
        if span.is_empty() {
            return &[];
        }
        let (start, gap) = self.gaps[self.gaps.partition_point(|gap| gap.0 <= span.start) - 1];
        &gap[span.start - start..span.end - start]
    }
}

/// An operator's input on this device.
#[derive(Clone, Copy)]
pub(crate) enum Arg<'a> {
    F32(&'a [f32]),
    U32(&'a [u32]),
    Weight(&'a Stored),
}

fn argument<'a>(
    plan: &Plan,
    batch: &'a Batch,
    weights: &'a [Stored],
    rest: &Rest<'a>,
    index: usize,
) -> Arg<'a> {
    match plan.place(index) {
        Place::Weight(param) => Arg::Weight(&weights[param.index()]),
        Place::Input(name) => match &batch.inputs[name] {
            Data::F32(numbers) => Arg::F32(numbers),
            Data::U32(ids) => Arg::U32(ids),
        },
        _ => Arg::F32(rest.get(span(plan, batch, index))),
    }
}

fn run_one(
    device: &Cpu,
    plan: &Plan,
    batch: &Batch,
    weights: &[Stored],
    arena: &mut [f32],
    states: &mut [CpuState],
    index: usize,
) {
    let node = &plan.nodes[index];
    let (rest, mut out) = Rest::cut(arena, &[span(plan, batch, index)]);
    let inputs: Vec<Arg> =
        node.inputs.iter().map(|input| argument(plan, batch, weights, &rest, input.index())).collect();
    let types: Vec<Type> = node.inputs.iter().map(|input| plan.nodes[input.index()].ty).collect();
    node.op.cpu(&mut CpuRun {
        isa: device.isa,
        pool: &device.pool,
        inputs: &inputs,
        types: &types,
        out_ty: node.ty,
        batch,
        out: out.remove(0),
        states,
    });
}

fn run_linears(
    device: &Cpu,
    plan: &Plan,
    batch: &Batch,
    weights: &[Stored],
    arena: &mut [f32],
    nodes: &[usize],
) {
    let spans: Vec<Range<usize>> = nodes.iter().map(|&index| span(plan, batch, index)).collect();
    let (rest, outs) = Rest::cut(arena, &spans);
    let arg = |index: usize| argument(plan, batch, weights, &rest, index);
    let mut parts: Vec<LinearPart> = Vec::with_capacity(nodes.len());
    for (&index, out) in nodes.iter().zip(outs) {
        let inputs = &plan.nodes[index].inputs;
        let Arg::Weight(Stored::Matrix(weight)) = arg(inputs[1].index()) else {
            panic!("a linear layer's weight is a matrix");
        };
        let bias = inputs.get(2).map(|bias| match arg(bias.index()) {
            Arg::Weight(Stored::Vector(numbers)) => &numbers[..],
            _ => panic!("a linear layer's bias is a vector"),
        });
        parts.push(LinearPart { weight, bias, out });
    }
    let Arg::F32(x) = arg(plan.nodes[nodes[0]].inputs[0].index()) else {
        panic!("a linear layer reads numbers")
    };
    let m = x.len() / parts[0].weight.k();
    wootz_kernels::linear(device.isa, &device.pool, x, m, &mut parts);
}

/// One operator's call on this device.
pub(crate) struct CpuRun<'a> {
    pub isa: Isa,
    pub pool: &'a Pool,
    inputs: &'a [Arg<'a>],
    pub types: &'a [Type],
    pub out_ty: Type,
    pub batch: &'a Batch,
    pub out: &'a mut [f32],
    states: &'a mut [CpuState],
}

impl<'a> CpuRun<'a> {
    pub(crate) fn n_inputs(&self) -> usize {
        self.inputs.len()
    }

    /// The last dimension of an input.
    pub(crate) fn width(&self, index: usize) -> usize {
        self.types[index].shape.width()
    }

    /// An input of numbers: a value, or a weight that is kept as a vector.
    pub(crate) fn f32(&self, index: usize) -> &'a [f32] {
        match self.inputs[index] {
            Arg::F32(numbers) => numbers,
            Arg::Weight(Stored::Vector(numbers)) => numbers,
            _ => panic!("input {index} is not a vector of numbers"),
        }
    }

    /// An input of ids.
    pub(crate) fn u32(&self, index: usize) -> &'a [u32] {
        match self.inputs[index] {
            Arg::U32(ids) => ids,
            Arg::F32(numbers) => cast::cast(cast::bytes_of(numbers)).expect("both have 4 bytes"),
            _ => panic!("input {index} is not ids"),
        }
    }

    pub(crate) fn weight(&self, index: usize) -> &'a Stored {
        match self.inputs[index] {
            Arg::Weight(stored) => stored,
            _ => panic!("input {index} is not a weight"),
        }
    }

    pub(crate) fn matrix(&self, index: usize) -> &'a PackedMatrix {
        match self.weight(index) {
            Stored::Matrix(matrix) => matrix,
            _ => panic!("input {index} is not a matrix"),
        }
    }

    pub(crate) fn stack(&self, index: usize) -> Vec<&'a PackedMatrix> {
        match self.weight(index) {
            Stored::Stack(matrices) => matrices.iter().collect(),
            _ => panic!("input {index} is not a stack of matrices"),
        }
    }

    /// The output as ids.
    pub(crate) fn out_u32(&mut self) -> &mut [u32] {
        cast::cast_mut(cast::bytes_of_mut(self.out)).expect("both have 4 bytes")
    }

    pub(crate) fn kv_state(&mut self, state: State) -> &mut KvStore {
        match &mut self.states[state.0 as usize] {
            CpuState::Kv(store) => store,
            CpuState::Recurrent { .. } => panic!("expected a state of keys and values"),
        }
    }

    pub(crate) fn kv_state_and_out(&mut self, state: State) -> (&KvStore, &mut [f32]) {
        match &self.states[state.0 as usize] {
            CpuState::Kv(store) => (store, self.out),
            CpuState::Recurrent { .. } => panic!("expected a state of keys and values"),
        }
    }

    /// A sequence's recurrence: `len` numbers, zero without a state.
    pub(crate) fn slot(&self, state: Option<State>, seq: &Sequence, len: usize) -> Vec<f32> {
        match state.map(|state| &self.states[state.0 as usize]) {
            Some(CpuState::Recurrent { numbers, .. }) => numbers[seq.slot * len..][..len].to_vec(),
            _ => vec![0.0; len],
        }
    }

    pub(crate) fn set_slot(&mut self, state: Option<State>, seq: &Sequence, now: &[f32]) {
        if let Some(CpuState::Recurrent { numbers, len }) =
            state.map(|state| &mut self.states[state.0 as usize])
        {
            numbers[seq.slot * *len..][..*len].copy_from_slice(now);
        }
    }
}
