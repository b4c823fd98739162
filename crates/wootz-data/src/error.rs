//! What can be wrong with a corpus.
//!
//! Where:  everything here that reads or learns.

use std::path::PathBuf;

/// An error of reading a corpus or learning from it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be opened, read or unpacked
    #[error("could not read {path}")]
    Io {
        /// The file
        path: PathBuf,
        /// Why
        source: std::io::Error,
    },
    /// A line that is not what the file's name promises
    #[error("{path}, line {line}: {message}")]
    Line {
        /// The file
        path: PathBuf,
        /// Counted from 1
        line: u64,
        /// What was expected and what came
        message: String,
    },
    /// A name that says no known format
    #[error("{path}: expected a name that ends in {expected}")]
    Format {
        /// The file
        path: PathBuf,
        /// The known endings
        expected: &'static str,
    },
    /// A setting out of its range
    #[error("`{name}`: {message}")]
    Setting {
        /// Its name
        name: &'static str,
        /// What was expected and what came
        message: String,
    },
    /// A path that means no files
    #[error("`{path}`: {message}")]
    Files {
        /// As it was given
        path: String,
        /// What was expected and what came
        message: String,
    },
    /// A store of examples that is none, or was damaged
    #[error("{path}: {message}\nhint: it is made again once it is removed")]
    Prepared {
        /// The file
        path: PathBuf,
        /// What was expected and what came
        message: String,
    },
    /// Rows of which none can be learned from
    #[error("none of {n_rows} rows is left to learn from: {n_too_long} have more than {max_tokens} tokens")]
    NoExamples {
        /// Rows that were read
        n_rows: u64,
        /// Of these, rows that are too long
        n_too_long: u64,
        /// The most
        max_tokens: usize,
    },
    /// Nothing to learn from
    #[error("the corpus has no text\nhint: `field` names where a row keeps it")]
    Empty,
    /// What was learned cannot be read as a tokenizer
    #[error("the tokenizer that was learned cannot be used")]
    Tokenizer(#[from] wootz_text::TokenizerError),
}

impl Error {
    pub(crate) fn setting(name: &'static str, message: impl Into<String>) -> Self {
        Self::Setting { name, message: message.into() }
    }
}
