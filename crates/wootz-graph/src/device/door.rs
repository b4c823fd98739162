//! The door of an executor: everything that a batch, a plan or a caller can get wrong is found here.
//!
//! Where:  each executor keeps one and asks it before every run; operators and kernels trust what came through.
//! Idea:   what belongs to a plan (its weights, its states) is checked when the plan is first seen, what belongs
//!         to a batch (inputs, ids, blocks, slots) every time.

use wootz_kernels::TensorType;

use crate::batch::{Batch, Data, Sequence};
use crate::cost::n_elements;
use crate::param::{Param, ParamSpec};
use crate::plan::Plan;
use crate::shape::DType;
use crate::state::{StateCapacity, StateKind, StateSpec};
use crate::{Error, Result};

/// What an executor was made with, to hold plans and batches against.
#[derive(Debug)]
pub(crate) struct Door {
    weights: Vec<ParamSpec>,
    states: Vec<StateSpec>,
    capacity: StateCapacity,
    /// The plan that was checked last.
    known: Option<u64>,
}

impl Door {
    /// # Errors
    /// [`Error::Mismatch`] if no device can keep such states.
    pub(crate) fn new(weights: &[ParamSpec], states: &[StateSpec], capacity: StateCapacity) -> Result<Self> {
        let StateCapacity { block_len, kv_type, .. } = capacity;
        if !matches!(kv_type, TensorType::F32 | TensorType::F16 | TensorType::BF16) {
            return Err(Error::Mismatch(format!("states are kept in f32, f16 or bf16, not in {kv_type}")));
        }
        if !matches!(block_len, 16 | 32 | 64 | 128) {
            return Err(Error::Mismatch(format!("a block has 16, 32, 64 or 128 positions, not {block_len}")));
        }
        if capacity.n_blocks > u32::MAX as usize || capacity.bytes(states) > isize::MAX as usize / 16 {
            return Err(Error::Mismatch(format!("states for {capacity:?} do not fit into memory")));
        }
        for StateSpec { name, kind } in states {
            if let StateKind::Kv { n_kv_heads, d_k, d_v, v_in_k, .. } = *kind
                && ([n_kv_heads, d_k, d_v].contains(&0) || v_in_k && d_v > d_k)
            {
                return Err(Error::Mismatch(format!("state `{name}` cannot be kept: {kind:?}")));
            }
        }
        Ok(Self { weights: weights.to_vec(), states: states.to_vec(), capacity, known: None })
    }

    /// Checks that `plan` can run `batch` here.
    pub(crate) fn check_run(&mut self, plan: &Plan, batch: &Batch) -> Result<()> {
        if self.known != Some(plan.tag()) {
            self.check_plan(plan)?;
            self.known = Some(plan.tag());
        }
        batch.validate()?;
        if !plan.capacity().covers(&batch.rows()) {
            let (capacity, rows) = (plan.capacity(), batch.rows());
            return Err(Error::Mismatch(format!("a plan for {capacity:?} cannot run a batch of {rows:?}")));
        }
        check_inputs(plan, batch)?;
        self.check_sequences(plan, batch)
    }

    fn check_plan(&self, plan: &Plan) -> Result<()> {
        for (param, spec) in &plan.weights {
            match self.weights.get(param.index()) {
                Some(loaded) if loaded == spec => {}
                loaded => {
                    let (name, loaded) = (&spec.name, loaded.map(|spec| &spec.name));
                    return Err(Error::Mismatch(format!(
                        "the plan reads weight `{name}` of {:?}, but {loaded:?} was loaded in its place",
                        spec.shape
                    )));
                }
            }
        }
        if plan.states().is_empty() || plan.states() == self.states {
            return Ok(());
        }
        let (expected, got) = (self.states.len(), plan.states().len());
        Err(Error::Mismatch(format!(
            "the plan's {got} states are not the {expected} that this executor keeps"
        )))
    }

    fn check_sequences(&self, plan: &Plan, batch: &Batch) -> Result<()> {
        let has = |is: fn(&StateKind) -> bool| plan.states().iter().any(|state| is(&state.kind));
        if has(|kind| matches!(kind, StateKind::Kv { .. })) {
            for (i, seq) in batch.sequences.iter().enumerate() {
                self.check_blocks(i, seq)?;
            }
        }
        if has(|kind| matches!(kind, StateKind::Recurrent { .. })) {
            check_slots(batch, self.capacity.n_slots)?;
        }
        Ok(())
    }

    fn check_blocks(&self, i: usize, seq: &Sequence) -> Result<()> {
        let fail = |message| Err(Error::Input { name: "block_table".to_owned(), message });
        let StateCapacity { n_blocks, block_len, .. } = self.capacity;
        let len = seq.first_position.saturating_add(seq.rows.len());
        let n_used = len.div_ceil(block_len);
        if seq.block_table.len() < n_used {
            return fail(format!("sequence {i} has {} blocks for {len} positions", seq.block_table.len()));
        }
        match seq.block_table[..n_used].iter().find(|&&block| block as usize >= n_blocks) {
            Some(block) => fail(format!("sequence {i} names block {block} of {n_blocks}")),
            None => Ok(()),
        }
    }

    /// Checks that a weight exists and has as many numbers.
    pub(crate) fn check_weight(&self, param: Param, n: usize) -> Result<()> {
        let Some(spec) = self.weights.get(param.index()) else {
            return Err(Error::Mismatch(format!("weight {} of {}", param.index(), self.weights.len())));
        };
        if spec.n_elements() == n {
            return Ok(());
        }
        let message = format!("expected {} numbers, got {n}", spec.n_elements());
        Err(Error::Weight { name: spec.name.clone(), message })
    }
}

fn check_inputs(plan: &Plan, batch: &Batch) -> Result<()> {
    for input in &plan.inputs {
        let fail = |message| Err(Error::Input { name: input.name.to_owned(), message });
        let n = n_elements(&input.ty, batch);
        let Some(data) = batch.inputs.get(input.name) else {
            return fail("missing from the batch".to_owned());
        };
        let ids: &[u32] = match (data, input.ty.dtype) {
            (Data::F32(_), DType::F32) => &[],
            (Data::U32(ids), DType::U32) => ids,
            (Data::F32(_), DType::U32) => return fail("expected ids, got numbers".to_owned()),
            (Data::U32(_), DType::F32) => return fail("expected numbers, got ids".to_owned()),
        };
        if data.len() != n {
            return fail(format!("expected {n} numbers, got {}", data.len()));
        }
        let below = input.below.unwrap_or(usize::MAX);
        if let Some(id) = ids.iter().find(|&&id| id as usize >= below) {
            return fail(format!("expected ids below {below}, got {id}"));
        }
    }
    Ok(())
}

/// Sequences with rows have slots of their own.
fn check_slots(batch: &Batch, n_slots: usize) -> Result<()> {
    let fail = |message| Err(Error::Input { name: "slot".to_owned(), message });
    let mut taken: Vec<usize> =
        batch.sequences.iter().filter(|seq| !seq.rows.is_empty()).map(|seq| seq.slot).collect();
    taken.sort_unstable();
    if let Some(pair) = taken.windows(2).find(|pair| pair[0] == pair[1]) {
        return fail(format!("two sequences share slot {}", pair[0]));
    }
    match taken.last() {
        Some(&slot) if slot >= n_slots => fail(format!("slot {slot} of {n_slots}")),
        _ => Ok(()),
    }
}
