//! What was run, with what, and what became of it: one SQLite file for every long job, and lines of numbers in folders.
//!
//! Where:  words; knows no models and no formats of weights. The command line opens it in the home (`wootz.db`), trainers
//!         and others that run long write to it.
//! Idea:   a run is a row that says who does what since when; the row is written before the work begins, so a killed run is
//!         found as one that stopped telling that it lives. What grows with every step stays in the run's own folder.
//! Source: SQLite's write-ahead log; JSON Lines.
//! Elsewhere: writing files whole (`wootz_weights`), which folder is the home (`wootz`).
#![forbid(unsafe_code)]

mod compare;
mod error;
mod lines;
mod run;
mod runs;
mod schema;

pub use compare::{Difference, compare};
pub use error::{Result, StoreError};
pub use lines::{LineWriter, read_lines};
pub use run::{NewRun, Run, RunStatus};
pub use runs::{Filter, LOST_AFTER, Runs};
