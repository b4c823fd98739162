//! What can be wrong with a model's files.

use std::path::PathBuf;

/// The result of opening or building a model.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a model's files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("could not read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A configuration value is missing or impossible.
    #[error("{file}: `{key}`: expected {expected}, got {got}")]
    Config {
        /// `config.json`, or the GGUF file.
        file: String,
        /// The key.
        key: String,
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// An architecture that this program does not know.
    #[error("{file}: architecture `{name}` is not among those known\nhint: known are {known}")]
    UnknownArchitecture {
        /// The file that names it.
        file: String,
        /// Its name there.
        name: String,
        /// All names, comma-separated.
        known: String,
    },
    /// A tensor does not fit what the configuration says.
    #[error("tensor `{name}`: expected {expected}, got {got}")]
    Tensor {
        /// Its name in the file.
        name: String,
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// A tensor or a setting of an adapter does not fit.
    #[error("{}: `{tensor}`: expected {expected}, got {got}", .file.display())]
    Adapter {
        /// The adapter's file.
        file: PathBuf,
        /// The tensor's name in it.
        tensor: String,
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// A target that is there already.
    #[error("{} is there already\nhint: `--force` overwrites it", .0.display())]
    Exists(PathBuf),
    /// An architecture, or a setting of it, that GGUF cannot say.
    #[error("{0}")]
    NoGguf(String),
    /// Something that the target format cannot say.
    #[error("{0}")]
    Unsupported(String),
    /// The weight files are broken.
    #[error(transparent)]
    Weights(#[from] wootz_weights::Error),
    /// The graph cannot be built or run.
    #[error(transparent)]
    Graph(#[from] wootz_graph::Error),
}
