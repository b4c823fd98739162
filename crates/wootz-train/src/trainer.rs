//! The loop's body: micro-batches in, one step of all weights out.
//!
//! Where:  driven by the command line and by tests; between steps its owner evaluates, samples, saves.
//! Idea:   the trainer has no clock, no files and no data of its own. A step is a function of the state and of the
//!         micro-batches that it is given.

use std::path::Path;

use crate::checkpoint;
use crate::objective::{Judged, Metric, Objective, Totals, judge};
use crate::sequence::{MicroBatch, Sequence};
use crate::update::{OptimizerKind, Update, UpdateStep};
use crate::{Error, Learner, Result, Schedule};

/// How weights are stepped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainerSettings {
    /// The rate of each step
    pub schedule: Schedule,
    /// The rule
    pub optimizer: OptimizerKind,
    /// How much of themselves matrices lose, times the rate
    pub weight_decay: f64,
    /// Longer gradients are shortened to this
    pub max_grad_norm: Option<f64>,
    /// Of all that is random in a step
    pub seed: u64,
}

/// What a step was.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Counted from 1
    pub step: u64,
    /// Of the whole accumulated step
    pub loss: f64,
    /// Of all gradients together, before clipping
    pub grad_norm: f64,
    /// Scheduled rate
    pub lr: f64,
    /// Tokens in this step
    pub n_tokens: usize,
    /// Supervised ones among them
    pub n_supervised: usize,
    /// Means over the step's items
    pub metrics: Vec<Metric>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Steps done
    pub step: u64,
    /// Tokens seen
    pub n_tokens: u64,
    /// Supervised tokens seen
    pub n_supervised: u64,
}

/// A model that learns.
pub struct Trainer {
    learner: Learner,
    update: Update,
    objective: Box<dyn Objective>,
    settings: TrainerSettings,
    progress: Progress,
}

impl Trainer {
    /// Before the first step.
    ///
    /// # Errors
    /// A setting out of its range, by name.
    pub fn new(learner: Learner, objective: Box<dyn Objective>, settings: TrainerSettings) -> Result<Self> {
        settings.schedule.check()?;
        let update = Update::new(&learner, settings.optimizer);
        Ok(Self { learner, update, objective, settings, progress: Progress::default() })
    }

    /// The model.
    pub fn learner(&mut self) -> &mut Learner {
        &mut self.learner
    }

    /// What is minimised.
    pub fn objective(&self) -> &dyn Objective {
        &*self.objective
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// One step over all of `batches`. Sequences that need the reference's log-probabilities and lack them get them, if the
    /// reference is in the same weights.
    ///
    /// # Errors
    /// [`Error::NothingSupervised`]; [`Error::NonFinite`], after which weights are as they were; what the device says.
    pub fn step(&mut self, batches: &mut [MicroBatch]) -> Result<StepReport> {
        let step = self.progress.step + 1;
        self.compare(batches)?;
        let totals = Totals::of(batches);
        let n_tokens: usize = batches.iter().map(MicroBatch::n_rows).sum();
        if totals.n_supervised == 0 {
            return Err(Error::NothingSupervised { step, n_rows: n_tokens });
        }
        let mut sum = Judged::default();
        for (index, batch) in batches.iter().enumerate() {
            // Truncated on purpose: a draw is told apart by its low bits.
            let draw = [(self.settings.seed ^ step) as u32, index as u32];
            sum.add(self.learner.learn(batch, &*self.objective, &totals, draw)?);
        }
        let (loss, metrics) = sum.means(totals.n_items);
        let executor = self.learner.executor();
        let grad_norm = self.update.grad_norm(executor);
        for (what, value) in [("loss", loss), ("grad_norm", grad_norm)] {
            if !value.is_finite() {
                executor.clear_gradients();
                return Err(Error::NonFinite { step, what, value });
            }
        }
        // PyTorch adds 1e-6 to the norm; so do we.
        let factor = self.settings.max_grad_norm.map_or(1.0, |max| (max / (grad_norm + 1e-6)).min(1.0));
        let lr = self.settings.schedule.at(self.progress.step);
        let at = UpdateStep { lr, step, weight_decay: self.settings.weight_decay, factor };
        self.update.step(executor, &at)?;
        executor.clear_gradients();
        self.progress.step = step;
        self.progress.n_tokens += n_tokens as u64;
        self.progress.n_supervised += totals.n_supervised as u64;
        let n_supervised = totals.n_supervised;
        Ok(StepReport { step, loss, grad_norm, lr, n_tokens, n_supervised, metrics })
    }

    /// The loss of batches that are not learned from: as if they were one step.
    ///
    /// # Errors
    /// What the device says.
    pub fn evaluate(&mut self, batches: &mut [MicroBatch]) -> Result<(f64, Vec<Metric>)> {
        self.compare(batches)?;
        let totals = Totals::of(batches);
        let mut sum = Judged::default();
        for batch in batches.iter() {
            let logprobs = self.learner.score(batch)?;
            let mut slopes = vec![0.0; logprobs.len()];
            sum.add(judge(&*self.objective, batch, &totals, &logprobs, &mut slopes));
        }
        Ok(sum.means(totals.n_items))
    }

    /// Fills in what the reference says of sequences that do not bring it.
    fn compare(&mut self, batches: &mut [MicroBatch]) -> Result<()> {
        if !self.objective.compares() {
            return Ok(());
        }
        for batch in batches {
            if batch.sequences().all(|sequence| sequence.reference.is_some()) {
                continue;
            }
            if !self.learner.has_reference() {
                let message =
                    "all weights learn, so what the reference says of each row must be known beforehand";
                return Err(Error::Feed(message.to_owned()));
            }
            let logprobs = self.learner.score_reference(batch)?;
            give_each(batch, &logprobs, |sequence, logprobs| sequence.reference = Some(logprobs));
        }
        Ok(())
    }

    /// What the model says now becomes the reference of these sequences.
    ///
    /// # Errors
    /// What the device says.
    pub fn note_reference(&mut self, batches: &mut [MicroBatch]) -> Result<()> {
        self.note(batches, |sequence, logprobs| sequence.reference = Some(logprobs))
    }

    /// What the model says now becomes what these sequences were sampled with.
    ///
    /// # Errors
    /// What the device says.
    pub fn note_sampled(&mut self, batches: &mut [MicroBatch]) -> Result<()> {
        self.note(batches, |sequence, logprobs| sequence.sampled = Some(logprobs))
    }

    fn note(&mut self, batches: &mut [MicroBatch], keep: fn(&mut Sequence, Vec<f32>)) -> Result<()> {
        for batch in batches {
            let logprobs = self.learner.score(batch)?;
            give_each(batch, &logprobs, keep);
        }
        Ok(())
    }

    /// Writes all that is needed to go on exactly from here.
    ///
    /// # Errors
    /// What the file system says; the file is whole or not there.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        checkpoint::save(path, &mut self.learner, &mut self.update, &self.progress)
    }

    /// Goes on exactly from there.
    ///
    /// # Errors
    /// A file that is not of this model, these trained weights and this optimizer, by name.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        self.progress = checkpoint::restore(path, &mut self.learner, &mut self.update)?;
        Ok(())
    }
}

/// Gives each sequence its rows of `logprobs`.
fn give_each(batch: &mut MicroBatch, mut logprobs: &[f32], keep: fn(&mut Sequence, Vec<f32>)) {
    for sequence in batch.items.iter_mut().flat_map(|item| &mut item.sequences) {
        let (own, rest) = logprobs.split_at(sequence.n_rows());
        keep(sequence, own.to_vec());
        logprobs = rest;
    }
}
