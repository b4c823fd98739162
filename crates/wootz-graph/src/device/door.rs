//! The door of an executor: everything that a batch, a plan or a caller can get wrong is found here.
//!
//! Where:  each executor keeps one and asks it before every run; operators and kernels trust what came through.
//! Idea:   what belongs to a plan (its weights, its states) is checked when the plan is first seen, what belongs
//!         to a batch (inputs, ids, blocks, slots) every time.

use wootz_kernels::TensorType;

use crate::bank::{Addition, MAX_ADAPTERS, MAX_RANK, Site};
use crate::batch::{Batch, Data, Sequence};
use crate::cost::n_elements;
use crate::param::{Param, ParamKind, ParamSpec};
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
    /// What the bank's slots hold.
    adapters: Vec<Option<Places>>,
    /// The plan that was checked last.
    known: Option<u64>,
}

impl Door {
    /// # Errors
    /// [`Error::Mismatch`] if no device can keep such states.
    pub(crate) fn new(weights: &[ParamSpec], states: &[StateSpec], capacity: StateCapacity) -> Result<Self> {
        let StateCapacity { block_len, kv_type, .. } = capacity;
        if !matches!(kv_type, TensorType::F32 | TensorType::F16 | TensorType::BF16 | TensorType::Q8_0) {
            return Err(Error::Mismatch(format!(
                "states are kept in f32, f16, bf16 or q8_0, not in {kv_type}"
            )));
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
        let adapters = vec![None; MAX_ADAPTERS];
        Ok(Self { weights: weights.to_vec(), states: states.to_vec(), capacity, adapters, known: None })
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
        self.check_adapters(plan, batch)
    }

    /// Every adapter that is named is there, and the plan has a place for all that it adds.
    fn check_adapters(&self, plan: &Plan, batch: &Batch) -> Result<()> {
        let fail = |message| Err(Error::Input { name: "adapter".to_owned(), message });
        let mut checked = None;
        for slot in batch.sequences.iter().filter_map(|seq| seq.adapter) {
            if checked == Some(slot) {
                continue;
            }
            let Some(additions) = self.adapters.get(slot).and_then(Option::as_ref) else {
                return fail(format!("slot {slot} of {} is empty", self.adapters.len()));
            };
            if let Some((site, shape)) =
                additions.iter().find(|(site, shape)| plan.sites.get(site) != Some(shape))
            {
                return fail(format!("slot {slot} adds {shape:?} at {site:?}, which the plan does not"));
            }
            checked = Some(slot);
        }
        Ok(())
    }

    /// Checks what a slot of the bank is to hold, and notes it.
    pub(crate) fn check_adapter(&mut self, slot: usize, additions: Option<&[Addition]>) -> Result<()> {
        let n_slots = self.adapters.len();
        let Some(place) = self.adapters.get_mut(slot) else {
            return Err(Error::Mismatch(format!("slot {slot} of a bank of {n_slots} adapters")));
        };
        for (i, addition) in additions.iter().flat_map(|additions| additions.iter()).enumerate() {
            let others = additions.iter().flat_map(|additions| &additions[..i]);
            check_addition(&self.weights, addition, others)?;
        }
        *place = additions
            .map(|additions| additions.iter().map(|addition| (addition.site, addition.shape)).collect());
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

/// An addition's numbers are as many as it says, and its shape is the weight's.
fn check_addition<'a>(
    weights: &[ParamSpec],
    addition: &Addition,
    mut others: impl Iterator<Item = &'a Addition>,
) -> Result<()> {
    let Addition { site, shape: [n, k], rank, .. } = *addition;
    let spec = match site {
        Site::Linear(param) => weights.get(param.index()),
        Site::Residual(_) => None,
    };
    let name = spec.map_or_else(|| format!("{site:?}"), |spec| spec.name.clone());
    let fail = |message| Err(Error::Weight { name: name.clone(), message });
    let is_wrong = match (site, spec) {
        (Site::Linear(_), Some(spec)) => spec.kind != ParamKind::Matrix || spec.shape != [n, k],
        (Site::Linear(_), None) => true,
        (Site::Residual(_), _) => rank > 0 || n == 0 || k != 0,
    };
    if is_wrong {
        let shape = spec.map_or(Vec::new(), |spec| spec.shape.clone());
        return fail(format!("an addition of ({n}, {k}) with rank {rank} to {shape:?}"));
    }
    if others.any(|other| other.site == site) {
        return fail("two additions at one place".to_owned());
    }
    if rank > MAX_RANK {
        return fail(format!("rank {rank}, at most {MAX_RANK}"));
    }
    for (tensor, rows, width) in [(&addition.a, rank, k), (&addition.b, n, rank)] {
        let expected = if rank == 0 { Some(0) } else { tensor.ty.row_bytes(width).map(|bytes| bytes * rows) };
        if expected != Some(tensor.bytes.len()) {
            let got = tensor.bytes.len();
            return fail(format!(
                "expected {expected:?} bytes of `{}` for ({rows}, {width}), got {got}",
                tensor.ty
            ));
        }
    }
    match [&addition.gain, &addition.shift].into_iter().flatten().find(|extra| extra.len() != n) {
        Some(extra) => fail(format!("expected {n} numbers, got {}", extra.len())),
        None => Ok(()),
    }
}

/// Where an adapter adds something, and the shape there.
type Places = Vec<(Site, [usize; 2])>;

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
