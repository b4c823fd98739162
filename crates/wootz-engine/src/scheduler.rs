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
    /// Whether guesses may come along.
    pub takes_guesses: bool,
}

/// What a step of so many rows costs, in steps of one row.
///
/// PERF: a Llama of 1.2 billion parameters at Q4_K_M on two cores takes 1, 1.02, 1.32, 2.2 and 3.9 times as long with 1, 2,
/// 4, 8 and 16 rows: the weights are read once, the arithmetic is done for each.
pub(crate) fn step_cost(n_rows: usize) -> f32 {
    (0.44 + 0.215 * n_rows as f32).max(1.0)
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
    let prompts = divide(prompts, left);
    if limits.takes_guesses && prompts.is_empty() {
        add_guesses(jobs, &mut shares, left);
    }
    shares.extend(prompts);
    shares.sort_by_key(|share| (share.job, share.branch));
    shares
}

/// Lets guesses come along, the likeliest token of all first, as long as tokens a second are expected to grow.
fn add_guesses(jobs: &[Job], shares: &mut [Share], most: usize) {
    let branch = |share: &Share| &jobs[share.job].branches[share.branch];
    let is_whole = |share: &Share| share.n_tokens == branch(share).n_pending();
    let mut n_rows: usize = shares.iter().map(|share| share.n_tokens).sum();
    let mut n_expected = shares.len() as f32;
    let most = n_rows + most;
    while n_rows < most {
        let next = shares.iter().enumerate().filter_map(|(i, share)| {
            let has_more = is_whole(share) && share.n_guess < branch(share).guess.len();
            has_more.then(|| (branch(share).guess_rate.powi(share.n_guess as i32 + 1), i))
        });
        let Some((chance, i)) = next.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))) else { return };
        let (before, after) = (n_expected / step_cost(n_rows), (n_expected + chance) / step_cost(n_rows + 1));
        if after <= before {
            return;
        }
        shares[i].n_guess += 1;
        n_rows += 1;
        n_expected += chance;
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
