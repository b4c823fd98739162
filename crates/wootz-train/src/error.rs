//! What can go wrong in training.

/// An error of training.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting out of its range
    #[error("`{name}`: {message}")]
    Setting {
        /// Its name
        name: &'static str,
        /// What was expected and what came
        message: String,
    },
}
