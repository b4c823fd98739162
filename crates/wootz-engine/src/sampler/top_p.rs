//! Top-p: keep the fewest likeliest tokens whose probabilities reach `p`.
//!
//! Where:  [`Sampling::top_p`](wootz_text::Sampling::top_p).
//! Idea:   the nucleus is small where the model is sure and large where it is not.
//! Source: Holtzman et al. 2020, "The curious case of neural text degeneration", §3.1.

use super::candidates::Candidates;
use super::rng::Rng;
use super::step::Step;

/// `p`, above 0 and below 1.
#[derive(Clone)]
pub(super) struct TopP(pub(super) f32);

impl Step for TopP {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        candidates.keep_best_mass(f64::from(self.0));
    }
}
