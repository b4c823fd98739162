//! Runs a graph that gives one row for each sequence.
//!
//! Where:  under [`SentenceEncoder`](super::SentenceEncoder) and [`CrossEncoder`](super::CrossEncoder).
//! Idea:   sequences go through as ragged batches of a bounded number of tokens; plans are kept by capacity, of which
//!         there are few. A sequence's row does not depend on its neighbours, so batches are cut anywhere.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex};

use wootz_graph::{
    Batch, Data, Device, Executor, Graph, Plan, PlanOptions, Rows, StateCapacity, Value, Weights,
};
use wootz_kernels::TensorType;

use crate::{Error, Network, Result};

/// Tokens of a batch, unless one sequence alone has more.
const MAX_TOKENS: usize = 4096;
/// Sequences of a batch.
const MAX_SEQUENCES: usize = 256;

/// One sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    pub ids: Vec<u32>,
    /// As many as ids.
    pub types: Vec<u32>,
}

/// From the last rows (T, C) to rows (B, …).
type Tail = Box<dyn Fn(&Network, &mut Graph, Value) -> wootz_graph::Result<Value> + Send + Sync>;

/// A network, what follows it, and what runs both.
pub(super) struct Runner {
    network: Arc<Network>,
    tail: Tail,
    running: Mutex<Running>,
}

struct Running {
    executor: Box<dyn Executor>,
    plans: HashMap<Rows, Plan>,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Runner").field("arch", &self.network.config.arch).finish_non_exhaustive()
    }
}

impl Runner {
    pub fn new(network: Arc<Network>, device: &dyn Device, weights: &Weights, tail: Tail) -> Result<Self> {
        let no_states = StateCapacity { n_blocks: 0, block_len: 64, n_slots: 0, kv_type: TensorType::F32 };
        let executor = device.executor(weights, &[], no_states)?;
        Ok(Self { network, tail, running: Mutex::new(Running { executor, plans: HashMap::new() }) })
    }

    /// One row for each sequence, in order.
    pub fn run(&self, sequences: &[Tokens]) -> Result<Vec<Vec<f32>>> {
        self.check(sequences)?;
        let mut running = self.running.lock().expect("no run panicked");
        let mut rows = Vec::with_capacity(sequences.len());
        let mut rest = sequences;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch_len(rest));
            rows.extend(self.run_batch(&mut running, now)?);
            rest = later;
        }
        Ok(rows)
    }

    fn run_batch(&self, running: &mut Running, sequences: &[Tokens]) -> Result<Vec<Vec<f32>>> {
        let ids: Vec<&[u32]> = sequences.iter().map(|tokens| &tokens.ids[..]).collect();
        let mut batch = Batch::of_sequences(&ids);
        let types = sequences.iter().flat_map(|tokens| &tokens.types).copied().collect();
        batch.set("token_types", Data::U32(types));
        let capacity = batch.rows().rounded_up();
        let Running { executor, plans } = running;
        let plan = match plans.entry(capacity) {
            Entry::Occupied(plan) => plan.into_mut(),
            Entry::Vacant(place) => place.insert(self.plan(capacity)?),
        };
        executor.run(plan, &batch, None)?;
        let all = executor.output(plan, &batch, 0);
        Ok(all.chunks_exact((all.len() / sequences.len()).max(1)).map(<[f32]>::to_vec).collect())
    }

    fn plan(&self, capacity: Rows) -> Result<Plan> {
        let mut g = Graph::new(&self.network.params);
        let x = self.network.hidden(&mut g, false)?;
        let x = (self.tail)(&self.network, &mut g, x)?;
        Ok(Plan::new(&g, &[x], &PlanOptions { capacity })?)
    }

    /// Checks what the operators rely on: ids and positions that the tables have.
    fn check(&self, sequences: &[Tokens]) -> Result<()> {
        let config = &self.network.config;
        let max_len = config.embed.n_positions.unwrap_or(usize::MAX);
        for (i, Tokens { ids, types }) in sequences.iter().enumerate() {
            let fail = |message: String| Err(Error::Unsupported(format!("text {i}: {message}")));
            if ids.is_empty() || ids.len() > max_len {
                return fail(format!("expected 1 to {max_len} tokens, got {}", ids.len()));
            }
            if let Some(id) = ids.iter().find(|&&id| id as usize >= config.vocab_size) {
                return fail(format!("expected tokens below {}, got {id}", config.vocab_size));
            }
            let n_types = config.embed.n_token_types.unwrap_or(usize::MAX);
            if let Some(kind) = types.iter().find(|&&kind| kind as usize >= n_types) {
                return fail(format!("expected token types below {n_types}, got {kind}"));
            }
        }
        Ok(())
    }
}

/// How many of the next sequences fit one batch; at least one.
fn batch_len(sequences: &[Tokens]) -> usize {
    let mut n_tokens = 0;
    let fits = |tokens: &&Tokens| {
        n_tokens += tokens.ids.len();
        n_tokens <= MAX_TOKENS
    };
    sequences.iter().take(MAX_SEQUENCES).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_takes_what_fits_and_at_least_one() {
        let of_len = |n: usize| Tokens { ids: vec![0; n], types: vec![0; n] };
        assert_eq!(batch_len(&[of_len(MAX_TOKENS + 1), of_len(1)]), 1);
        assert_eq!(batch_len(&[of_len(MAX_TOKENS - 1), of_len(1), of_len(1)]), 2);
        assert_eq!(batch_len(&vec![of_len(1); 1000]), MAX_SEQUENCES);
    }
}
