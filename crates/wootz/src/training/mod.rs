//! From a recipe to a trained model: what `wootz train` does between reading its file and its last line.
//!
//! Where:  `commands/train.rs`, which parses arguments and shows progress.
//! Idea:   the trainer has no files, no clock and no data. Here they meet: a base model or a new one, examples that are encoded
//!         once, a loop that measures, saves and goes on.

mod base;
mod data;
mod folder;
mod record;
mod refused;
mod run;

pub(crate) use record::FILE as STORE_FILE;
pub(crate) use refused::refuse_what_is_missing;
pub(crate) use run::{Event, Options, Run};
