//! A request on its way through the engine.
//!
//! Where:  held by [`Engine`](crate::Engine), waiting or running.
//! Idea:   its branches keep all their tokens, so that states can be taken away at any time and computed again.

use std::cmp::Reverse;
use std::time::Instant;

use wootz_text::{Cancelled, ContextFull, GenerateEvent, ModelError, Sink, TokenId, Usage};

use crate::adapters::AdapterId;
use crate::draft::Draft;
use crate::driver::{Branch, Driver};
use crate::engine::Schedule;
use crate::runner::{BLOCK_LEN, Runner};

/// A request on its way.
pub(crate) struct Job {
    pub driver: Driver,
    pub branches: Vec<Branch>,
    pub sink: Sink,
    pub schedule: Schedule,
    /// Requests are numbered as they come.
    pub arrival: u64,
    /// What happens at the context's end.
    pub context_full: ContextFull,
    /// Tokens at the beginning that are never forgotten.
    pub n_head: usize,
    pub usage: Usage,
    /// What is added to the model for it.
    pub adapter: Option<AdapterId>,
}

/// Who comes first: higher priority, earlier deadline, earlier arrival.
pub(crate) type Precedence = (Reverse<i32>, bool, Option<Instant>, u64);

impl Job {
    pub(crate) fn precedence(&self) -> Precedence {
        let deadline = self.schedule.deadline;
        (Reverse(self.schedule.priority), deadline.is_none(), deadline, self.arrival)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.schedule.cancelled.as_ref().is_some_and(Cancelled::get)
    }

    /// Blocks that all its branches will need for the tokens that they have and the next one.
    pub(crate) fn n_blocks(&self) -> usize {
        self.branches.iter().map(|branch| (branch.token_ids.len() + 1).div_ceil(BLOCK_LEN)).sum()
    }

    /// Of these, what its branches do not have yet.
    pub(crate) fn n_missing_blocks(&self) -> usize {
        let missing = |branch: &Branch| match &branch.track {
            Some(track) => track.n_missing_blocks(branch.token_ids.len() + 1 - track.len()),
            None => (branch.token_ids.len() + 1).div_ceil(BLOCK_LEN),
        };
        self.branches.iter().map(missing).sum()
    }

    pub(crate) fn holds_blocks(&self) -> bool {
        self.branches.iter().any(|branch| branch.n_run() > 0)
    }

    /// Gives all its states back; what they held is computed again later.
    pub(crate) fn release(&mut self, runner: &mut Runner, mut draft: Option<&mut Draft>) {
        self.branches.iter_mut().for_each(|branch| branch.release(runner, draft.as_deref_mut()));
    }

    /// Forgets the older half of what a branch that has reached `max_context` said, if the request wants that.
    pub(crate) fn shift(&mut self, max_context: usize, runner: &mut Runner, mut draft: Option<&mut Draft>) {
        if self.context_full != ContextFull::Shift {
            return;
        }
        for branch in self.branches.iter_mut().filter(|branch| branch.token_ids.len() > max_context) {
            let n_dropped = (branch.token_ids.len() - self.n_head) / 2;
            branch.token_ids.drain(self.n_head..self.n_head + n_dropped.max(1));
            self.usage.dropped_tokens += n_dropped.max(1);
            branch.n_seen = branch.token_ids.len() - 1;
            branch.release(runner, draft.as_deref_mut());
        }
    }

    /// Sends the last event.
    pub(crate) fn finish(mut self, outcome: Result<usize, ModelError>) {
        if let Driver::Read(driver) = self.driver {
            return driver.finish(outcome.map(|_| ()));
        }
        (self.sink)(match outcome {
            Ok(completion_tokens) => GenerateEvent::Usage(Usage { completion_tokens, ..self.usage }),
            Err(error) => GenerateEvent::Error(error),
        });
    }
}

/// The end of a prompt that leaves room for `n_new` tokens in a context, its first `n_head` tokens kept; how many are
/// left out.
pub(crate) fn truncate_left(
    token_ids: &mut Vec<TokenId>,
    n_head: usize,
    n_new: usize,
    max_context: usize,
) -> usize {
    let most = max_context.saturating_sub(n_new).max(n_head + 1);
    let n_dropped = token_ids.len().saturating_sub(most);
    token_ids.drain(n_head..n_head + n_dropped);
    n_dropped
}
