//! Exclude top choices: sometimes remove all tokens above a threshold but the least likely of them.
//!
//! Where:  [`Sampling::xtc`](wootz_text::Sampling::xtc).
//! Idea:   where several tokens are good, the most obvious ones make dull text; at least one good token always stays.
//! Source: p-e-w 2024, text-generation-webui, pull request 6335.

use wootz_text::Xtc;

use super::candidates::Candidates;
use super::rng::Rng;
use super::step::Step;

/// Takes one random number per token, whether it acts or not.
#[derive(Clone)]
pub(super) struct XtcCut(pub(super) Xtc);

impl Step for XtcCut {
    fn apply(&mut self, candidates: &mut Candidates, rng: &mut Rng) {
        if rng.uniform() >= f64::from(self.0.probability) {
            return;
        }
        let softmax = candidates.softmax();
        let is_top = |logit: f32| softmax.probability(logit) >= f64::from(self.0.threshold);
        let tops = candidates.logits().iter().enumerate().filter(|&(_, &logit)| is_top(logit));
        // Of equally unlikely ones the last stays: they are ranked by id.
        let least = tops.reduce(|least, top| if top.1 <= least.1 { top } else { least });
        if let Some((least, _)) = least {
            candidates.keep(|i, logit| i == least || !is_top(logit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_top_choices_the_last_stays() {
        let mut candidates = Candidates::new();
        candidates.refill(&[1.0, 3.0, 2.0, 2.0, 0.0], None).unwrap();
        XtcCut(Xtc { probability: 1.0, threshold: 0.1 }).apply(&mut candidates, &mut Rng::new(0, 0));
        assert_eq!(candidates.ids(), [0, 3, 4]);
    }
}
