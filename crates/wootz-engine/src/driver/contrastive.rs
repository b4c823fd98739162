//! Contrastive search: of a few likely tokens the one that says something new.
//!
//! Idea:   every candidate is run as a branch of its own; the chosen one's branch goes on, and its logits give
//!         the next candidates.
//! Elsewhere: the choice itself ([`ContrastiveSearch`]).

use wootz_text::{Contrastive, FinishReason, Sampling, TokenId};

use super::emitter::{Chosen, Emitter};
use super::{Branch, Desk, Room, Rows};
use crate::{ContrastiveSearch, Result, SampleError, SamplerVocab, Softmax};

/// Runs one contrastive search.
pub(crate) struct ContrastiveDriver {
    search: ContrastiveSearch,
    emitter: Emitter,
    /// What the branches were continued by; empty during the prompt.
    candidates: Vec<(TokenId, f32)>,
    /// The logits that the candidates came from.
    logits: Vec<f32>,
    logprobs: Option<usize>,
    top_k: usize,
    ignore_eos: bool,
    d_model: usize,
}

impl ContrastiveDriver {
    pub(super) fn new(
        settings: Contrastive,
        sampling: &Sampling,
        vocab: &SamplerVocab,
        room: Room,
        d_model: usize,
    ) -> Result<Self, SampleError> {
        Ok(Self {
            search: ContrastiveSearch::new(settings, sampling, vocab, d_model)?,
            emitter: Emitter::new(sampling, 0, room.max_tokens),
            candidates: Vec::new(),
            logits: Vec::new(),
            logprobs: sampling.logprobs,
            top_k: settings.top_k,
            ignore_eos: sampling.ignore_eos,
            d_model,
        })
    }

    /// The branch that goes on and its candidates.
    pub(super) fn n_branches(&self) -> usize {
        self.top_k + 1
    }

    pub(super) fn advance(
        &mut self,
        branches: &mut Vec<Branch>,
        rows: Rows,
        desk: &mut Desk,
    ) -> Result<Option<usize>> {
        let v = desk.vocab.size;
        if self.candidates.is_empty() {
            self.search.accept_prompt(rows.tokens, rows.hidden);
            if !rows.complete {
                return Ok(None);
            }
            self.logits = rows.logits[rows.logits.len() - v..].to_vec();
        } else {
            let chosen = self.search.choose(&self.candidates, rows.hidden);
            let id = self.candidates[chosen].0;
            if !self.ignore_eos && desk.vocab.end_tokens.contains(&id) {
                self.emitter.finish(desk.tokenizer, FinishReason::Stop, desk.sink);
                return Ok(Some(self.emitter.n_tokens()));
            }
            self.search.accept(id, &rows.hidden[chosen * self.d_model..][..self.d_model]);
            if self.report(id, desk)? {
                return Ok(Some(self.emitter.n_tokens()));
            }
            self.logits = rows.logits[chosen * v..][..v].to_vec();
            let kept = branches.swap_remove(chosen);
            branches.drain(..).for_each(|branch| desk.finish(branch));
            branches.push(kept);
        }
        self.candidates = self.search.candidates(&self.logits, None, desk.candidates)?;
        for &(id, _) in &self.candidates[1..] {
            let mut fork = branches[0].fork(desk)?;
            fork.token_ids.push(id);
            branches.push(fork);
        }
        branches[0].token_ids.push(self.candidates[0].0);
        Ok(None)
    }

    /// Sends a token; whether the choice ended with it.
    fn report(&mut self, id: TokenId, desk: &mut Desk) -> Result<bool> {
        let (logprob, top) = match self.logprobs {
            Some(k) => {
                let softmax = Softmax::of(&self.logits)?;
                (Some(softmax.logprob(self.logits[id as usize])), softmax.top(&self.logits, k))
            }
            None => (None, Vec::new()),
        };
        let chosen = Chosen { id, logprob, top: &top, is_last: false };
        Ok(self.emitter.token(desk.tokenizer, chosen, desk.sink).is_some())
    }
}
