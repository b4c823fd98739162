//! What is to be minimised: one file for each loss, a function of per-token log-probabilities.
//!
//! Where:  asked by the [`Trainer`](crate::Trainer) between the forward and the backward half of each run.
//! Idea:   every loss of sequences depends on the model through one number a row, the log-probability of its target. So a loss
//!         says its value and its slope along each of these numbers, and knows neither graphs nor batches.

mod dpo;
mod grpo;
mod kto;
mod orpo;
mod sft;

pub use dpo::{Dpo, PreferenceLoss};
pub use grpo::{Grpo, GrpoNorm, advantages};
pub use kto::Kto;
pub use orpo::Orpo;
pub use sft::Sft;

use crate::sequence::{MicroBatch, Sequence};
use crate::{Item, Kind};

/// One sequence with what the model gives its rows.
#[derive(Debug)]
pub struct Scored<'a> {
    /// Its tokens
    pub sequence: &'a Sequence,
    /// Log-probability of each row's target, in nats
    pub logprobs: &'a [f32],
    /// The loss's slope along each of them, 0 before
    pub slopes: &'a mut [f32],
}

impl Scored<'_> {
    /// The sum over supervised rows.
    pub fn sum(&self) -> f64 {
        self.sum_of(self.logprobs)
    }

    /// The sum of others' log-probabilities over supervised rows.
    pub fn sum_of(&self, logprobs: &[f32]) -> f64 {
        let rows = logprobs.iter().enumerate();
        rows.filter(|(row, _)| self.sequence.is_supervised(*row)).map(|(_, y)| f64::from(*y)).sum()
    }

    /// The sum of the reference's over supervised rows.
    ///
    /// # Panics
    /// If there is none: whoever feeds an objective that compares brings one.
    pub fn reference_sum(&self) -> f64 {
        self.sum_of(self.sequence.reference.as_deref().expect("scored by the reference before"))
    }

    /// Adds the same slope to every supervised row.
    pub fn add_slope(&mut self, slope: f64) {
        for (row, at) in self.slopes.iter_mut().enumerate() {
            if self.sequence.is_supervised(row) {
                *at += slope as f32;
            }
        }
    }
}

/// A number that people watch beside the loss, such as the share of pairs that are ranked right; averaged over items.
pub type Metric = (&'static str, f64);

/// Loss and metrics of one micro-batch, summed over its items.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// Its part of the step's loss
    pub loss: f64,
    /// Sums over items
    pub metrics: Vec<Metric>,
}

impl Judged {
    /// With another micro-batch of the same step.
    pub(crate) fn add(&mut self, other: Self) {
        self.loss += other.loss;
        other.metrics.into_iter().for_each(|(name, sum)| self.note(name, sum));
    }

    /// The step's loss, and metrics as means over its items.
    pub(crate) fn means(mut self, n_items: usize) -> (f64, Vec<Metric>) {
        self.metrics.iter_mut().for_each(|(_, sum)| *sum /= n_items.max(1) as f64);
        (self.loss, self.metrics)
    }

    fn note(&mut self, name: &'static str, by: f64) {
        match self.metrics.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += by,
            None => self.metrics.push((name, by)),
        }
    }
}

/// What all micro-batches of one step have together, by which losses are normalised.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Supervised rows
    pub n_supervised: usize,
    /// Items
    pub n_items: usize,
    /// Micro-batches
    pub n_batches: usize,
}

impl Totals {
    /// Of the micro-batches of one step.
    pub fn of(batches: &[MicroBatch]) -> Self {
        Self {
            n_supervised: batches.iter().map(MicroBatch::n_supervised).sum(),
            n_items: batches.iter().map(|batch| batch.items.len()).sum(),
            n_batches: batches.len(),
        }
    }
}

/// A loss.
pub trait Objective: Send {
    /// `sft`, `dpo`.
    fn name(&self) -> &'static str;

    /// Whether sequences must bring the log-probabilities of a reference model.
    fn compares(&self) -> bool {
        false
    }

    /// Adds the slopes of one micro-batch's items and says their loss. `items` and `scored` belong together: an item has as
    /// many sequences as its kind says.
    fn judge(&self, items: &mut [Judging<'_>], totals: &Totals) -> Judged;
}

/// An item with its sequences scored.
#[derive(Debug)]
pub struct Judging<'a> {
    /// How they are judged
    pub kind: Kind,
    /// In the item's order
    pub sequences: Vec<Scored<'a>>,
}

/// Cuts a micro-batch's rows into items and asks the objective.
pub(crate) fn judge(
    objective: &dyn Objective,
    batch: &MicroBatch,
    totals: &Totals,
    mut logprobs: &[f32],
    mut slopes: &mut [f32],
) -> Judged {
    slopes.fill(0.0);
    let mut cut = |item: &Item| -> Vec<(&[f32], &mut [f32])> {
        item.sequences
            .iter()
            .map(|sequence| {
                let (own, rest) = logprobs.split_at(sequence.n_rows());
                let (own_slopes, rest_slopes) = std::mem::take(&mut slopes).split_at_mut(sequence.n_rows());
                (logprobs, slopes) = (rest, rest_slopes);
                (own, own_slopes)
            })
            .collect()
    };
    let mut items: Vec<Judging<'_>> = batch
        .items
        .iter()
        .map(|item| {
            let rows = cut(item).into_iter().zip(&item.sequences);
            let scored = rows.map(|((logprobs, slopes), sequence)| Scored { sequence, logprobs, slopes });
            Judging { kind: item.kind, sequences: scored.collect() }
        })
        .collect();
    objective.judge(&mut items, totals)
}

/// `ln σ(x)`, without overflow.
fn log_sigmoid(x: f64) -> f64 {
    if x >= 0.0 { -(-x).exp().ln_1p() } else { x - x.exp().ln_1p() }
}

/// `σ(x)`, without overflow.
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::{Dpo, Grpo, GrpoNorm, Kto, Orpo, PreferenceLoss, Sft};

    /// Numbers in −1..1 that look like chance.
    fn number(seed: u64) -> f32 {
        let x = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (x >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn sequence(n: usize, first_learned: usize, seed: u64) -> Sequence {
        let logprobs = |from: u64| (0..n as u64 - 1).map(|i| number(seed * 100 + from + i) - 1.5).collect();
        Sequence {
            token_ids: vec![0; n],
            supervised: (0..n).map(|i| i >= first_learned).collect(),
            reference: Some(logprobs(20)),
            sampled: Some(logprobs(40)),
        }
    }

    /// Slopes against central differences, for items of each kind.
    fn check(objective: &dyn Objective, kinds: &[Kind]) {
        let items: Vec<Item> = kinds
            .iter()
            .enumerate()
            .map(|(i, &kind)| {
                let n = if matches!(kind, Kind::Pair | Kind::Labelled { .. }) { 2 } else { 1 };
                let sequences = (0..n).map(|j| sequence(5 + i + 2 * j, 2 + j, (3 * i + j) as u64)).collect();
                Item { kind, sequences }
            })
            .collect();
        let batch = MicroBatch { items };
        let totals = Totals { n_supervised: 40, n_items: 7, n_batches: 2 };
        let logprobs: Vec<f32> = (0..batch.n_rows() as u64).map(|i| number(i) - 1.5).collect();
        let mut slopes = vec![9.0; logprobs.len()];
        let judged = judge(objective, &batch, &totals, &logprobs, &mut slopes);
        assert!(judged.loss.is_finite());
        let loss = |logprobs: &[f32]| {
            judge(objective, &batch, &totals, logprobs, &mut vec![0.0; logprobs.len()]).loss
        };
        // No gradient passes through the answers to other prompts.
        let is_other: Vec<bool> = batch
            .items
            .iter()
            .flat_map(|item| {
                let other = |index: usize| index == 1 && matches!(item.kind, Kind::Labelled { .. });
                let rows = move |(index, sequence): (usize, &Sequence)| vec![other(index); sequence.n_rows()];
                item.sequences.iter().enumerate().flat_map(rows).collect::<Vec<_>>()
            })
            .collect();
        for i in 0..logprobs.len() {
            if is_other[i] {
                assert_eq!(slopes[i], 0.0);
                continue;
            }
            let step = 1.0 / 256.0;
            let nudged = |by: f32| {
                let mut nudged = logprobs.clone();
                nudged[i] += by;
                loss(&nudged)
            };
            let slope = (nudged(step) - nudged(-step)) / f64::from(2.0 * step);
            let close = (slope - f64::from(slopes[i])).abs() <= 2e-4 * (1.0 + slope.abs());
            assert!(close, "{} row {i}: slope {slope}, got {}", objective.name(), slopes[i]);
        }
    }

    #[test]
    fn slopes_agree_with_central_differences() {
        check(&Sft, &[Kind::Plain; 3]);
        for loss in [
            PreferenceLoss::Sigmoid,
            PreferenceLoss::Hinge,
            PreferenceLoss::Ipo,
            PreferenceLoss::SimPo { gamma: 0.5 },
        ] {
            for label_smoothing in [0.0, 0.1] {
                check(&Dpo { beta: 0.3, loss, label_smoothing, sft_weight: 0.2 }, &[Kind::Pair; 3]);
            }
        }
        check(&Orpo { beta: 0.2 }, &[Kind::Pair; 3]);
        let labelled = [true, false, false].map(|is_good| Kind::Labelled { is_good });
        check(&Kto { beta: 0.3, good_weight: 1.0, bad_weight: 1.5 }, &labelled);
        let rewarded = [0.7, -1.1, 0.0].map(|advantage| Kind::Rewarded { advantage });
        let constant = GrpoNorm::Constant { n_tokens: 64 };
        for norm in [GrpoNorm::Sequences, GrpoNorm::Tokens, GrpoNorm::BatchTokens, constant] {
            for kl_times_ratio in [false, true] {
                check(&Grpo { beta: 0.1, clip: [0.2, 0.3], norm, kl_times_ratio }, &rewarded);
            }
        }
    }

    #[test]
    fn sigmoids_of_huge_numbers_are_finite() {
        assert_eq!((sigmoid(-1e4), sigmoid(1e4)), (0.0, 1.0));
        assert_eq!((log_sigmoid(1e4), log_sigmoid(-1e4)), (0.0, -1e4));
    }
}
