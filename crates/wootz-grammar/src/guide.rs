//! One answer's way through a grammar.
//!
//! Where:  one for each choice of a request, held by the engine beside its sampler.

use std::sync::Arc;

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use wootz_text::TokenId;

use crate::closing::Closers;
use crate::error::brief;
use crate::{GrammarError, Result};

/// Says which tokens may come next, and is told which came. Cloning gives an independent guide at the same place.
pub struct Guide {
    matcher: Matcher,
    mask: Option<SimpleVob>,
    closers: Arc<Closers>,
    is_free: bool,
}

impl Guide {
    pub(crate) fn new(matcher: Matcher, closers: Arc<Closers>, is_free: bool) -> Self {
        Self { matcher, mask: None, closers, is_free }
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

    /// Of [`mask`](Self::mask), what leads to the end of the answer on a short way; all of it where text is free.
    ///
    /// # Errors
    /// As [`mask`](Self::mask).
    pub fn closing_mask(&mut self) -> Result<Vec<u32>> {
        if self.is_free && self.matcher.is_accepting().unwrap_or(false) {
            return Ok(self.mask()?.to_vec());
        }
        let closers = self.closers.clone();
        Ok(closers.narrow(self.mask()?))
    }

    /// How many tokens the short way to the end has; `None` if it is not known to end within `most`. As many masks are
    /// computed.
    pub fn n_to_close(&self, most: usize) -> Option<usize> {
        let (mask, closers) = (self.mask.clone(), self.closers.clone());
        let mut ahead = Self { matcher: self.matcher.clone(), mask, closers, is_free: self.is_free };
        for n in 0..=most {
            if ahead.matcher.is_accepting().ok()? || ahead.is_done() {
                return Some(n);
            }
            let mask = ahead.closing_mask().ok()?;
            let (word, bits) = mask.iter().enumerate().find(|(_, bits)| **bits != 0)?;
            ahead.accept(word as TokenId * 32 + bits.trailing_zeros()).ok()?;
        }
        None
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
        let (mask, closers) = (self.mask.clone(), self.closers.clone());
        Self { matcher: self.matcher.deep_clone(), mask, closers, is_free: self.is_free }
    }
}

impl std::fmt::Debug for Guide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guide").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}
