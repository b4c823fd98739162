//! What can go wrong while a model runs.

use std::path::PathBuf;

use crate::SampleError;

/// The result of running a model.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while a model runs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// All blocks of keys and values are taken.
    #[error("the cache of keys and values is full\nhint: a larger `--ctx`, or fewer answers at a time")]
    NoBlock,
    /// All slots for recurrences are taken.
    #[error("all slots for recurrent states are taken\nhint: fewer answers at a time")]
    NoSlot,
    /// One sequence could not even reach its own limit.
    #[error(
        "{n_positions} positions do not hold a context of {max_context}\nhint: a smaller context, or more positions"
    )]
    Room {
        /// Positions of all sequences.
        n_positions: usize,
        /// Positions of one.
        max_context: usize,
    },
    /// All slots for adapters are taken.
    #[error("all {0} slots for adapters are taken\nhint: unload one")]
    NoAdapterSlot(usize),
    /// An adapter that is not, or no longer, loaded.
    #[error("the adapter is not loaded any more")]
    NoAdapter,
    /// An adapter that cannot be unloaded now.
    #[error("the adapter is in use by {n_users} requests")]
    AdapterInUse {
        /// How many requests.
        n_users: usize,
    },
    /// A file that holds no computed beginning of this model.
    #[error("{}: {message}", path.display())]
    PrefixFile {
        /// The file.
        path: PathBuf,
        /// What was expected and what came.
        message: String,
    },
    /// Computed beginnings are not kept, so there is none to save and no place for one.
    #[error("this model keeps no computed beginnings: {0}")]
    NoPrefixes(&'static str),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] wootz_weights::Error),
    /// A model cannot guess for another.
    #[error("the draft model does not fit: {0}")]
    Draft(String),
    /// A constraint cannot be followed any further.
    #[error(transparent)]
    Grammar(wootz_grammar::GrammarError),
    /// No token can be chosen.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The model is broken.
    #[error(transparent)]
    Model(#[from] wootz_model::Error),
    /// The graph cannot be built or run.
    #[error(transparent)]
    Graph(#[from] wootz_graph::Error),
}
