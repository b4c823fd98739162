//! Direct preference optimization and its kin: the chosen answer above the rejected one, measured from a reference.
//!
//! Source: DPO: Rafailov et al. 2023, arXiv:2305.18290, eq. 7; label smoothing (cDPO): Mitchell 2023; hinge (SLiC): Zhao et al.
//!         2023, arXiv:2305.10425; IPO: Azar et al. 2023, arXiv:2310.12036, eq. 17, over mean log-probabilities as its authors
//!         advised TRL; SimPO: Meng et al. 2024, arXiv:2405.14734, eq. 6; the weight of the chosen answer's own loss: RPO, Pang et al. 2024,
//!         arXiv:2404.19733.

use super::{Judged, Judging, Objective, Scored, Totals, log_sigmoid, sigmoid};

/// How the margin of a pair becomes a loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PreferenceLoss {
    /// `−ln σ(β·h)`
    Sigmoid,
    /// `max(0, 1 − β·h)`
    Hinge,
    /// `(h − 1/(2β))²` over means
    Ipo,
    /// `−ln σ(β·h − γ)` over means and without a reference
    SimPo {
        /// The margin that is asked for
        gamma: f64,
    },
}

/// A loss of pairs; the mean over the step's pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpo {
    /// β: how much a log-ratio counts
    pub beta: f64,
    /// How the margin becomes a loss
    pub loss: PreferenceLoss,
    /// The share of pairs that are taken to be labelled wrongly, in 0..0.5
    pub label_smoothing: f64,
    /// Weight of the chosen answers' mean negative log-probability beside it
    pub sft_weight: f64,
}

impl Dpo {
    fn is_mean(&self) -> bool {
        matches!(self.loss, PreferenceLoss::Ipo | PreferenceLoss::SimPo { .. })
    }

    /// An answer's reward over β, and what one row's log-probability adds to it.
    fn reward(&self, scored: &Scored<'_>) -> (f64, f64) {
        let each = if self.is_mean() { 1.0 / scored.sequence.n_supervised().max(1) as f64 } else { 1.0 };
        let reference = if self.compares() { scored.reference_sum() } else { 0.0 };
        ((scored.sum() - reference) * each, each)
    }

    /// Loss of a margin and its slope.
    fn of_margin(&self, h: f64) -> (f64, f64) {
        let Self { beta, label_smoothing: wrong, .. } = *self;
        let smooth = |x: f64| {
            let loss = -(1.0 - wrong) * log_sigmoid(x) - wrong * log_sigmoid(-x);
            (loss, wrong * sigmoid(x) - (1.0 - wrong) * sigmoid(-x))
        };
        match self.loss {
            PreferenceLoss::Sigmoid => {
                let (loss, slope) = smooth(beta * h);
                (loss, beta * slope)
            }
            PreferenceLoss::SimPo { gamma } => {
                let (loss, slope) = smooth(beta * h - gamma);
                (loss, beta * slope)
            }
            PreferenceLoss::Hinge => {
                let room = 1.0 - beta * h;
                (room.max(0.0), if room > 0.0 { -beta } else { 0.0 })
            }
            PreferenceLoss::Ipo => {
                let off = h - 1.0 / (2.0 * beta);
                (off * off, 2.0 * off)
            }
        }
    }
}

impl Objective for Dpo {
    fn name(&self) -> &'static str {
        match self.loss {
            PreferenceLoss::Sigmoid => "dpo",
            PreferenceLoss::Hinge => "hinge",
            PreferenceLoss::Ipo => "ipo",
            PreferenceLoss::SimPo { .. } => "simpo",
        }
    }

    fn compares(&self) -> bool {
        !matches!(self.loss, PreferenceLoss::SimPo { .. })
    }

    fn judge(&self, items: &mut [Judging<'_>], totals: &Totals) -> Judged {
        let n = totals.n_items.max(1) as f64;
        let mut judged = Judged::default();
        for item in items {
            let [chosen, rejected] = &mut item.sequences[..] else { panic!("a pair has two sequences") };
            let ((good, good_each), (bad, bad_each)) = (self.reward(chosen), self.reward(rejected));
            let (loss, slope) = self.of_margin(good - bad);
            judged.loss += loss / n;
            chosen.add_slope(slope * good_each / n);
            rejected.add_slope(-slope * bad_each / n);
            if self.sft_weight != 0.0 {
                let each = self.sft_weight / chosen.sequence.n_supervised().max(1) as f64 / n;
                judged.loss -= each * chosen.sum();
                chosen.add_slope(-each);
            }
            judged.note("reward_chosen", self.beta * good);
            judged.note("reward_rejected", self.beta * bad);
            judged.note("reward_margin", self.beta * (good - bad));
            judged.note("reward_accuracy", f64::from(u8::from(good > bad)));
        }
        judged
    }
}
