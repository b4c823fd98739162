//! Probabilities of logits, computed where they are needed and stored nowhere.
//!
//! Where:  samplers, searches, and the log-probabilities that are reported.
//! Idea:   one pass finds the sum of `exp(logit - max)`; after that any probability is one exponential away. Sums go block by
//!         block in f64, always in the same order.

use wootz_text::TokenId;

use super::SampleError;
use super::exp::{exp, ln};
use super::ranking::{Ranking, largest};

/// The normaliser of a row of logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Softmax {
    max: f32,
    total: f64,
    ln_total: f64,
}

/// Logits whose masses are added in f32 before the sum goes to f64.
const BLOCK: usize = 256;

impl Softmax {
    /// Of a row of a model's logits (V). O(V), no allocation.
    ///
    /// # Errors
    /// A logit is NaN or positive infinity, or none is above negative infinity.
    pub fn of(logits: &[f32]) -> Result<Self, SampleError> {
        check(logits)?;
        if logits.iter().all(|&logit| logit == f32::NEG_INFINITY) {
            return Err(SampleError::NothingAllowed { vocab_size: logits.len() });
        }
        Ok(Self::of_checked(logits))
    }

    /// Natural logarithm of the probability of a token with this logit.
    pub fn logprob(&self, logit: f32) -> f32 {
        self.ln_probability(logit) as f32
    }

    /// The `k` likeliest tokens of the row with their log-probabilities, likeliest first; those of probability 0 are left out.
    pub fn top(&self, logits: &[f32], k: usize) -> Vec<(TokenId, f32)> {
        let mut ranking = Ranking::default();
        ranking.best(logits, k);
        let possible = ranking.indices().filter(|&i| logits[i] > f32::NEG_INFINITY);
        possible.map(|i| (i as TokenId, self.logprob(logits[i]))).collect()
    }

    /// Of logits of which at least one is finite and none is NaN or positive infinity.
    pub(super) fn of_checked(logits: &[f32]) -> Self {
        let max = largest(logits);
        let total = logits.chunks(BLOCK).map(|block| mass(block, max)).sum();
        Self { max, total, ln_total: ln(total) }
    }

    pub(super) fn ln_probability(&self, logit: f32) -> f64 {
        f64::from(logit) - f64::from(self.max) - self.ln_total
    }

    /// The probability, times [`Self::total`].
    pub(super) fn mass(&self, logit: f32) -> f64 {
        f64::from(exp(logit - self.max))
    }

    /// The sum of all masses, at least 1.
    pub(super) fn total(&self) -> f64 {
        self.total
    }

    /// The probability of a token with this logit.
    pub(super) fn probability(&self, logit: f32) -> f64 {
        self.mass(logit) / self.total
    }

    /// `-Σ p ln p`, in nats.
    pub(super) fn entropy(&self, logits: &[f32]) -> f64 {
        // -ln p = ln(total) - (logit - max); a mass of 0 adds nothing, however large its logarithm.
        let surprise_times_mass = |&logit: &f32| match self.mass(logit) {
            0.0 => 0.0,
            mass => mass * (f64::from(self.max) - f64::from(logit)),
        };
        self.ln_total + logits.iter().map(surprise_times_mass).sum::<f64>() / self.total
    }

    /// The index at which the running sum of probabilities passes `u`, in [0, 1).
    pub(super) fn index_at(&self, logits: &[f32], u: f64) -> usize {
        let mut left = u * self.total;
        let mut last_possible = 0;
        for (block_idx, block) in logits.chunks(BLOCK).enumerate() {
            let block_mass = mass(block, self.max);
            if left >= block_mass {
                left -= block_mass;
                continue;
            }
            for (i, &logit) in block.iter().enumerate() {
                let mass = self.mass(logit);
                if mass > 0.0 {
                    last_possible = block_idx * BLOCK + i;
                    if left < mass {
                        return last_possible;
                    }
                }
                left -= mass;
            }
            return last_possible; // the block's mass, added in another order, was a little larger
        }
        logits.iter().rposition(|&logit| self.mass(logit) > 0.0).unwrap_or(0) // `u` rounds to all of it
    }
}

/// Refuses NaN and positive infinity.
pub(super) fn check(logits: &[f32]) -> Result<(), SampleError> {
    let is_bad = |logit: f32| logit.is_nan() || logit == f32::INFINITY;
    let n_bad: u32 = logits.iter().map(|&logit| u32::from(is_bad(logit))).sum();
    if n_bad == 0 {
        return Ok(());
    }
    let id = logits.iter().position(|&logit| is_bad(logit)).expect("one was counted");
    Err(SampleError::BadLogit { id: id as TokenId, value: logits[id] })
}

fn mass(block: &[f32], max: f32) -> f64 {
    let (chunks, rest) = block.as_chunks::<16>();
    let mut lanes = [0.0_f32; 16];
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane += exp(logit - max);
        }
    }
    lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>()
        + rest.iter().map(|&logit| f64::from(exp(logit - max))).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::super::rng::Rng;
    use super::*;

    fn logits(n: usize) -> Vec<f32> {
        let mut rng = Rng::new(3, 0);
        (0..n).map(|_| (rng.uniform() * 20.0 - 10.0) as f32).collect()
    }

    #[test]
    fn probabilities_and_entropy_agree_with_f64() {
        for n in [1, 2, 17, 256, 257, 5000] {
            let logits = logits(n);
            let softmax = Softmax::of(&logits).unwrap();
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
            let mut entropy = 0.0;
            for &logit in &logits {
                let p = f64::from(logit - max).exp() / total;
                entropy -= p * p.ln();
                assert!((softmax.probability(logit) - p).abs() < 1e-6 * p);
                assert!((f64::from(softmax.logprob(logit)) - p.ln()).abs() < 2e-6);
            }
            assert!((softmax.entropy(&logits) - entropy).abs() < 1e-6 * entropy.max(1.0), "n = {n}");
        }
    }

    #[test]
    fn an_index_is_found_for_every_u() {
        let logits = [f32::NEG_INFINITY, 0.0, f32::MIN, 0.0, -200.0];
        let softmax = Softmax::of(&logits).unwrap();
        for (u, want) in [(0.0, 1), (0.49, 1), (0.5, 3), (1.0 - f64::EPSILON / 2.0, 3)] {
            assert_eq!(softmax.index_at(&logits, u), want, "u = {u}");
        }
        let logits = self::logits(3000);
        let softmax = Softmax::of(&logits).unwrap();
        let mut sum = 0.0;
        for (i, &logit) in logits.iter().enumerate() {
            let p = softmax.probability(logit);
            if p > 1e-6 {
                assert_eq!(softmax.index_at(&logits, sum + p / 2.0), i);
            }
            sum += p;
        }
        assert_eq!(
            softmax.top(&logits, 1)[0].0 as usize,
            super::super::ranking::first_largest(&logits).unwrap()
        );
    }

    #[test]
    fn bad_logits_are_named() {
        let bad = |logits: &[f32]| Softmax::of(logits).unwrap_err().to_string();
        assert_eq!(
            bad(&[0.0, f32::NAN]),
            "logits: expected finite numbers or negative infinity, got NaN for token 1"
        );
        assert!(bad(&[f32::INFINITY, 0.0]).contains("got inf for token 0"));
        assert!(bad(&[f32::NEG_INFINITY; 2]).contains("no token is allowed"));
        assert!(bad(&[]).contains("no token is allowed"));
    }
}
