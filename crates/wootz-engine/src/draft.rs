//! A small model that guesses what a large one will say.
//!
//! Where:  owned by an [`Engine`](crate::Engine); works between its steps.
//! Idea:   for every sequence that waits for its next token, the small model goes a few tokens ahead, all sequences
//!         together; the large one runs them along and keeps those that it would have said. How far ahead follows from
//!         how often it was right and from what both models cost, and where no length pays it is left alone.
//! Source: Leviathan et al. 2023, arXiv:2211.17192, §3.3 and §3.4: expected tokens and the best length.

use crate::driver::Branch;
use crate::job::Job;
use crate::runner::{Outputs, Runner, Track, Work};
use crate::scheduler::step_cost;
use crate::{Error, Result};

/// The most tokens ahead.
const MAX_AHEAD: usize = 8;
/// Guesses pay if they save at least this much.
const MIN_GAIN: f32 = 1.05;

/// A small model that goes ahead.
pub(crate) struct Draft {
    pub runner: Runner,
    /// A step of the small model, in steps of the large one.
    pub cost: f32,
    pub max_batch_tokens: usize,
}

/// How often a sequence's guesses were right.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Chance of a guessed token to be right, of late.
    rate: f32,
    /// Tokens since the last guess.
    n_idle: usize,
    /// Idle tokens after which it is tried again.
    pause: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rate: 0.75, n_idle: 0, pause: 32 }
    }
}

impl Pace {
    /// Chance of a guessed token to be right.
    pub(crate) fn rate(&self) -> f32 {
        self.rate
    }

    /// How many tokens to guess, at most `most`, if one costs `cost` steps and other sequences bring `n_others` rows.
    fn length(&mut self, cost: f32, n_others: usize, most: usize) -> usize {
        let alone = step_cost(n_others + 1);
        let gain = |n: usize| {
            let new = expected_tokens(self.rate, n) + n_others as f32;
            let time = step_cost(n_others + 1 + n) + n as f32 * cost;
            new / time / ((n_others + 1) as f32 / alone)
        };
        let most = most.min(MAX_AHEAD);
        let best = (1..=most).max_by(|&a, &b| gain(a).total_cmp(&gain(b)).then(b.cmp(&a)));
        match best.filter(|&n| gain(n) >= MIN_GAIN) {
            Some(n) => n,
            None => {
                self.n_idle += 1;
                if self.n_idle < self.pause {
                    return 0;
                }
                (self.n_idle, self.pause) = (0, (2 * self.pause).min(1024));
                most.min(2)
            }
        }
    }

    /// `n_right` of `n_guessed` tokens were right; those behind the first wrong one say nothing.
    pub(crate) fn learn(&mut self, n_guessed: usize, n_right: usize) {
        let mut see = |is_right: bool| self.rate += (f32::from(u8::from(is_right)) - self.rate) / 16.0;
        (0..n_right).for_each(|_| see(true));
        if n_right < n_guessed {
            see(false);
        }
    }
}

/// Tokens of a step with `n` guesses that are right with this chance each.
fn expected_tokens(rate: f32, n: usize) -> f32 {
    (0..=n).map(|i| rate.powi(i as i32)).sum()
}

/// A sequence that the small model is ahead of.
struct Ahead<'a> {
    branch: &'a mut Branch,
    track: Track,
    /// Tokens to guess.
    length: usize,
    /// Tokens that the small model runs next.
    token_ids: Vec<u32>,
    /// Whether its guess goes on behind them; else it has more to catch up with.
    is_level: bool,
}

impl Draft {
    /// Guesses for every branch that waits for its next token and has no guess yet.
    ///
    /// # Errors
    /// The small model cannot be run.
    pub(crate) fn go_ahead(&mut self, jobs: &mut [Job]) -> Result<()> {
        let n_branches = jobs.iter().map(|job| job.branches.len()).sum::<usize>().max(1);
        let mut left = self.max_batch_tokens;
        let mut all = Vec::new();
        for job in jobs.iter_mut().filter(|job| job.driver.takes_guesses()) {
            for branch in job.branches.iter_mut().filter(|branch| branch.wants_guess()) {
                let room = branch.planned_len.saturating_sub(branch.token_ids.len() + 1);
                let length = branch.pace.length(self.cost, n_branches - 1, room);
                if length > 0 && left > 0 {
                    all.push(self.begin(branch, length, &mut left)?);
                }
            }
        }
        while !all.is_empty() {
            all = self.round(all)?;
        }
        Ok(())
    }

    /// Takes back what was guessed wrong, and finds what the small model has not seen.
    fn begin<'a>(&mut self, branch: &'a mut Branch, length: usize, left: &mut usize) -> Result<Ahead<'a>> {
        let mut track = match branch.draft.take() {
            Some(track) => track,
            None => self.runner.start(branch.planned_len)?,
        };
        let n_tokens = branch.token_ids.len();
        self.runner.truncate(&mut track, branch.n_valid.min(n_tokens - 1));
        let end = n_tokens.min(track.len() + *left);
        let token_ids = branch.token_ids[track.len()..end].to_vec();
        *left -= token_ids.len();
        Ok(Ahead { branch, track, length, token_ids, is_level: end == n_tokens })
    }

    /// One step of the small model; those that go on after it.
    fn round<'a>(&mut self, mut all: Vec<Ahead<'a>>) -> Result<Vec<Ahead<'a>>> {
        let work = all.iter_mut().map(|ahead| Work {
            track: &mut ahead.track,
            token_ids: &ahead.token_ids,
            outputs: Outputs::Last,
        });
        let forward = match self.runner.forward(&mut work.collect::<Vec<_>>(), None) {
            Err(Error::NoBlock) => None,
            forward => Some(forward?),
        };
        let logits = forward.map_or(Vec::new(), |forward| forward.logits);
        let mut rows = logits.chunks_exact(self.runner.network().config.vocab_size);
        let mut next = Vec::new();
        for mut ahead in all {
            match rows.next().filter(|_| ahead.is_level) {
                Some(row) => {
                    let id = likeliest(row);
                    ahead.branch.guess.push(id);
                    ahead.branch.is_drafted = true;
                    ahead.branch.guess_rate = ahead.branch.pace.rate();
                    ahead.token_ids = vec![id];
                }
                None => ahead.length = 0,
            }
            match ahead.branch.guess.len() < ahead.length {
                true => next.push(ahead),
                false => ahead.branch.draft = Some(ahead.track),
            }
        }
        Ok(next)
    }
}

/// The first of the largest logits.
fn likeliest(logits: &[f32]) -> u32 {
    let best = (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_follows_from_rate_cost_and_company() {
        let length = |rate: f32, cost: f32, n_others: usize| {
            Pace { rate, ..Pace::default() }.length(cost, n_others, 99)
        };
        assert_eq!(length(0.97, 0.02, 0), MAX_AHEAD);
        assert!((1..4).contains(&length(0.7, 0.1, 0)));
        assert_eq!(length(0.2, 0.3, 0), 0, "it does not pay");
        assert_eq!(length(0.9, 0.95, 0), 0, "nor does a model that is not small");
        assert_eq!(length(0.7, 0.1, 15), 0, "nor beside many others");
        assert_eq!(Pace::default().length(0.01, 0, 2), 2);
    }

    #[test]
    fn what_does_not_pay_is_tried_again_later() {
        let mut pace = Pace::default();
        (0..80).for_each(|_| pace.learn(2, 0));
        let tries: Vec<usize> = (0..400).filter(|_| pace.length(0.1, 0, 8) > 0).collect();
        assert_eq!(tries.len(), 3, "{tries:?}");
        (0..40).for_each(|_| pace.learn(2, 2));
        assert!(pace.length(0.1, 0, 8) > 2);
    }
}
