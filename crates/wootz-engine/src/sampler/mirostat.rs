//! Mirostat: hold the surprise of chosen tokens at a target by feedback.
//!
//! Where:  [`Sampling::mirostat`](wootz_text::Sampling::mirostat); the last step, in place of all truncation.
//! Idea:   a bound `mu` on the surprise rises when chosen tokens were less surprising than the target and falls when they
//!         were more. Version 1 turns the bound into a top-k by Zipf's law, version 2 cuts at it.
//! Source: Basu et al. 2021, "Mirostat", alg. 1; version 2 from the authors' code.
//!         The surprise fed back is that of the distribution before the cut, as in the paper (llama.cpp takes it after the cut).

use std::f64::consts::LN_2;

use wootz_text::{Mirostat, MirostatVersion};

use super::candidates::Candidates;
use super::exp::{ln, pow};
use super::rng::Rng;
use super::softmax::Softmax;
use super::step::Step;

/// Tokens from which version 1 estimates Zipf's exponent.
const N_ZIPF: usize = 100;

/// The cut with its feedback.
#[derive(Clone)]
pub(super) struct MirostatCut {
    settings: Mirostat,
    vocab_size: usize,
    /// Largest surprise allowed, in bits.
    pub(super) mu: f64,
    /// Of the distribution before the last cut.
    softmax: Option<Softmax>,
}

impl MirostatCut {
    pub(super) fn new(settings: Mirostat, vocab_size: usize) -> Self {
        Self { settings, vocab_size, mu: 2.0 * f64::from(settings.tau), softmax: None }
    }
}

impl Step for MirostatCut {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        let softmax = candidates.softmax();
        self.softmax = Some(softmax);
        match self.settings.version {
            MirostatVersion::V1 => {
                let k = zipf_k(zipf_exponent(candidates), self.mu, self.vocab_size);
                candidates.keep_best(k);
            }
            MirostatVersion::V2 => {
                let best = candidates.best();
                candidates.keep(|i, logit| i == best || surprise(softmax, logit) <= self.mu);
            }
        }
    }

    fn drew(&mut self, logit: f32) {
        let Some(softmax) = self.softmax else { return };
        self.mu -= f64::from(self.settings.eta) * (surprise(softmax, logit) - f64::from(self.settings.tau));
    }
}

/// In bits.
fn surprise(softmax: Softmax, logit: f32) -> f64 {
    -softmax.ln_probability(logit) / LN_2
}

/// The exponent `s` for which `probability ∝ rank^-s` fits the likeliest tokens best.
fn zipf_exponent(candidates: &mut Candidates) -> f64 {
    let logits: Vec<f32> = candidates.best_logits(N_ZIPF).collect();
    let (mut sum_tb, mut sum_tt) = (0.0, 0.0);
    for (rank, pair) in (1_u32..).zip(logits.windows(2)) {
        let t = ln(f64::from(rank + 1) / f64::from(rank));
        let b = f64::from(pair[0]) - f64::from(pair[1]); // ln of the ratio of their probabilities
        sum_tb += t * b;
        sum_tt += t * t;
    }
    if sum_tt == 0.0 { 0.0 } else { sum_tb / sum_tt }
}

/// How many tokens have a surprise below `mu` if probabilities follow Zipf's law; at least 1.
fn zipf_k(s: f64, mu: f64, vocab_size: usize) -> usize {
    let (epsilon, n) = (s - 1.0, vocab_size as f64);
    // (1 - n^-ε) / ε, which is ln n where ε is 0.
    let harmonic = if epsilon.abs() < 1e-9 { ln(n) } else { (1.0 - pow(n, -epsilon)) / epsilon };
    let k_to_the_s = pow(2.0, mu) / harmonic.max(f64::MIN_POSITIVE);
    if s < 1e-9 {
        return if k_to_the_s < 1.0 { 1 } else { vocab_size }; // the limit of the root below
    }
    let k = if k_to_the_s.is_normal() { pow(k_to_the_s, 1.0 / s) } else { k_to_the_s };
    (k as usize).clamp(1, vocab_size.max(1)) // `as` saturates: infinity is the whole vocabulary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipfs_exponent_is_recovered() {
        for s in [0.5, 1.0, 1.7] {
            let logits: Vec<f32> = (1..500).map(|rank| (-s * f64::from(rank).ln()) as f32).collect();
            let mut candidates = Candidates::new();
            candidates.refill(&logits, None).unwrap();
            assert!((zipf_exponent(&mut candidates) - s).abs() < 1e-4);
        }
    }

    #[test]
    fn k_is_always_within_the_vocabulary() {
        for s in [0.0, 1e-12, 1e-6, 0.5, 1.0, 1.0 + 1e-12, 2.0, 1e3, f64::from(f32::MAX)] {
            for mu in [-1e9, -5.0, 0.0, 3.0, 10.0, 1e9] {
                for vocab_size in [1, 2, 50_000] {
                    let k = zipf_k(s, mu, vocab_size);
                    assert!((1..=vocab_size).contains(&k), "s = {s}, mu = {mu}: {k}");
                }
            }
        }
        assert_eq!(zipf_k(1.0, 10.0, 50_000), 94); // 2^10 / ln 50000
    }
}
