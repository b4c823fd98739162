//! What can be wrong with a weight file.
//!
//! Where:  returned by everything that opens, reads or writes weights.
//! Idea:   a message names the file, the field or tensor in it, what was expected there and what came.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use wootz_kernels::TensorType;

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("could not {action} {path}")]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Its answer.
        source: std::io::Error,
    },
    /// A file's bytes are not what its format says.
    #[error("{path}: {field}: expected {expected}, got {got}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The field, key or tensor.
        field: String,
        /// What the format asks for.
        expected: String,
        /// What stands there.
        got: String,
    },
    /// A sound file, or one that may be, of a kind that is not read.
    #[error("{path}: {what} is not supported: expected {expected}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The kind.
        what: String,
        /// The kinds that are read.
        expected: String,
    },
    /// A folder holds no weights, or several sets of them.
    #[error("{path}: expected {expected}, found {found}")]
    NoWeights {
        /// The folder.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// What lies there.
        found: String,
    },
    /// A tensor that was asked for is not there.
    #[error("{path}: no tensor `{name}` among {n_tensors}")]
    NoTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// How many there are.
        n_tensors: usize,
    },
    /// A metadata key that was asked for is not there.
    #[error("{path}: no metadata key `{key}`")]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// What is to be written does not fit the format.
    #[error("writing {path}: {field}: expected {expected}, got {got}")]
    NotWritable {
        /// The file to be written.
        path: PathBuf,
        /// The key or tensor.
        field: String,
        /// What the format can hold.
        expected: String,
        /// What was given.
        got: String,
    },
}

/// The result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Error::Io { action, path: path.into(), source }
    }

    pub(crate) fn malformed(
        path: &Path,
        field: impl Display,
        expected: impl Display,
        got: impl Display,
    ) -> Self {
        Error::Malformed {
            path: path.into(),
            field: brief(field),
            expected: brief(expected),
            got: brief(got),
        }
    }

    pub(crate) fn not_writable(
        path: &Path,
        field: impl Display,
        expected: impl Display,
        got: impl Display,
    ) -> Self {
        Error::NotWritable {
            path: path.into(),
            field: brief(field),
            expected: brief(expected),
            got: brief(got),
        }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Display, expected: impl Display) -> Self {
        Error::Unsupported { path: path.into(), what: brief(what), expected: brief(expected) }
    }
}

/// A message may quote names from a hostile file: control characters are escaped, and the middle of a long text left out.
fn brief(text: impl Display) -> String {
    const MAX_CHARS: usize = 300;
    let text = text.to_string();
    let clean = |text: &str| -> String {
        text.chars()
            .flat_map(|c| {
                let escape = c.is_control().then(|| c.escape_default());
                let plain = (!c.is_control()).then_some(c);
                escape.into_iter().flatten().chain(plain)
            })
            .collect()
    };
    match text.char_indices().nth(MAX_CHARS) {
        None => clean(&text),
        Some((cut, _)) => format!("{}… ({} bytes)", clean(&text[..cut]), text.len()),
    }
}

/// `f32`, `bf16`, … in backticks, for messages.
pub(crate) fn quoted(types: &[TensorType]) -> String {
    types.iter().map(|ty| format!("`{ty}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_short_and_on_one_line() {
        let error =
            Error::malformed(Path::new("m.gguf"), format!("tensor `{}\n`", "x".repeat(1 << 20)), 1, "a\nb");
        let text = error.to_string();
        assert!(text.len() < 500 && !text.contains('\n'), "{text}");
        assert!(text.ends_with("expected 1, got a\\nb"), "{text}");
    }
}
