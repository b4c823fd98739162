//! Min-p: keep tokens at least `p` times as likely as the likeliest.
//!
//! Where:  [`Sampling::min_p`](wootz_text::Sampling::min_p).
//! Idea:   a ratio of probabilities is a difference of logits, so no probability is computed.
//! Source: Nguyen et al. 2024, "Turning up the heat: min-p sampling".

use super::candidates::Candidates;
use super::exp::ln;
use super::rng::Rng;
use super::step::Step;

/// `p`, above 0 and at most 1.
#[derive(Clone)]
pub(super) struct MinP(pub(super) f32);

impl Step for MinP {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        let floor = f64::from(candidates.max()) + ln(f64::from(self.0));
        candidates.keep(|_, logit| f64::from(logit) >= floor);
    }
}
