//! Why the store cannot be used, or does not have what was asked for.

use std::path::{Path, PathBuf};

/// The result of working with the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why the store cannot be used, or does not have what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite could not do it.
    #[error("could not {action} {path}")]
    Database {
        /// What was tried, `open`.
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// The file is some other program's, or a later version's.
    #[error(
        "{path}: expected a store of version {expected} or older, got {got}\nhint: a newer Wootz wrote it"
    )]
    Version {
        /// The database.
        path: PathBuf,
        /// The newest version that is understood.
        expected: i64,
        /// What it says.
        got: i64,
    },
    /// The file belongs to another program.
    #[error("{path}: another program's database")]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// There is no such run.
    #[error("no run `{id}`")]
    NoRun {
        /// What was asked for.
        id: String,
    },
    /// Several runs' numbers begin so.
    #[error("`{id}` is the beginning of several runs: {runs}", runs = runs.join(", "))]
    Ambiguous {
        /// What was asked for.
        id: String,
        /// Some of those that begin so.
        runs: Vec<String>,
    },
    /// A run that has ended, or belongs to another process, cannot be changed so.
    #[error("run `{id}` {is}: expected one that {expected}")]
    State {
        /// The run.
        id: String,
        /// What it is.
        is: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A file could not be read or written.
    #[error("could not {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line is no JSON.
    #[error("{path}:{line}: expected JSON: {message}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A text from a row that should be JSON is none.
    #[error("run `{id}`: its {column} is no JSON")]
    Json {
        /// The run.
        id: String,
        /// Which of its columns.
        column: &'static str,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}
