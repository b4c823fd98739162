//! Top-nσ: keep logits within `n` standard deviations of the largest.
//!
//! Where:  [`Sampling::top_n_sigma`](wootz_text::Sampling::top_n_sigma).
//! Idea:   most logits are noise around a mean; those worth keeping stand out by their distance, at any temperature.
//! Source: Tang et al. 2024, "Top-nσ: not all logits are you need".
//!         COMPAT: the deviation is the population's (divided by the count), as in llama.cpp; forbidden tokens do not count.

use super::candidates::Candidates;
use super::rng::Rng;
use super::step::Step;

/// `n`, above 0.
#[derive(Clone)]
pub(super) struct TopNSigma(pub(super) f32);

impl Step for TopNSigma {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        let n = candidates.len() as f64;
        let mean = candidates.logits().iter().map(|&logit| f64::from(logit)).sum::<f64>() / n;
        let squares =
            candidates.logits().iter().map(|&logit| (f64::from(logit) - mean) * (f64::from(logit) - mean));
        let sigma = (squares.sum::<f64>() / n).sqrt();
        let floor = f64::from(candidates.max()) - f64::from(self.0) * sigma;
        candidates.keep(|_, logit| f64::from(logit) >= floor);
    }
}
