//! One operator's call on the CPU: its inputs as slices, its output, the states.

use wootz_kernels::{Isa, KvStore, LowRank, PackedMatrix, Pool, ScanSeq, cast};

use crate::bank::Slots;
use crate::batch::Batch;
use crate::device::cpu::state::CpuState;
use crate::device::cpu::stored::Stored;
use crate::shape::Type;
use crate::state::State;

/// An operator's input on this device.
#[derive(Clone, Copy)]
pub(crate) enum Arg<'a> {
    F32(&'a [f32]),
    U32(&'a [u32]),
    Weight(&'a Stored),
}

/// Where one part of a computation goes.
pub(crate) struct Out<'a> {
    pub numbers: &'a mut [f32],
    /// Whether to add to what is there: a weight's gradient.
    pub adds: bool,
}

impl<'a> Out<'a> {
    /// Calls `write` with room for the part, and adds what it wrote where that is asked for.
    pub(crate) fn write(self, write: impl FnOnce(&mut [f32])) {
        if !self.adds {
            return write(self.numbers);
        }
        let mut term = vec![0.0; self.numbers.len()];
        write(&mut term);
        self.numbers.iter_mut().zip(term).for_each(|(sum, term)| *sum += term);
    }
}

/// Where the parts of a computation go, by number; none where nobody asks for one.
pub(crate) type Outs<'a> = [Option<Out<'a>>; 6];

/// One operator's call on this device.
pub(crate) struct CpuRun<'a> {
    pub isa: Isa,
    pub pool: &'a Pool,
    pub(super) inputs: &'a [Arg<'a>],
    pub types: &'a [Type],
    pub out_ty: Type,
    pub batch: &'a Batch,
    pub out: &'a mut [f32],
    /// Whether to add to what `out` holds: a weight's gradient.
    pub adds: bool,
    pub(super) states: &'a mut [CpuState],
    pub bank: &'a Slots<LowRank>,
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

    /// The sequences that have rows, each with a slot of its own, as gradients of recurrences take them.
    pub(crate) fn scan_seqs(&self) -> Vec<ScanSeq> {
        let sequences = self.batch.sequences.iter().filter(|seq| !seq.rows.is_empty());
        sequences.enumerate().map(|(slot, seq)| ScanSeq { rows: seq.rows.clone(), slot }).collect()
    }

    /// Calls a recurrence's kernel with the sequences that have rows, their states of `len` numbers, and the
    /// output. Without a state every sequence begins with zeros.
    pub(crate) fn scan(
        &mut self,
        state: Option<State>,
        len: usize,
        kernel: impl FnOnce(&[ScanSeq], &mut [f32], &mut [f32]),
    ) {
        let sequences = self.batch.sequences.iter().filter(|seq| !seq.rows.is_empty());
        match state.map(|state| &mut self.states[state.0 as usize]) {
            Some(CpuState::Recurrent { numbers, .. }) => {
                let seqs: Vec<ScanSeq> =
                    sequences.map(|seq| ScanSeq { rows: seq.rows.clone(), slot: seq.slot }).collect();
                kernel(&seqs, numbers, self.out);
            }
            Some(CpuState::Kv(_)) => panic!("checked when the node was added: a recurrence"),
            None => {
                let seqs = self.scan_seqs();
                kernel(&seqs, &mut vec![0.0; seqs.len() * len], self.out);
            }
        }
    }
}
