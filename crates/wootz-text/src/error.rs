//! What can go wrong when a model is asked, and when sampler settings make no sense.
//!
//! Where:  returned by the model traits and by [`Sampling::validate`](crate::Sampling::validate).
//! Idea:   a caller only ever decides between a few kinds (fix the request, come later, give up); the rest is a source.
//! Elsewhere: errors of tokenizers and templates stand with them.

use std::sync::Arc;

/// Why a model did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ModelError {
    /// The request cannot be honoured as it stands; `field` says where to look.
    #[error("`{field}`: {message}")]
    InvalidRequest {
        /// The field of the request, spelled as in [`GenerateRequest`](crate::GenerateRequest) (`sampling.top_p`).
        field: String,
        /// What was expected and what came.
        message: String,
    },
    /// The prompt leaves no room for an answer.
    #[error("`prompt`: {prompt_tokens} tokens do not fit a context of {max_tokens}")]
    ContextFull {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Positions the model has.
        max_tokens: usize,
    },
    /// Too much is queued already; the same request may succeed later.
    #[error("the model is busy: {queued} requests are waiting")]
    Busy {
        /// Requests in the queue.
        queued: usize,
    },
    /// This model cannot do that at all (score, embed, beam search, tools …).
    #[error("`{model}` does not support {what}")]
    Unsupported {
        /// The model's name.
        model: String,
        /// What was asked of it.
        what: String,
    },
    /// The generation was cancelled: its handle was dropped or the model was shut down.
    #[error("cancelled")]
    Cancelled,
    /// The request's deadline passed before it was answered.
    #[error("the deadline passed")]
    TimedOut,
    /// Anything else; the source says what.
    #[error("the model failed")]
    Failed(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl ModelError {
    /// Wraps an implementation's own error (or a message).
    pub fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed(Arc::from(error.into()))
    }

    /// A request that cannot be honoured because of `field`.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidRequest { field: field.into(), message: message.into() }
    }
}

/// A sampler setting outside its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{field}`: expected {expected}, got {got}")]
pub struct SamplingError {
    /// The setting, spelled as in [`Sampling`](crate::Sampling) (`dry.base`).
    pub field: &'static str,
    /// The range it must lie in.
    pub expected: &'static str,
    /// What it was.
    pub got: String,
}

impl From<SamplingError> for ModelError {
    fn from(error: SamplingError) -> Self {
        Self::invalid(
            format!("sampling.{}", error.field),
            format!("expected {}, got {}", error.expected, error.got),
        )
    }
}
