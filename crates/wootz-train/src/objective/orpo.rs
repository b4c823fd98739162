//! Odds-ratio preference optimization: learning the chosen answer, and preferring it, at once and without a reference.
//!
//! Source: Hong, Lee, Thorne 2024, arXiv:2403.07691, eqs. 3 to 7; as in the authors' code and TRL's, odds are of mean
//!         log-probabilities, and what is learned of the chosen side is the whole text with its prompt, a mean over the tokens of
//!         a micro-batch.

use super::{Judged, Judging, Objective, Totals, log_sigmoid, sigmoid};

/// `NLL(chosen) − β·ln σ(ln odds(chosen) − ln odds(rejected))`, `odds(y) = p/(1 − p)` of the mean log-probability `ln p`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Orpo {
    /// β, the paper's λ
    pub beta: f64,
}

impl Objective for Orpo {
    fn name(&self) -> &'static str {
        "orpo"
    }

    fn judge(&self, items: &mut [Judging<'_>], totals: &Totals) -> Judged {
        let n = totals.n_items.max(1) as f64;
        let n_rows: usize = items.iter().map(|item| item.sequences[0].logprobs.len()).sum();
        let each_row = 1.0 / (n_rows.max(1) * totals.n_batches.max(1)) as f64;
        let mut judged = Judged::default();
        for item in items {
            let [chosen, rejected] = &mut item.sequences[..] else { panic!("a pair has two sequences") };
            let each = |scored: &super::Scored<'_>| 1.0 / scored.sequence.n_supervised().max(1) as f64;
            let (good_each, bad_each) = (each(chosen), each(rejected));
            let (good, bad) = (chosen.sum() * good_each, rejected.sum() * bad_each);
            // ln odds = y − ln(1 − eʸ), whose slope is 1/(1 − eʸ).
            let odds = |y: f64| y - (-y.exp()).ln_1p();
            let ratio = odds(good) - odds(bad);
            let all: f64 = chosen.logprobs.iter().map(|&y| f64::from(y)).sum();
            judged.loss += -all * each_row - self.beta * log_sigmoid(ratio) / n;
            let slope = -self.beta * sigmoid(-ratio) / n;
            chosen.slopes.iter_mut().for_each(|at| *at -= each_row as f32);
            chosen.add_slope(slope / (1.0 - good.exp()) * good_each);
            rejected.add_slope(-slope / (1.0 - bad.exp()) * bad_each);
            judged.note("nll_chosen", -good);
            judged.note("log_odds_ratio", ratio);
            judged.note("reward_accuracy", f64::from(u8::from(good > bad)));
        }
        judged
    }
}
