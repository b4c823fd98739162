//! Why a constraint cannot be used.

/// The result of working with a grammar.
pub type Result<T, E = GrammarError> = std::result::Result<T, E>;

/// Why a constraint cannot be used, or not any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// It cannot be compiled: it is broken, too large, or asks for something that is not done.
    #[error("{kind}: {message}")]
    Compile {
        /// `json schema`, `regex`, `lark grammar`, `gbnf grammar`, `choice`, `tools`.
        kind: &'static str,
        /// What is wrong, by keyword, rule or place.
        message: String,
    },
    /// The answer so far needs more work than one step may take, or left the grammar.
    #[error("the constraint cannot be followed any further: {0}")]
    Step(String),
    /// The vocabulary cannot be constrained.
    #[error("the vocabulary cannot be constrained: {0}")]
    Vocab(String),
}

/// The longest message that is passed on.
const MAX_MESSAGE_BYTES: usize = 600;

/// A message of others in our words' form: one line, bounded, without a trace.
pub(crate) fn brief(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut line = lines.join("; ");
    if line.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}
