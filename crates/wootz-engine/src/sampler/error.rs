//! Why no token could be chosen.
//!
//! Where:  returned by [`Sampler`](super::Sampler) and the searches; the engine turns it into the request's error.
//! Idea:   a request is at fault (its settings, its grammar) or the model is (its logits); the message says which.

use wootz_text::TokenId;

/// Why no token could be chosen.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SampleError {
    /// The model computed NaN or positive infinity.
    #[error("logits: expected finite numbers or negative infinity, got {value} for token {id}")]
    BadLogit {
        /// The first such token.
        id: TokenId,
        /// What the model computed.
        value: f32,
    },
    /// Biases, the grammar, `min_tokens` or the model itself forbid every token.
    #[error("no token is allowed here: all {vocab_size} logits are negative infinity or forbidden")]
    NothingAllowed {
        /// How many tokens there are.
        vocab_size: usize,
    },
    /// The logits are not of this vocabulary.
    #[error("logits: expected {expected}, one per token, got {got}")]
    LogitCount {
        /// The vocabulary's size.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// A setting names a token that does not exist.
    #[error("`logit_bias`: expected tokens below {vocab_size}, got {id}")]
    UnknownToken {
        /// The token.
        id: TokenId,
        /// How many tokens there are.
        vocab_size: usize,
    },
}
