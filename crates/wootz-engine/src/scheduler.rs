//! What the next batch takes: which tokens of which sequences.
//!
//! Where:  [`Engine::step`](crate::Engine::step) asks once a step.
//! Idea:   answers first: every sequence that waits for its next token gets it. What is left of the batch goes to prompts:
//!         half by precedence, so that nobody starves, the rest to the shortest, so that a long prompt does not hold up
//!         short ones. Of sequences that would fill the same block with the same tokens, one does.
//! Source: Agrawal et al. 2024, Sarathi-Serve (chunked prefill beside decoding), arXiv:2403.02310, §4.

use std::collections::HashSet;

use crate::job::Job;
use crate::runner::{BLOCK_LEN, Runner};

/// Tokens of one branch that go into the next batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub job: usize,
    pub branch: usize,
    pub n_tokens: usize,
    /// Tokens of the branch's guess behind them.
    pub n_guess: usize,
}

/// As many waiting tokens still count as an answer's: forced tokens are run at once.
const MAX_ANSWER_TOKENS: usize = 32;

/// What the batch may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub max_tokens: usize,
    /// Whether equal blocks are shared.
    pub shares_blocks: bool,
    /// Rows up to which a step takes about as long as with one, so that guesses are for nothing.
    pub max_cheap_rows: usize,
}

/// Shares of a batch, by job and branch. `jobs` stand in order of precedence.
pub(crate) fn shares(jobs: &[Job], limits: Limits) -> Vec<Share> {
    let (mut shares, mut prompts) = (Vec::new(), Vec::new());
    let mut filled = HashSet::new();
    let mut left = limits.max_tokens;
    for (index, job) in jobs.iter().enumerate() {
        let share = |branch, n_tokens| Share { job: index, branch, n_tokens, n_guess: 0 };
        let n_branches = job.branches.len();
        let behind = job.branches.iter().position(|branch| branch.n_pending() > 1);
        let ready: Vec<Share> = match behind {
            // One after the other, so that later branches find what earlier ones have computed; their last tokens run
            // together.
            Some(branch) if job.driver.is_lockstep() => {
                vec![share(branch, job.branches[branch].n_pending() - usize::from(n_branches > 1))]
            }
            _ => {
                let with_states = (0..n_branches).filter(|&branch| job.branches[branch].track.is_some());
                with_states.map(|branch| share(branch, job.branches[branch].n_pending())).collect()
            }
        };
        for ready in ready {
            let is_answer =
                ready.n_tokens <= MAX_ANSWER_TOKENS.min(left) && job.driver.max_chunk() == usize::MAX;
            if ready.n_tokens == 1 || is_answer {
                left = left.saturating_sub(ready.n_tokens);
                shares.push(ready);
            } else if !limits.shares_blocks
                || next_block(job, ready.branch).is_none_or(|block| filled.insert(block))
            {
                let n_tokens = ready.n_tokens.min(job.driver.max_chunk());
                prompts.push(Share { n_tokens, ..ready });
            }
        }
    }
    add_guesses(jobs, &mut shares, limits.max_cheap_rows);
    shares.extend(divide(prompts, left));
    shares.sort_by_key(|share| (share.job, share.branch));
    shares
}

/// Lets guesses come along while the batch stays small.
fn add_guesses(jobs: &[Job], shares: &mut [Share], max_rows: usize) {
    let n_rows: usize = shares.iter().map(|share| share.n_tokens).sum();
    let mut left = max_rows.saturating_sub(n_rows);
    for share in shares {
        let branch = &jobs[share.job].branches[share.branch];
        let is_whole = share.n_tokens == branch.n_pending();
        share.n_guess = if is_whole { branch.guess.len().min(left) } else { 0 };
        left -= share.n_guess;
    }
}

/// The block that a branch is filling, if it has the tokens to do so.
fn next_block(job: &Job, branch: usize) -> Option<(Option<crate::prefix_tree::Place>, &[u32])> {
    let branch = &job.branches[branch];
    let start = branch.n_run() / BLOCK_LEN * BLOCK_LEN;
    let tokens = branch.token_ids.get(start..start + BLOCK_LEN)?;
    Some((branch.track.as_ref().map(Runner::next_place), tokens))
}

/// Cuts what prompts want down to `left` tokens together.
fn divide(wanted: Vec<Share>, left: usize) -> Vec<Share> {
    let mut given = vec![0; wanted.len()];
    let mut left = left;
    let mut by_length: Vec<usize> = (0..wanted.len()).collect();
    by_length.sort_by_key(|&i| wanted[i].n_tokens);
    let mut give = |order: &mut dyn Iterator<Item = usize>, mut budget: usize, left: &mut usize| {
        for i in order {
            let n = (wanted[i].n_tokens - given[i]).min(budget).min(*left);
            given[i] += n;
            budget -= n;
            *left -= n;
        }
    };
    give(&mut (0..wanted.len()), left.div_ceil(2), &mut left);
    give(&mut by_length.into_iter(), usize::MAX, &mut left);
    let cut = |(share, n_tokens): (&Share, usize)| Share { n_tokens, ..*share };
    wanted.iter().zip(given).map(cut).filter(|share| share.n_tokens > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_goes_by_precedence_and_the_rest_to_the_shortest() {
        let check = |wanted: &[usize], left: usize, expected: &[usize]| {
            let wanted = wanted.iter().enumerate();
            let wanted =
                wanted.map(|(job, &n_tokens)| Share { job, branch: 0, n_tokens, n_guess: 0 }).collect();
            let given = divide(wanted, left);
            let mut all = vec![0; expected.len()];
            given.iter().for_each(|share| all[share.job] = share.n_tokens);
            assert_eq!(all, expected);
        };
        check(&[], 10, &[]);
        check(&[100], 10, &[10]);
        check(&[5], 10, &[5]);
        check(&[100, 3, 100], 10, &[7, 3, 0]);
        check(&[100, 30, 20], 10, &[5, 0, 5]);
        check(&[4, 100, 1], 10, &[4, 5, 1]);
        check(&[100, 100], 0, &[0, 0]);
    }
}
