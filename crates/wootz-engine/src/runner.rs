//! Running a model over a ragged batch of new tokens, with the states of their sequences.
//!
//! Where:  the engine calls it once a step; it knows nothing of requests or sampling.
//! Idea:   prefill chunks and decode steps are the same: each sequence brings some new tokens and says of which it
//!         wants logits. Plans are made once per power of two of rows, and states grow by blocks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use wootz_graph::{
    Addition, Bank, Batch, Device, Executor, Graph, Plan, PlanOptions, RopeScale, Rows, Sequence,
    StateCapacity, StateKind, StateSpec, StepTime, Taps, Weights,
};
use wootz_kernels::TensorType;
use wootz_model::config::{Mixer, Position};
use wootz_model::{Config, Network};
use wootz_text::TokenId;

use crate::adapters::{AdapterId, Adapters};
use crate::block_pool::BlockPool;
use crate::prefix::Prefix;
use crate::prefix_tree::{Place, PrefixTree, Space};
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
    /// By capacity, and whether they can adapt layers.
    plans: HashMap<(Rows, bool), Plan>,
    adapters: Adapters,
    blocks: BlockPool,
    prefixes: Option<PrefixTree>,
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
    adapter: Option<Adapted>,
    /// Blocks at the beginning that the tree of prefixes holds too, and where the next one belongs.
    n_published: usize,
    place: Place,
}

/// A sequence's adapter and its slot in the bank.
#[derive(Clone, Copy, Debug)]
struct Adapted {
    id: AdapterId,
    slot: usize,
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

    /// Blocks that it needs for `n_tokens` more.
    pub(crate) fn n_missing_blocks(&self, n_tokens: usize) -> usize {
        (self.len + n_tokens).div_ceil(BLOCK_LEN).saturating_sub(self.blocks.len())
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
            adapters: Adapters::default(),
            blocks: BlockPool::new(capacity.n_blocks),
            prefixes: None,
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

    /// Blocks of finished sequences are kept for others with the same beginning, until room is needed.
    ///
    /// Without effect on a model with recurrences: their state at a block's border is gone.
    pub fn keep_prefixes(mut self) -> Self {
        self.prefixes = (!self.is_recurrent).then(PrefixTree::default);
        self
    }

    /// Whether blocks are kept for others.
    pub fn keeps_prefixes(&self) -> bool {
        self.prefixes.is_some()
    }

    /// All blocks.
    pub fn n_blocks(&self) -> usize {
        self.capacity.n_blocks
    }

    /// Blocks that nobody holds.
    pub fn n_free_blocks(&self) -> usize {
        self.blocks.n_free()
    }

    /// Blocks that are only kept for later.
    pub fn n_idle_blocks(&self) -> usize {
        self.blocks.n_idle()
    }

    /// Forgets all sequences, whose tracks must not be used any more, and all that was kept.
    pub(crate) fn forget_all(&mut self) {
        self.blocks = BlockPool::new(self.capacity.n_blocks);
        self.prefixes = self.prefixes.as_ref().map(|_| PrefixTree::default());
        self.free_slots = (0..self.capacity.n_slots).rev().collect();
        self.adapters.forget_users();
    }

    /// Positions that new tokens can have.
    pub fn n_free_positions(&self) -> usize {
        (self.blocks.n_free() + self.blocks.n_idle()) * BLOCK_LEN
    }

    /// Loads an adapter into a slot of the bank. Those who run go on undisturbed.
    ///
    /// # Errors
    /// [`Error::NoAdapterSlot`], and what the device says of additions that do not fit.
    pub fn load_adapter(&mut self, additions: &[Addition]) -> Result<AdapterId> {
        let slot = self.adapters.free_slot()?;
        self.executor.set_adapter(slot, Some(additions))?;
        let (id, has_grown) = self.adapters.insert(slot, additions);
        if has_grown {
            self.plans.retain(|(_, is_adapted), _| !is_adapted);
        }
        Ok(id)
    }

    /// Frees an adapter's slot. What was computed with it is never found again.
    ///
    /// # Errors
    /// [`Error::AdapterInUse`] as long as a sequence has it, [`Error::NoAdapter`] if it is not loaded.
    pub fn unload_adapter(&mut self, id: AdapterId) -> Result<()> {
        let slot = self.adapters.remove(id)?;
        Ok(self.executor.set_adapter(slot, None)?)
    }

    /// Counts the users of an adapter, of which each says when it is done.
    pub(crate) fn use_adapter(&mut self, id: AdapterId) -> Result<()> {
        self.adapters.slot(id)?;
        self.adapters.count(id, true);
        Ok(())
    }

    /// What tells an adapter from others.
    pub(crate) fn fingerprint(&self, id: AdapterId) -> Result<u64> {
        self.adapters.fingerprint(id)
    }

    /// One user less.
    pub(crate) fn leave_adapter(&mut self, id: AdapterId) {
        self.adapters.count(id, false);
    }

    /// A new, empty sequence that is expected to reach `planned_len` positions.
    pub fn start(&mut self, planned_len: usize) -> Result<Track> {
        self.start_with(planned_len, None)
    }

    /// The same with an adapter, which is in use until the sequence is finished.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if it is not loaded.
    pub fn start_with(&mut self, planned_len: usize, adapter: Option<AdapterId>) -> Result<Track> {
        let adapted = adapter.map(|id| Ok::<_, Error>(Adapted { id, slot: self.adapters.slot(id)? }));
        let adapted = adapted.transpose()?;
        let slot = if self.is_recurrent { self.free_slots.pop().ok_or(Error::NoSlot)? } else { 0 };
        if self.is_recurrent {
            self.executor.set_slot(slot, &[]);
        }
        let alike = rotates_alike_up_to(&self.network.config);
        let planned = if planned_len <= alike { 0 } else { planned_len };
        let place = Place::Root(Space { planned_len: planned, adapter });
        if let Some(id) = adapter {
            self.adapters.count(id, true);
        }
        Ok(Track { blocks: Vec::new(), slot, len: 0, planned_len, adapter: adapted, n_published: 0, place })
    }

    /// A sequence that begins as `other` does for `n_positions`, with those full blocks of them that `other` has.
    pub(crate) fn start_like(&mut self, other: &Track, n_positions: usize) -> Result<Track> {
        let mut track = self.start_with(other.planned_len, other.adapter.map(|adapted| adapted.id))?;
        if !self.is_recurrent {
            let n_blocks = n_positions.min(other.len) / BLOCK_LEN;
            track.blocks.extend_from_slice(&other.blocks[..n_blocks]);
            track.blocks.iter().for_each(|&block| self.blocks.share(block));
            track.len = n_blocks * BLOCK_LEN;
        }
        Ok(track)
    }

    /// Lengthens a sequence that ends with a full block by blocks that others have published, up to `most` positions.
    /// The number of tokens that need not be run.
    pub(crate) fn adopt(&mut self, track: &mut Track, token_ids: &[TokenId], most: usize) -> usize {
        let Some(tree) = &mut self.prefixes else { return 0 };
        let before = track.len;
        if track.n_published * BLOCK_LEN != before || track.blocks.len() != track.n_published {
            return 0;
        }
        while track.len + BLOCK_LEN <= most {
            let tokens = &token_ids[track.len..track.len + BLOCK_LEN];
            let Some(node) = tree.find(track.place, tokens) else { break };
            self.blocks.share(tree.block(node));
            track.blocks.push(tree.block(node));
            track.place = Place::Behind(node);
            track.n_published += 1;
            track.len += BLOCK_LEN;
        }
        track.len - before
    }

    /// Hands a sequence's full blocks to the tree, for others with the same tokens.
    pub(crate) fn publish(&mut self, track: &mut Track, token_ids: &[TokenId]) {
        let Some(tree) = &mut self.prefixes else { return };
        while (track.n_published + 1) * BLOCK_LEN <= track.len.min(token_ids.len()) {
            let start = track.n_published * BLOCK_LEN;
            let tokens = &token_ids[start..start + BLOCK_LEN];
            let block = &mut track.blocks[track.n_published];
            let node = match tree.find(track.place, tokens) {
                // Somebody was faster. The numbers are the same, bit by bit; one copy is enough.
                Some(node) => {
                    let kept = tree.block(node);
                    if kept != *block {
                        self.blocks.share(kept);
                        self.blocks.give_back(std::mem::replace(block, kept));
                    }
                    node
                }
                None => {
                    self.blocks.keep(*block);
                    tree.insert(track.place, tokens, *block)
                }
            };
            track.place = Place::Behind(node);
            track.n_published += 1;
        }
    }

    /// What the tree holds of these tokens from their beginning, with its numbers.
    pub(crate) fn export(&mut self, token_ids: &[TokenId], adapter: Option<AdapterId>) -> Result<Prefix> {
        let mut track = self.start_with(0, adapter)?;
        let n_tokens = self.adopt(&mut track, token_ids, token_ids.len());
        let blocks = track.blocks.iter().map(|&block| self.executor.block(block)).collect();
        self.finish(track);
        Ok(Prefix { token_ids: token_ids[..n_tokens].to_vec(), blocks })
    }

    /// Puts a beginning into the tree, as far as there is room. How many of its tokens are there then.
    pub(crate) fn import(&mut self, prefix: &Prefix, adapter: Option<AdapterId>) -> Result<usize> {
        let mut track = self.start_with(0, adapter)?;
        let all = prefix.token_ids.len();
        let mut outcome = Ok(());
        while outcome.is_ok() && track.len < all {
            self.adopt(&mut track, &prefix.token_ids, all);
            if track.len == all {
                break;
            }
            outcome = self.take_block().and_then(|block| {
                track.blocks.push(block);
                self.executor.set_block(block, &prefix.blocks[track.len / BLOCK_LEN])?;
                track.len += BLOCK_LEN;
                Ok(())
            });
            self.publish(&mut track, &prefix.token_ids);
        }
        let n_tokens = track.len;
        self.finish(track);
        match outcome {
            Ok(()) | Err(Error::NoBlock) => Ok(n_tokens),
            Err(error) => Err(error),
        }
    }

    /// Bytes of a block in all states.
    pub(crate) fn bytes_a_block(&self) -> usize {
        if self.capacity.n_blocks == 0 { 0 } else { self.executor.block(0).len() }
    }

    /// Whether a sequence can be taken back to fewer positions.
    pub(crate) fn can_truncate(&self) -> bool {
        !self.is_recurrent
    }

    /// Takes a sequence back to `len` positions, if it has more; what it has published it keeps.
    pub(crate) fn truncate(&mut self, track: &mut Track, len: usize) {
        if len >= track.len {
            return;
        }
        assert!(
            self.can_truncate() && len >= track.n_published * BLOCK_LEN,
            "{len} positions were published"
        );
        for block in track.blocks.drain(len.div_ceil(BLOCK_LEN)..) {
            self.blocks.give_back(block);
        }
        track.len = len;
    }

    /// Where the block that a sequence is filling would be published: equal places and tokens make equal blocks.
    pub(crate) fn next_place(track: &Track) -> Place {
        track.place
    }

    fn take_block(&mut self) -> Result<u32> {
        if self.blocks.n_free() == 0
            && let Some(tree) = &mut self.prefixes
            && let Some(block) = tree.evict(|block| self.blocks.is_idle(block))
        {
            self.blocks.drop_idle(block);
        }
        self.blocks.take().ok_or(Error::NoBlock)
    }

    /// A second sequence with the same past. Full blocks are shared, the last one is copied.
    pub fn fork(&mut self, track: &Track) -> Result<Track> {
        let mut fork = self.start_with(track.planned_len, track.adapter.map(|adapted| adapted.id))?;
        for (i, &block) in track.blocks.iter().enumerate() {
            if (i + 1) * BLOCK_LEN <= track.len {
                self.blocks.share(block);
                fork.blocks.push(block);
            } else {
                let copy = match self.take_block() {
                    Ok(copy) => copy,
                    Err(error) => {
                        self.finish(fork);
                        return Err(error);
                    }
                };
                fork.blocks.push(copy);
                self.executor.copy_block(block, copy);
            }
        }
        if self.is_recurrent {
            let numbers = self.executor.slot(track.slot);
            self.executor.set_slot(fork.slot, &numbers);
        }
        fork.len = track.len;
        (fork.n_published, fork.place) = (track.n_published, track.place);
        Ok(fork)
    }

    /// Lengthens a sequence of whole blocks to `n_positions` by copies of its own blocks, over and over: a long past that
    /// means nothing but takes as long to read as any.
    ///
    /// # Errors
    /// [`Error::NoBlock`] if the states are full; the sequence is then as long as there was room.
    pub fn repeat(&mut self, track: &mut Track, n_positions: usize) -> Result<()> {
        let period = track.blocks.len();
        assert!(period > 0 && track.len == period * BLOCK_LEN, "a sequence of whole blocks is repeated");
        while track.len < n_positions {
            let block = self.take_block()?;
            self.executor.copy_block(track.blocks[track.blocks.len() - period], block);
            track.blocks.push(block);
            track.len = (track.len + BLOCK_LEN).min(n_positions);
        }
        Ok(())
    }

    /// Gives a sequence's blocks and slot back.
    pub fn finish(&mut self, track: Track) {
        track.blocks.iter().for_each(|&block| self.blocks.give_back(block));
        if let Some(Adapted { id, .. }) = track.adapter {
            self.adapters.count(id, false);
        }
        if self.is_recurrent {
            self.free_slots.push(track.slot);
        }
    }

    /// What the device's steps have taken since the last call; from the first call on they are timed.
    pub fn take_times(&mut self) -> Vec<StepTime> {
        self.executor.take_times()
    }

    /// Multiplications and additions of the work's linear layers and attention.
    ///
    /// # Errors
    /// Where [`forward`](Self::forward) could not plan either.
    pub fn flops(&mut self, work: &[Work]) -> Result<f64> {
        let batch = assemble(work);
        let counts = |name: &str| name.contains("linear") || ["attend", "adapt"].contains(&name);
        let bank = self.adapters.bank();
        let cost = plan_for(&mut self.plans, &self.network, bank, &batch)?.cost(&batch);
        Ok(cost.iter().filter(|(name, _)| counts(name)).map(|(_, cost)| cost.flops).sum())
    }

    /// Runs the new tokens of all sequences at once.
    ///
    /// # Errors
    /// [`Error::NoBlock`] if the states are full; nothing was run then, and the tracks have not grown.
    pub fn forward(&mut self, work: &mut [Work], taps: Option<&mut dyn Taps>) -> Result<Forward> {
        self.reserve(work)?;
        let batch = assemble(work);
        let plan = plan_for(&mut self.plans, &self.network, self.adapters.bank(), &batch)?;
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
        let missing = |item: &Work| item.track.n_missing_blocks(item.token_ids.len());
        let available = self.blocks.n_free() + self.blocks.n_idle();
        if work.iter().map(missing).sum::<usize>() > available {
            return Err(Error::NoBlock);
        }
        for item in work {
            for _ in 0..missing(item) {
                let block = self.take_block()?;
                item.track.blocks.push(block);
            }
        }
        Ok(())
    }
}

/// Sequences that are planned up to this length rotate alike, whatever their length.
fn rotates_alike_up_to(config: &Config) -> usize {
    let table = |mixer: &Mixer| match mixer {
        Mixer::Attention(attention) => match &attention.position {
            Position::Rope(table, _) => Some(table.clone()),
            _ => None,
        },
        Mixer::Latent(latent) => Some(latent.rope.clone()),
        Mixer::Mamba(_) | Mixer::Mamba2(_) => None,
    };
    let tables = config.layers.iter().filter_map(|layer| table(&layer.mixer));
    let beyond = tables.filter_map(|table| match table.scale {
        RopeScale::Fixed => None,
        RopeScale::Long { beyond, .. } | RopeScale::Dynamic { beyond, .. } => Some(beyond),
    });
    beyond.min().unwrap_or(usize::MAX)
}

/// The states that a model's graph declares.
pub fn states_of(network: &Network) -> Result<Vec<StateSpec>> {
    let mut g = Graph::new(&network.params);
    network.hidden(&mut g, true)?;
    Ok(g.states().to_vec())
}

/// The plan that holds this batch, made when it is first needed. A batch without adapters has one without a bank.
fn plan_for<'a>(
    plans: &'a mut HashMap<(Rows, bool), Plan>,
    network: &Network,
    bank: &Bank,
    batch: &Batch,
) -> Result<&'a Plan> {
    let is_adapted = batch.sequences.iter().any(|seq| seq.adapter.is_some());
    let rows = Rows { sequences: 0, keys: 0, ..batch.rows() }.rounded_up();
    let capacity = Rows { sequences: rows.tokens, keys: rows.tokens, ..rows };
    Ok(match plans.entry((capacity, is_adapted)) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(plan(network, is_adapted.then_some(bank), capacity)?),
    })
}

/// Logits and last rows of the wanted tokens.
fn plan(network: &Network, bank: Option<&Bank>, capacity: Rows) -> Result<Plan> {
    let mut g = Graph::new(&network.params);
    if let Some(bank) = bank {
        g = g.with_bank(bank.clone());
    }
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
            adapter: item.track.adapter.map(|adapted| adapted.slot),
            planned_len: item.track.planned_len,
        });
    }
    batch.set_tokens(token_ids);
    batch.set_outputs(outputs);
    batch
}
