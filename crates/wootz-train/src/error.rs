//! What can go wrong in training.

use std::path::PathBuf;

/// An error of training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting out of its range
    #[error("`{name}`: {message}")]
    Setting {
        /// Its name
        name: &'static str,
        /// What was expected and what came
        message: String,
    },
    /// The graph or the device
    #[error(transparent)]
    Graph(#[from] wootz_graph::Error),
    /// Loss or gradient are no numbers
    #[error(
        "step {step}: {what} is {value}; weights are as they were before it\nhint: a lower learning rate, clipping, or look at the batch"
    )]
    NonFinite {
        /// Counted from 1
        step: u64,
        /// `loss`, `grad_norm`
        what: &'static str,
        /// NaN or an infinity
        value: f64,
    },
    /// Nothing of a whole step is supervised
    #[error("step {step}: none of its {n_rows} tokens is supervised")]
    NothingSupervised {
        /// Counted from 1
        step: u64,
        /// Rows
        n_rows: usize,
    },
    /// An item that is longer than a batch
    #[error("a row of {n_rows} tokens does not fit into a batch of {max_rows}")]
    TooLong {
        /// Its tokens
        n_rows: usize,
        /// Room
        max_rows: usize,
    },
    /// A file
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// Which
        path: PathBuf,
        /// What was expected and what came
        message: String,
    },
    /// Weights as files
    #[error(transparent)]
    Weights(#[from] wootz_weights::Error),
    /// Where examples come from
    #[error("{0}")]
    Feed(String),
}

/// A result of training.
pub type Result<T, E = Error> = std::result::Result<T, E>;
