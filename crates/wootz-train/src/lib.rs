//! Training: how weights change.
//!
//! Where:  stages; driven by the command line, which brings models, data and files.
//! Idea:   a loss is a function of per-token log-probabilities, an optimizer sees one tensor at a time as plain slices, and the
//!         order of data is a function of the step. So a run is resumed exactly, and adding a loss or a rule is adding a file.
//! Elsewhere: gradients (`wootz-graph`), examples as tokens (`wootz-data`), models as files (`wootz-model`).
#![forbid(unsafe_code)]

pub mod config;

mod sequence;

mod checkpoint;
mod error;
mod feed;
mod initial;
mod learner;
mod low_rank;
mod objective;
mod optimizer;
mod rng;
mod schedule;
mod stores;
mod trainer;
mod update;

pub use error::{Error, Result};
pub use feed::{Corpus, Feed, FeedSettings};
pub use initial::Initial;
pub use learner::{Learner, LearnerSettings, Room, Trains};
pub use low_rank::{LowRank, PART_A, PART_B, PART_MAGNITUDE};
pub use objective::{
    Dpo, Grpo, GrpoNorm, Judged, Judging, Kto, Metric, Objective, Orpo, PreferenceLoss, Scored, Sft, Totals,
    advantages,
};
pub use optimizer::{Adam, Adam8, Lamb, Lion, RmsProp, Rule, ScheduleFree, Sgd, StateMut, Step};
pub use schedule::{Decay, Schedule};
pub use sequence::{Item, Kind, MicroBatch, Sequence};
pub use stores::{Part, Stores};
pub use trainer::{Progress, StepReport, Trainer, TrainerSettings};
pub use update::{OptimizerKind, Update, UpdateStep};
