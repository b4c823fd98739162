//! Top-k: keep the `k` likeliest tokens.
//!
//! Where:  [`Sampling::top_k`](wootz_text::Sampling::top_k).
//! Idea:   of equally likely tokens at the edge, those with lower ids stay, so that exactly `k` remain.
//! Source: Fan et al. 2018, "Hierarchical neural story generation", §5.4.

use super::candidates::Candidates;
use super::rng::Rng;
use super::step::Step;

/// `k`, at least 1.
#[derive(Clone)]
pub(super) struct TopK(pub(super) usize);

impl Step for TopK {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        candidates.keep_best(self.0);
    }
}
