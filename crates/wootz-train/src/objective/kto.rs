//! Kahneman-Tversky optimization: answers that are good or bad, each by itself.
//!
//! Source: Ethayarajh et al. 2024, arXiv:2402.01306, eqs. 7 and 8; the distance to the reference is estimated, as there, from
//!         answers to other prompts of the same micro-batch, and no gradient passes through it.

use super::{Judged, Judging, Objective, Totals, sigmoid};
use crate::Kind;

/// `λ·(1 − σ(±(β·(log-ratio − z))))`, z being the distance, at least 0; the mean over the step's answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kto {
    /// β: how much a log-ratio counts
    pub beta: f64,
    /// λ of good answers
    pub good_weight: f64,
    /// λ of bad answers
    pub bad_weight: f64,
}

impl Objective for Kto {
    fn name(&self) -> &'static str {
        "kto"
    }

    fn compares(&self) -> bool {
        true
    }

    fn judge(&self, items: &mut [Judging<'_>], totals: &Totals) -> Judged {
        let n = totals.n_items.max(1) as f64;
        let others: Vec<f64> = items
            .iter()
            .filter_map(|item| item.sequences.get(1))
            .map(|other| other.sum() - other.reference_sum())
            .collect();
        let distance = (others.iter().sum::<f64>() / others.len().max(1) as f64).max(0.0);
        let mut judged = Judged::default();
        for item in items {
            let Kind::Labelled { is_good } = item.kind else { panic!("an answer that is good or not") };
            let answer = &mut item.sequences[0];
            let ratio = answer.sum() - answer.reference_sum();
            let (weight, sign) = if is_good { (self.good_weight, 1.0) } else { (self.bad_weight, -1.0) };
            let value = sigmoid(sign * self.beta * (ratio - distance));
            judged.loss += weight * (1.0 - value) / n;
            answer.add_slope(-weight * sign * self.beta * value * (1.0 - value) / n);
            judged.note(if is_good { "reward_good" } else { "reward_bad" }, self.beta * ratio);
            judged.note("kl", distance);
        }
        judged
    }
}
