//! The tokens that may still be chosen, with their logits as far as the chain has changed them.
//!
//! Where:  filled by [`Sampler`](super::Sampler), changed by every [`Step`](super::step::Step).
//! Idea:   candidates stay in the order of their ids, and a step that needs them by likelihood ranks as few as it must:
//!         the usual settings never sort a vocabulary, and a step's result does not depend on which step came before.
//!
//! # Invariants
//! - There is at least one candidate, ids ascend, and logits are finite.

use wootz_text::TokenId;

use super::SampleError;
use super::mask::TokenMask;
use super::ranking::{Ranking, first_largest, largest};
use super::softmax::{Softmax, check};

/// Tokens that may be chosen. Working memory: one serves all choices that are sampled after each other.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    ids: Vec<TokenId>,
    logits: Vec<f32>,
    scores: Vec<f32>,
    ranking: Ranking,
    kept: Vec<usize>,
}

impl Candidates {
    /// No candidates yet; memory grows to 8 bytes per token of the vocabulary, with typical or flat distributions to 28.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts over with all allowed tokens of a row of logits (V) whose logit is above negative infinity.
    pub(super) fn refill(&mut self, logits: &[f32], mask: Option<TokenMask>) -> Result<(), SampleError> {
        check(logits)?;
        self.ids.clear();
        self.logits.clear();
        match mask {
            None => {
                self.ids.extend(0..logits.len() as TokenId);
                self.logits.extend_from_slice(logits);
            }
            Some(mask) => {
                self.ids.extend(mask.ids(logits.len()));
                self.logits.extend(self.ids.iter().map(|&id| logits[id as usize]));
            }
        }
        self.drop_impossible(logits.len())
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn ids(&self) -> &[TokenId] {
        &self.ids
    }

    pub(super) fn logits(&self) -> &[f32] {
        &self.logits
    }

    pub(super) fn max(&self) -> f32 {
        largest(&self.logits)
    }

    pub(super) fn softmax(&self) -> Softmax {
        Softmax::of_checked(&self.logits)
    }

    /// Index of the likeliest, of equals that with the lowest id.
    pub(super) fn best(&self) -> usize {
        first_largest(&self.logits).expect("there is at least one candidate, and logits are finite")
    }

    /// Index of a token.
    pub(super) fn position(&self, id: TokenId) -> Option<usize> {
        match self.ids.get(id as usize) {
            Some(&found) if found == id => Some(id as usize), // nothing below it was dropped yet
            _ => self.ids.binary_search(&id).ok(),
        }
    }

    /// Changes a token's logit, if it is a candidate. Results beyond f32 become its largest and smallest numbers.
    pub(super) fn change(&mut self, id: TokenId, new: impl FnOnce(f64) -> f64) {
        if let Some(i) = self.position(id) {
            let new = new(f64::from(self.logits[i])).clamp(f64::from(f32::MIN), f64::from(f32::MAX));
            self.logits[i] = new as f32;
        }
    }

    /// Changes all logits; `new` must give finite numbers.
    pub(super) fn change_all(&mut self, new: impl Fn(f32) -> f32) {
        for logit in &mut self.logits {
            *logit = new(*logit);
        }
    }

    /// Makes a token impossible; [`Self::drop_impossible`] must follow before any step looks.
    pub(super) fn forbid(&mut self, id: TokenId) {
        if let Some(i) = self.position(id) {
            self.logits[i] = f32::NEG_INFINITY;
        }
    }

    /// Drops those with a logit of negative infinity; an error if these are all. Usually there are none: one cheap pass.
    pub(super) fn drop_impossible(&mut self, vocab_size: usize) -> Result<(), SampleError> {
        let n_impossible: u32 = self.logits.iter().map(|&logit| u32::from(logit == f32::NEG_INFINITY)).sum();
        if n_impossible as usize == self.len() {
            return Err(SampleError::NothingAllowed { vocab_size });
        }
        if n_impossible > 0 {
            self.keep(|_, logit| logit > f32::NEG_INFINITY);
        }
        Ok(())
    }

    /// Keeps candidate `i` alone.
    pub(super) fn keep_one(&mut self, i: usize) {
        (self.ids[0], self.logits[0]) = (self.ids[i], self.logits[i]);
        self.ids.truncate(1);
        self.logits.truncate(1);
    }

    /// Keeps those for whose index and logit `keep` says so; that must be at least one.
    pub(super) fn keep(&mut self, keep: impl Fn(usize, f32) -> bool) {
        let mut n = 0;
        for i in 0..self.ids.len() {
            (self.ids[n], self.logits[n]) = (self.ids[i], self.logits[i]);
            n += usize::from(keep(i, self.logits[i]));
        }
        assert!(n > 0, "a sampler dropped every candidate");
        self.ids.truncate(n);
        self.logits.truncate(n);
    }

    /// Keeps the `k` likeliest.
    pub(super) fn keep_best(&mut self, k: usize) {
        if k < self.len() {
            self.ranking.best(&self.logits, k);
            self.keep_ranked(k);
        }
    }

    /// Keeps the fewest likeliest whose probabilities reach `p`.
    pub(super) fn keep_best_mass(&mut self, p: f64) {
        let softmax = self.softmax();
        let weight = |i: usize| softmax.mass(self.logits[i]);
        let n = self.ranking.best_reaching(&self.logits, p * softmax.total(), weight);
        self.keep_ranked(n);
    }

    /// Keeps the fewest with the largest `score` of their logit whose probabilities reach `p`.
    pub(super) fn keep_scored_mass(&mut self, p: f64, score: impl Fn(f32) -> f32) {
        let softmax = self.softmax();
        self.scores.clear();
        self.scores.extend(self.logits.iter().map(|&logit| score(logit)));
        let weight = |i: usize| softmax.mass(self.logits[i]);
        let n = self.ranking.best_reaching(&self.scores, p * softmax.total(), weight);
        self.keep_ranked(n);
    }

    /// Logits of the `k` likeliest, likeliest first.
    pub(super) fn best_logits(&mut self, k: usize) -> impl Iterator<Item = f32> {
        self.ranking.best(&self.logits, k);
        self.ranking.indices().map(|i| self.logits[i])
    }

    /// The `k` likeliest with their logits, likeliest first.
    pub(super) fn best_pairs(&mut self, k: usize) -> impl Iterator<Item = (TokenId, f32)> {
        self.ranking.best(&self.logits, k);
        self.ranking.indices().map(|i| (self.ids[i], self.logits[i]))
    }

    /// Keeps the first `n` of the ranking.
    fn keep_ranked(&mut self, n: usize) {
        self.kept.clear();
        self.kept.extend(self.ranking.indices().take(n));
        self.kept.sort_unstable();
        for (to, &from) in self.kept.iter().enumerate() {
            (self.ids[to], self.logits[to]) = (self.ids[from], self.logits[from]);
        }
        self.ids.truncate(n);
        self.logits.truncate(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(logits: &[f32]) -> Candidates {
        let mut candidates = Candidates::new();
        candidates.refill(logits, None).unwrap();
        candidates
    }

    #[test]
    fn impossible_and_forbidden_tokens_are_dropped() {
        let mut candidates = candidates(&[1.0, f32::NEG_INFINITY, 3.0]);
        assert_eq!((candidates.ids(), candidates.logits()), ([0, 2].as_slice(), [1.0, 3.0].as_slice()));
        assert_eq!([0, 1, 2, 9].map(|id| candidates.position(id)), [Some(0), None, Some(1), None]);
        candidates.refill(&[1.0, 2.0, 3.0], Some(TokenMask::new(&[0b1011]))).unwrap();
        assert_eq!(candidates.ids(), [0, 1]);
        let refused = candidates.refill(&[1.0, f32::NEG_INFINITY], Some(TokenMask::new(&[2])));
        assert_eq!(refused, Err(SampleError::NothingAllowed { vocab_size: 2 }));
    }

    #[test]
    fn what_is_kept_stays_in_the_order_of_ids() {
        let mut kept = candidates(&[1.0, 4.0, 2.0, 4.0, 3.0]);
        kept.keep_best(3);
        assert_eq!((kept.ids(), kept.logits()), ([1, 3, 4].as_slice(), [4.0, 4.0, 3.0].as_slice()));
        assert_eq!(kept.ids()[kept.best()], 1);
        kept.keep_best_mass(0.1);
        assert_eq!(kept.ids(), [1]);
        let mut kept = candidates(&[1.0, 4.0, 2.0]);
        kept.forbid(1);
        kept.drop_impossible(3).unwrap();
        kept.change(2, |_| f64::INFINITY);
        assert_eq!((kept.ids(), kept.logits()), ([0, 2].as_slice(), [1.0, f32::MAX].as_slice()));
        kept.keep_one(1);
        assert_eq!(kept.ids(), [2]);
    }
}
