//! Sampling for training: many prompts, tokens with their log-probabilities, weights that change in between.
//!
//! Where:  implemented over the engine by the command line; used by `wootz-train` (policy gradients, preference data).
//! Idea:   training sees tokens and log-probabilities, never text; it says when it has changed the weights.
//! Elsewhere: rewards and losses (`wootz-train`).

use crate::{FinishReason, ModelError, Sampling, TokenId};

/// A model that answers prompts during training.
pub trait Rollout {
    /// Samples `sampling.n` answers to every prompt; the outer order is the prompts'.
    ///
    /// # Errors
    /// Any prompt that cannot be answered fails the batch.
    fn sample(
        &mut self,
        prompts: &[Vec<TokenId>],
        sampling: &Sampling,
    ) -> Result<Vec<Vec<Sampled>>, ModelError>;

    /// The weights are not what they were: caches of states computed with the old ones are dropped.
    fn weights_changed(&mut self);
}

/// One sampled answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// New tokens, the end token included if one was sampled.
    pub token_ids: Vec<TokenId>,
    /// Natural logarithm of each token's probability under the distribution it was drawn from.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}
