//! One answer's way through a grammar.
//!
//! Where:  one for each choice of a request, held by the engine beside its sampler.

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use wootz_text::TokenId;

use crate::error::brief;
use crate::{GrammarError, Result};

/// Says which tokens may come next, and is told which came. Cloning gives an independent guide at the same place.
pub struct Guide {
    matcher: Matcher,
    mask: Option<SimpleVob>,
}

impl Guide {
    pub(crate) fn new(matcher: Matcher) -> Self {
        Self { matcher, mask: None }
    }

    /// The tokens that may come next, a bit each, lowest bit of the first word first; end tokens where the answer is
    /// complete. Computed once for each place.
    ///
    /// # Errors
    /// [`GrammarError::Step`] if that would take more work than a step may.
    pub fn mask(&mut self) -> Result<&[u32]> {
        if self.mask.is_none() {
            let mask = self.matcher.compute_mask_or_eos();
            self.mask = Some(mask.map_err(|error| GrammarError::Step(brief(&error)))?);
        }
        Ok(self.mask.as_ref().expect("just computed").as_slice())
    }

    /// Goes on behind a token, which the mask allows and which is no end token.
    ///
    /// # Errors
    /// [`GrammarError::Step`] for a token that is not allowed.
    pub fn accept(&mut self, id: TokenId) -> Result<()> {
        self.mask = None;
        self.matcher.consume_token(id).map_err(|error| GrammarError::Step(brief(&error)))
    }

    /// The tokens that must come next, whatever the model says; often none. They are what the masks at their places
    /// would allow, one by one.
    pub fn forced(&mut self) -> Vec<TokenId> {
        if self.is_done() { Vec::new() } else { self.matcher.compute_ff_tokens() }
    }

    /// How many of these tokens, one after the other, are allowed.
    pub fn n_allowed(&mut self, ids: &[TokenId]) -> usize {
        self.matcher.validate_tokens(ids).unwrap_or(0)
    }

    /// Whether the answer is complete and nothing may follow.
    pub fn is_done(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }
}

impl Clone for Guide {
    fn clone(&self) -> Self {
        Self { matcher: self.matcher.deep_clone(), mask: self.mask.clone() }
    }
}

impl std::fmt::Debug for Guide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guide").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}
