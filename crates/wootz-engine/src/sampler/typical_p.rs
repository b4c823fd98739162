//! Locally typical sampling: keep tokens whose surprise is nearest to the expected one, up to a mass of `p`.
//!
//! Where:  [`Sampling::typical_p`](wootz_text::Sampling::typical_p).
//! Idea:   people say neither the most expected word nor the most surprising; this may drop the likeliest token.
//! Source: Meister et al. 2023, "Locally typical sampling".

use super::candidates::Candidates;
use super::rng::Rng;
use super::step::Step;

/// `p`, above 0 and below 1.
#[derive(Clone)]
pub(super) struct TypicalP(pub(super) f32);

impl Step for TypicalP {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        let softmax = candidates.softmax();
        let entropy = softmax.entropy(candidates.logits());
        let ln_p_of_0 = softmax.ln_probability(0.0);
        let typicality = |logit: f32| -((ln_p_of_0 + f64::from(logit) + entropy).abs() as f32);
        candidates.keep_scored_mass(f64::from(self.0), typicality);
    }
}
