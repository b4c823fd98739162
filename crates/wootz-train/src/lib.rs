//! Training: how weights change.
//!
//! Where:  stages; will be driven by the trainer, which does not exist yet.
//! Idea:   an optimizer sees one tensor at a time as a plain slice with its gradient, and keeps plain slices as its state, so a
//!         checkpoint is a list of named slices.
//! Elsewhere: gradients (`wootz-graph`), data (`wootz-data`).
#![forbid(unsafe_code)]

pub mod config;

mod clip;
mod error;
mod optimizer;
mod schedule;

pub use clip::{clip, grad_norm};
pub use error::Error;
pub use optimizer::{Adam, Adam8, Lamb, Lion, RmsProp, Rule, ScheduleFree, Sgd, StateMut, Step};
pub use schedule::{Decay, Schedule};
