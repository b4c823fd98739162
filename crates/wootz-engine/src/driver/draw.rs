//! Token by token: each of `n` choices draws from its own distribution.
//!
//! Where:  the driver of ordinary requests.
//! Idea:   the prompt is run once; its states are forked for the second choice and those after it.

use wootz_text::{FinishReason, Sampling, TokenId};

use super::emitter::{Chosen, Emitter};
use super::{Branch, Desk, Room, Rows};
use crate::{Result, SampleError, Sampler, SamplerVocab};

/// Draws tokens for `n` choices.
pub(crate) struct DrawDriver {
    /// One for each branch, in the same order.
    choices: Vec<Choice>,
    n_started: usize,
    completion_tokens: usize,
    ignore_eos: bool,
}

struct Choice {
    sampler: Sampler,
    emitter: Emitter,
}

impl DrawDriver {
    pub(super) fn new(
        sampling: &Sampling,
        vocab: &SamplerVocab,
        prompt: &[TokenId],
        room: Room,
    ) -> Result<Self, SampleError> {
        let choice = |choice: usize| {
            let mut sampler = Sampler::new(sampling, vocab, room.seed, choice)?;
            sampler.accept_prompt(prompt);
            Ok(Choice { sampler, emitter: Emitter::new(sampling, choice, room.max_tokens) })
        };
        Ok(Self {
            choices: (0..sampling.n).map(choice).collect::<Result<_, SampleError>>()?,
            n_started: 0,
            completion_tokens: 0,
            ignore_eos: sampling.ignore_eos,
        })
    }

    pub(super) fn n_branches(&self) -> usize {
        self.choices.len().max(1)
    }

    pub(super) fn advance(
        &mut self,
        branches: &mut Vec<Branch>,
        rows: Rows,
        desk: &mut Desk,
    ) -> Result<Option<usize>> {
        let v = desk.vocab.size;
        if self.n_started == 0 {
            self.n_started = self.choices.len();
            for _ in 1..self.n_started {
                let fork = branches[0].fork(desk)?;
                branches.push(fork);
            }
        }
        let shared = rows.logits.len() == v;
        let mut at = 0;
        for row in 0..branches.len() {
            let logits = if shared { rows.logits } else { &rows.logits[row * v..][..v] };
            match self.choices[at].draw(logits, self.ignore_eos, desk)? {
                Some(token) => {
                    branches[at].token_ids.push(token);
                    at += 1;
                }
                None => {
                    self.completion_tokens += self.choices.remove(at).emitter.n_tokens();
                    desk.finish(branches.remove(at));
                }
            }
        }
        Ok(branches.is_empty().then_some(self.completion_tokens))
    }
}

impl Choice {
    /// Draws and reports a token; `None` if the choice ended.
    fn draw(&mut self, logits: &[f32], ignore_eos: bool, desk: &mut Desk) -> Result<Option<TokenId>> {
        let drawn = self.sampler.sample(logits, None, desk.candidates)?;
        if !ignore_eos && desk.vocab.end_tokens.contains(&drawn.id) {
            self.emitter.finish(desk.tokenizer, FinishReason::Stop, desk.sink);
            return Ok(None);
        }
        self.sampler.accept(drawn.id);
        let chosen = Chosen { id: drawn.id, logprob: drawn.logprob, top: &drawn.top };
        let ended = self.emitter.token(desk.tokenizer, chosen, desk.sink);
        Ok(ended.is_none().then_some(drawn.id))
    }
}
