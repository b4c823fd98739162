//! What can be wrong with a tokenizer's files.
//!
//! Where:  returned by everything that builds a [`Tokenizer`](crate::Tokenizer); encoding and decoding never fail.

use std::path::PathBuf;

/// Why a tokenizer could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file could not be read.
    #[error("could not read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder has none of the files that a tokenizer can be made from.
    #[error("{path}: expected `tokenizer.json` or `tokenizer.model`, found neither")]
    NoTokenizer {
        /// The folder.
        path: PathBuf,
    },
    /// Not valid JSON, or a field of another type.
    #[error("tokenizer: not the JSON that was expected")]
    Json(#[source] serde_json::Error),
    /// A field's value makes no sense.
    #[error("`{field}`: {message}")]
    Field {
        /// The path of the field (`model.merges[3]`).
        field: String,
        /// What was expected and what came.
        message: String,
    },
    /// The file around the fault.
    #[error("{path}")]
    InFile {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: Box<TokenizerError>,
    },
}

impl TokenizerError {
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Field { field: field.into(), message: message.into() }
    }
}
