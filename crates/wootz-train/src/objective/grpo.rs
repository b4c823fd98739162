//! Group-relative policy optimization: sampled answers, better or worse than their group.
//!
//! Source: Shao et al. 2024, arXiv:2402.03300, eqs. 3 and 4; normalised by tokens: DAPO, Yu et al. 2025, arXiv:2503.14476, eq. 8, also the
//!         source of unequal clips; by a constant: Liu et al. 2025, arXiv:2503.20783.

use super::{Judged, Judging, Objective, Totals};
use crate::Kind;

/// What the sum over tokens is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpoNorm {
    /// Each answer's tokens, then the answers (`grpo`)
    Sequences,
    /// All tokens of the step (`dapo`)
    Tokens,
    /// The tokens of each micro-batch (`bnpo`)
    BatchTokens,
    /// So many tokens an answer (`dr_grpo`)
    Constant {
        /// The longest that an answer may be
        n_tokens: usize,
    },
}

/// `−min(r·A, clip(r, 1 − ε₀, 1 + ε₁)·A) + β·[r]·(eᵈ − d − 1)` a token, `r = e^(log p − log p_sampled)`, `d = log p_ref − log p`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grpo {
    /// Weight of the distance to the reference; 0 needs none
    pub beta: f64,
    /// How far a ratio may fall below and rise above 1
    pub clip: [f64; 2],
    /// What the sum over tokens is divided by
    pub norm: GrpoNorm,
    /// Whether the distance counts r times, as under the sampling distribution (TRL's default); the factor has a slope
    pub kl_times_ratio: bool,
}

/// How much better each answer of a group is than the group: `(r − mean)/(σ + 10⁻⁴)`, or without the division (arXiv:2503.20783).
pub fn advantages(rewards: &[f64], scaled: bool) -> Vec<f32> {
    let n = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / n;
    let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let by = if scaled { variance.sqrt() + 1e-4 } else { 1.0 };
    rewards.iter().map(|r| ((r - mean) / by) as f32).collect()
}

impl Grpo {
    /// Loss of one token and its slope along its log-probability.
    fn of_token(&self, logprob: f64, sampled: f64, reference: Option<f64>, advantage: f64) -> (f64, f64) {
        let ratio = (logprob - sampled).exp();
        let clipped = ratio.clamp(1.0 - self.clip[0], 1.0 + self.clip[1]);
        let (mut loss, mut slope) = match ratio * advantage <= clipped * advantage {
            true => (-ratio * advantage, -ratio * advantage),
            false => (-clipped * advantage, 0.0),
        };
        if let Some(reference) = reference {
            let d = reference - logprob;
            let distance = d.exp() - d - 1.0;
            let (times, times_slope) = if self.kl_times_ratio { (ratio, ratio) } else { (1.0, 0.0) };
            loss += self.beta * times * distance;
            slope += self.beta * (times * (1.0 - d.exp()) + times_slope * distance);
        }
        (loss, slope)
    }
}

impl Objective for Grpo {
    fn name(&self) -> &'static str {
        "grpo"
    }

    fn compares(&self) -> bool {
        self.beta != 0.0
    }

    fn judge(&self, items: &mut [Judging<'_>], totals: &Totals) -> Judged {
        let n_items = totals.n_items.max(1) as f64;
        let in_batch: usize = items.iter().map(|item| item.sequences[0].sequence.n_supervised()).sum();
        let mut judged = Judged::default();
        for item in items {
            let Kind::Rewarded { advantage } = item.kind else { panic!("an answer with a reward") };
            let answer = &mut item.sequences[0];
            let sequence = answer.sequence;
            let each = 1.0
                / match self.norm {
                    GrpoNorm::Sequences => n_items * sequence.n_supervised().max(1) as f64,
                    GrpoNorm::Tokens => totals.n_supervised.max(1) as f64,
                    GrpoNorm::BatchTokens => (in_batch.max(1) * totals.n_batches.max(1)) as f64,
                    GrpoNorm::Constant { n_tokens } => n_items * n_tokens as f64,
                };
            let reference = sequence.reference.as_deref().filter(|_| self.compares());
            let mut distance = 0.0;
            for (row, &logprob) in answer.logprobs.iter().enumerate() {
                if !sequence.is_supervised(row) {
                    continue;
                }
                let logprob = f64::from(logprob);
                let sampled = sequence.sampled.as_ref().map_or(logprob, |sampled| f64::from(sampled[row]));
                let reference = reference.map(|reference| f64::from(reference[row]));
                let (loss, slope) = self.of_token(logprob, sampled, reference, f64::from(advantage));
                judged.loss += loss * each;
                answer.slopes[row] += (slope * each) as f32;
                distance += reference
                    .map_or(0.0, |reference| (reference - logprob).exp() - (reference - logprob) - 1.0);
            }
            judged.note("kl", distance / sequence.n_supervised().max(1) as f64);
        }
        judged
    }
}
