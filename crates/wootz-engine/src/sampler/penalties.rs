//! Penalties on tokens that occurred already: repetition, presence, frequency.
//!
//! Where:  [`Sampling::penalties`](wootz_text::Sampling::penalties).
//! Idea:   counts of the last `last_n` tokens are kept up to date, so that a token costs one step per distinct token seen.
//! Source: Keskar et al. 2019, CTRL, §4.1 (repetition); OpenAI's API (presence, frequency).
//!         COMPAT: a logit of 0 or below is multiplied instead of divided, as in transformers and llama.cpp; repetition comes
//!         first, then frequency and presence.

use std::collections::{HashMap, VecDeque};

use wootz_text::{Penalties, TokenId};

use super::candidates::Candidates;
use super::rng::Rng;
use super::step::Step;

/// Penalties with the counts that they need.
#[derive(Clone)]
pub(super) struct OccurrencePenalties {
    settings: Penalties,
    counts: HashMap<TokenId, u32>,
    /// The last `last_n` tokens; empty if all count.
    window: VecDeque<TokenId>,
}

impl OccurrencePenalties {
    pub(super) fn new(settings: Penalties) -> Self {
        Self { settings, counts: HashMap::new(), window: VecDeque::new() }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.window.pop_front() else { return };
        if let Some(count) = self.counts.get_mut(&oldest) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
    }
}

impl Step for OccurrencePenalties {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        let Penalties { repetition, presence, frequency, .. } = self.settings;
        let [repetition, presence, frequency] = [repetition, presence, frequency].map(f64::from);
        for (&id, &count) in &self.counts {
            candidates.change(id, |logit| {
                let repeated = if logit > 0.0 { logit / repetition } else { logit * repetition };
                repeated - (f64::from(count) * frequency + presence)
            });
        }
    }

    fn accept(&mut self, id: TokenId) {
        *self.counts.entry(id).or_default() += 1;
        if let Some(last_n) = self.settings.last_n {
            self.window.push_back(id);
            if self.window.len() > last_n {
                self.forget_oldest();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_window() {
        let settings = Penalties { frequency: 1.0, last_n: Some(3), ..Penalties::default() };
        let mut penalties = OccurrencePenalties::new(settings);
        for id in [5, 5, 6, 5, 7] {
            penalties.accept(id);
        }
        let mut counts: Vec<_> = penalties.counts.into_iter().collect();
        counts.sort_unstable();
        assert_eq!(counts, [(5, 1), (6, 1), (7, 1)]);
    }
}
