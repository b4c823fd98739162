//! What an engine takes on: the checks that need no computing.
//!
//! Where:  [`Engine::submit`](crate::Engine::submit), and [`LocalModel`](crate::LocalModel) on its caller's thread.
//! Idea:   a copy of the limits is enough to refuse a request before it is queued; inside, nothing is checked again.

use wootz_text::{ContextFull, ModelError, Sampling, Search, TokenId};

use crate::EngineOptions;

/// The limits of one engine.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// What the engine allows.
    pub options: EngineOptions,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Whether the model has a tokenizer.
    pub has_tokenizer: bool,
}

impl Door {
    /// Checks a request: settings, prompt, room for an answer.
    ///
    /// # Errors
    /// The first thing that is wrong, by field.
    pub fn check(&self, token_ids: &[TokenId], sampling: &Sampling) -> Result<(), ModelError> {
        sampling.validate()?;
        self.check_tokens("prompt", token_ids)?;
        if sampling.context_full == ContextFull::Error {
            self.check_room(token_ids.len(), self.options.max_context - 1)?;
        }
        if let Some((id, _)) = sampling.logit_bias.iter().find(|(id, _)| **id as usize >= self.vocab_size) {
            let message = format!("token {id} is not among the {} of the vocabulary", self.vocab_size);
            return Err(ModelError::invalid("sampling.logit_bias", message));
        }
        let (n_branches, max_sequences) = (n_branches(sampling), self.options.max_sequences);
        if n_branches > max_sequences {
            let message = format!("{n_branches} sequences at a time, at most {max_sequences}");
            return Err(ModelError::invalid("sampling.n", message));
        }
        Ok(())
    }

    /// Checks tokens that are only read: each of them known, all of them within the context.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_reading(&self, token_ids: &[TokenId]) -> Result<(), ModelError> {
        self.check_tokens("prompt", token_ids)?;
        self.check_room(token_ids.len(), self.options.max_context)
    }

    fn check_tokens(&self, field: &str, token_ids: &[TokenId]) -> Result<(), ModelError> {
        if token_ids.is_empty() {
            return Err(ModelError::invalid(field, "expected at least one token, got none"));
        }
        match token_ids.iter().find(|id| **id as usize >= self.vocab_size) {
            None => Ok(()),
            Some(id) => {
                let message = format!("token {id} is not among the {} of the vocabulary", self.vocab_size);
                Err(ModelError::invalid(field, message))
            }
        }
    }

    fn check_room(&self, prompt_tokens: usize, most: usize) -> Result<(), ModelError> {
        let max_tokens = self.options.max_context;
        if prompt_tokens <= most {
            Ok(())
        } else {
            Err(ModelError::ContextFull { prompt_tokens, max_tokens })
        }
    }
}

/// The most sequences that a request has at a time.
pub(crate) fn n_branches(sampling: &Sampling) -> usize {
    match sampling.search {
        Search::Sample => sampling.n,
        // While beams change places, old and new ones exist together.
        Search::Beam(beam) => 2 * beam.num_beams,
        // The branch that goes on and its candidates.
        Search::Contrastive(contrastive) => contrastive.top_k + 1,
    }
}
