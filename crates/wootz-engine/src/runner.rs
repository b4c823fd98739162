//! Running a model over a ragged batch of new tokens, with the states of their sequences.
//!
//! Where:  the engine calls it once a step; it knows nothing of requests or sampling.
//! Idea:   prefill chunks and decode steps are the same: each sequence brings some new tokens and says of which it
//!         wants logits. Plans are made once per power of two of rows, and states grow by blocks.

use std::collections::HashMap;
use std::sync::Arc;

use wootz_graph::{
    Batch, Device, Executor, Graph, Plan, PlanOptions, Rows, Sequence, StateCapacity, StateKind, StateSpec,
    Taps, Weights,
};
use wootz_kernels::TensorType;
use wootz_model::Network;

use crate::block_pool::BlockPool;
use crate::{Error, Result};

/// Positions a block.
pub const BLOCK_LEN: usize = 64;

/// How much a runner may hold.
#[derive(Clone, Copy, Debug)]
pub struct RunnerOptions {
    /// Positions of all sequences together, rounded up to blocks.
    pub n_positions: usize,
    /// Sequences with recurrences at the same time.
    pub n_slots: usize,
    /// What keys and values are stored as.
    pub kv_type: TensorType,
}

/// Runs one model.
pub struct Runner {
    network: Arc<Network>,
    executor: Box<dyn Executor>,
    plans: HashMap<Rows, Plan>,
    blocks: BlockPool,
    free_slots: Vec<usize>,
    is_recurrent: bool,
    states: Vec<StateSpec>,
    capacity: StateCapacity,
}

/// What a sequence has in the states.
#[derive(Debug)]
pub struct Track {
    blocks: Vec<u32>,
    slot: usize,
    /// Positions that the states hold.
    len: usize,
    /// Positions that it is expected to reach.
    planned_len: usize,
}

impl Track {
    /// Positions that the states hold.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was run yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// New tokens of one sequence.
pub struct Work<'a> {
    /// Its states, which grow by the tokens.
    pub track: &'a mut Track,
    /// The new tokens.
    pub token_ids: &'a [u32],
    /// Whose logits are wanted: none, the last one's, or all.
    pub outputs: Outputs,
}

/// Whose logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Nobody's: the middle of a prompt.
    None,
    /// The last token's.
    Last,
    /// Those of so many tokens at the end.
    Tail(usize),
    /// Every token's.
    All,
}

/// What came out, row by row in the order of the work.
#[derive(Debug, Default)]
pub struct Forward {
    /// (O, V).
    pub logits: Vec<f32>,
    /// (O, C): the rows that the logits were made from.
    pub hidden: Vec<f32>,
}

impl Runner {
    /// A runner over loaded weights.
    pub fn new(
        network: Arc<Network>,
        device: &dyn Device,
        weights: &Weights,
        options: RunnerOptions,
    ) -> Result<Self> {
        let states = states_of(&network)?;
        let capacity = StateCapacity {
            n_blocks: options.n_positions.div_ceil(BLOCK_LEN),
            block_len: BLOCK_LEN,
            n_slots: options.n_slots,
            kv_type: options.kv_type,
        };
        Ok(Self {
            executor: device.executor(weights, &states, capacity)?,
            network,
            plans: HashMap::new(),
            blocks: BlockPool::new(capacity.n_blocks),
            free_slots: (0..options.n_slots).rev().collect(),
            is_recurrent: states.iter().any(|state| matches!(state.kind, StateKind::Recurrent { .. })),
            states,
            capacity,
        })
    }

    /// The model.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Bytes set aside for states.
    pub fn state_bytes(&self) -> usize {
        self.capacity.bytes(&self.states)
    }

    /// All blocks, and those of them that are free.
    pub fn n_blocks(&self) -> (usize, usize) {
        (self.capacity.n_blocks, self.blocks.n_free())
    }

    /// Forgets all sequences, whose tracks must not be used any more.
    pub(crate) fn forget_all(&mut self) {
        self.blocks = BlockPool::new(self.capacity.n_blocks);
        self.free_slots = (0..self.capacity.n_slots).rev().collect();
    }

    /// Positions that are still free.
    pub fn n_free_positions(&self) -> usize {
        self.blocks.n_free() * BLOCK_LEN
    }

    /// A new, empty sequence that is expected to reach `planned_len` positions.
    pub fn start(&mut self, planned_len: usize) -> Result<Track> {
        let slot = if self.is_recurrent { self.free_slots.pop().ok_or(Error::NoSlot)? } else { 0 };
        if self.is_recurrent {
            self.executor.set_slot(slot, &[]);
        }
        Ok(Track { blocks: Vec::new(), slot, len: 0, planned_len })
    }

    /// A second sequence with the same past. Full blocks are shared, the last one is copied.
    pub fn fork(&mut self, track: &Track) -> Result<Track> {
        let mut fork = self.start(track.planned_len)?;
        for (i, &block) in track.blocks.iter().enumerate() {
            if (i + 1) * BLOCK_LEN <= track.len {
                self.blocks.share(block);
                fork.blocks.push(block);
            } else {
                let copy = self.blocks.take().ok_or(Error::NoBlock)?;
                fork.blocks.push(copy);
                self.executor.copy_block(block, copy);
            }
        }
        if self.is_recurrent {
            let numbers = self.executor.slot(track.slot);
            self.executor.set_slot(fork.slot, &numbers);
        }
        fork.len = track.len;
        Ok(fork)
    }

    /// Gives a sequence's blocks and slot back.
    pub fn finish(&mut self, track: Track) {
        track.blocks.iter().for_each(|&block| self.blocks.give_back(block));
        if self.is_recurrent {
            self.free_slots.push(track.slot);
        }
    }

    /// Runs the new tokens of all sequences at once.
    ///
    /// # Errors
    /// [`Error::NoBlock`] if the states are full; nothing was run then, and the tracks have not grown.
    pub fn forward(&mut self, work: &mut [Work], taps: Option<&mut dyn Taps>) -> Result<Forward> {
        self.reserve(work)?;
        let batch = assemble(work);
        let rows = Rows { sequences: 0, keys: 0, ..batch.rows() }.rounded_up();
        let capacity = Rows { sequences: rows.tokens, keys: rows.tokens, ..rows };
        if !self.plans.contains_key(&capacity) {
            self.plans.insert(capacity, plan(&self.network, capacity)?);
        }
        let plan = &self.plans[&capacity];
        self.executor.run(plan, &batch, taps)?;
        for item in work.iter_mut() {
            item.track.len += item.token_ids.len();
        }
        if batch.rows().outputs == 0 {
            return Ok(Forward::default());
        }
        let read = |index| self.executor.output(plan, &batch, index);
        Ok(Forward { logits: read(0), hidden: read(1) })
    }

    /// Makes room for the new tokens.
    fn reserve(&mut self, work: &mut [Work]) -> Result<()> {
        let missing = |item: &Work| {
            (item.track.len + item.token_ids.len())
                .div_ceil(BLOCK_LEN)
                .saturating_sub(item.track.blocks.len())
        };
        if work.iter().map(missing).sum::<usize>() > self.blocks.n_free() {
            return Err(Error::NoBlock);
        }
        for item in work {
            for _ in 0..missing(item) {
                let block = self.blocks.take().expect("counted before");
                item.track.blocks.push(block);
            }
        }
        Ok(())
    }
}

/// The states that a model's graph declares.
pub fn states_of(network: &Network) -> Result<Vec<StateSpec>> {
    let mut g = Graph::new(&network.params);
    network.hidden(&mut g, true)?;
    Ok(g.states().to_vec())
}

/// Logits and last rows of the wanted tokens.
fn plan(network: &Network, capacity: Rows) -> Result<Plan> {
    let mut g = Graph::new(&network.params);
    let x = network.hidden(&mut g, true)?;
    let x = g.select_outputs(x)?;
    let logits = network.logits(&mut g, x)?;
    Ok(Plan::new(&g, &[logits, x], &PlanOptions { capacity })?)
}

fn assemble(work: &[Work]) -> Batch {
    let mut batch = Batch::new();
    let (mut token_ids, mut outputs) = (Vec::new(), Vec::new());
    for item in work {
        let rows = token_ids.len()..token_ids.len() + item.token_ids.len();
        token_ids.extend_from_slice(item.token_ids);
        match item.outputs {
            Outputs::None => {}
            Outputs::Last => outputs.extend(rows.clone().last().map(|row| row as u32)),
            Outputs::Tail(n) => outputs.extend((rows.end - n..rows.end).map(|row| row as u32)),
            Outputs::All => outputs.extend(rows.clone().map(|row| row as u32)),
        }
        batch.push(Sequence {
            key_rows: rows.clone(),
            rows,
            first_position: item.track.len,
            block_table: item.track.blocks.clone(),
            slot: item.track.slot,
            planned_len: item.track.planned_len,
        });
    }
    batch.set_tokens(token_ids);
    batch.set_outputs(outputs);
    batch
}
