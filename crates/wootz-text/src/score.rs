//! Asking a model how likely a continuation is.
//!
//! Where:  used by evaluation (multiple choice, perplexity), judges and guards.
//! Idea:   a batch of (prompt, continuation) pairs; log-probabilities of the continuation's tokens only.
//! Elsewhere: turning them into metrics (`wootz-eval`).

use crate::{ModelError, TokenId};

/// A model that gives log-probabilities of a given text.
pub trait Score: Send + Sync {
    /// Scores every pair; the answers stand in the requests' order.
    ///
    /// # Errors
    /// The first request that cannot be scored fails the batch.
    fn score(&self, batch: &[ScoreRequest]) -> Result<Vec<Scored>, ModelError>;
}

/// A prompt and the continuation to be scored.
#[derive(Debug, Clone, PartialEq)]
pub enum ScoreRequest {
    /// Text: the whole is encoded, and the continuation's tokens are those after the prompt's own.
    Text {
        /// What comes before; with it the special tokens that the tokenizer adds.
        prompt: String,
        /// What is scored.
        continuation: String,
    },
    /// Tokens as they are.
    TokenIds {
        /// What comes before; must not be empty unless the model has a start token.
        prompt: Vec<TokenId>,
        /// What is scored.
        continuation: Vec<TokenId>,
    },
}

/// The log-probabilities of one continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The continuation's tokens.
    pub token_ids: Vec<TokenId>,
    /// Natural logarithm of each token's probability given all before it.
    pub logprobs: Vec<f32>,
    /// Whether greedy decoding would have produced exactly this continuation.
    pub is_greedy: bool,
}

impl Scored {
    /// The continuation's log-probability, added in f64.
    pub fn total(&self) -> f64 {
        self.logprobs.iter().map(|&logprob| f64::from(logprob)).sum()
    }
}
