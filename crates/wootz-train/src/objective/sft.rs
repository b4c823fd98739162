//! Next-token prediction: the mean negative log-probability of the supervised tokens of the whole step.

use super::{Judged, Judging, Objective, Totals};

/// `−Σ log p / n`, `n` being the supervised tokens of all micro-batches of the step, so that accumulation is no setting of the
/// loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sft;

impl Objective for Sft {
    fn name(&self) -> &'static str {
        "sft"
    }

    fn judge(&self, items: &mut [Judging<'_>], totals: &Totals) -> Judged {
        let n = totals.n_supervised.max(1) as f64;
        let mut judged = Judged::default();
        for scored in items.iter_mut().flat_map(|item| &mut item.sequences) {
            judged.loss -= scored.sum() / n;
            scored.add_slope(-1.0 / n);
        }
        judged
    }
}
