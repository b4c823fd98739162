//! Choosing a token from a model's logits.
//!
//! Where:  the engine owns one [`Sampler`] per choice of a request and calls it once per token.
//! Idea:   fill [`Candidates`], run a chain of small steps over them, draw. Everything random comes from a counter (seed, choice,
//!         position), so a token depends on its own request alone and is the same on every platform.
//! Elsewhere: what the settings mean and their ranges (`wootz_text::Sampling`); ends by `max_tokens`, end tokens and stop strings
//!         (the engine, with [`StopMatcher`]).
//!
//! # Invariants
//! - Ties go to the lower id. NaN and positive infinity among the logits are errors; negative infinity forbids a token.
//! - Greedy choices and searches take no truncation, temperature or XTC into account: biases and penalties alone.

mod beam;
mod candidates;
mod contrastive;
mod dry;
mod error;
mod exp;
mod mask;
mod matcher;
mod min_p;
mod mirostat;
mod penalties;
mod ranking;
mod rng;
mod softmax;
mod step;
mod stop;
mod temperature;
mod top_k;
mod top_n_sigma;
mod top_p;
mod typical_p;
mod xtc;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod properties;

use std::fmt;
use std::sync::Arc;

use wootz_text::{Sampling, TokenId};

pub use beam::{BeamSearch, Continuation, Hypothesis};
pub use candidates::Candidates;
pub use contrastive::ContrastiveSearch;
pub use error::SampleError;
pub use mask::TokenMask;
pub use softmax::Softmax;
pub use stop::{StopMatcher, StopText};

use ranking::first_largest;
use rng::Rng;
use step::Step;

/// Chooses the tokens of one choice of one request.
#[derive(Clone)]
pub struct Sampler {
    vocab_size: usize,
    /// Forbidden before `min_tokens`; empty if end tokens are ordinary ones.
    end_tokens: Arc<[TokenId]>,
    min_tokens: usize,
    biases: Vec<(TokenId, f32)>,
    steps: Vec<Box<dyn Step>>,
    is_greedy: bool,
    logprobs: Option<usize>,
    rng: Rng,
    n_new: usize,
}

/// What a sampler must know about a vocabulary. Cheap to clone.
#[derive(Clone)]
pub struct SamplerVocab {
    /// Tokens, and logits per position.
    pub size: usize,
    /// Tokens that end a generation.
    pub end_tokens: Arc<[TokenId]>,
    /// A token's text, for DRY's sequence breakers; `None` without a tokenizer: then nothing breaks a sequence.
    pub token_bytes: Option<TokenBytes>,
}

/// Appends the bytes of a token's text.
pub type TokenBytes = Arc<dyn Fn(TokenId, &mut Vec<u8>) + Send + Sync>;

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The token.
    pub id: TokenId,
    /// Natural logarithm of its probability under the distribution it was drawn from; 0 for a greedy choice.
    pub drawn_logprob: f32,
    /// Natural logarithm of its probability under the model's own distribution, if `logprobs` was asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens of the model's own distribution, likeliest first, as many as were asked for.
    pub top: Vec<(TokenId, f32)>,
}

impl Sampler {
    /// For the `choice`-th (from 0) of the request's `n` choices. `sampling` must be valid
    /// ([`Sampling::validate`]); `seed` is the request's or one that the engine chose.
    ///
    /// # Errors
    /// [`SampleError::UnknownToken`] if a bias is for a token outside the vocabulary.
    pub fn new(
        sampling: &Sampling,
        vocab: &SamplerVocab,
        seed: u64,
        choice: usize,
    ) -> Result<Self, SampleError> {
        let biases: Vec<_> = sampling.logit_bias.iter().map(|(&id, &bias)| (id, bias)).collect();
        if let Some(&(id, _)) = biases.iter().find(|(id, _)| *id as usize >= vocab.size) {
            return Err(SampleError::UnknownToken { id, vocab_size: vocab.size });
        }
        Ok(Self {
            vocab_size: vocab.size,
            end_tokens: if sampling.ignore_eos { Arc::from([]) } else { vocab.end_tokens.clone() },
            min_tokens: sampling.min_tokens,
            biases,
            steps: step::chain(sampling, vocab),
            is_greedy: sampling.is_greedy(),
            logprobs: sampling.logprobs,
            rng: Rng::new(seed, choice),
            n_new: 0,
        })
    }

    /// Adds the prompt to the history that penalties look at.
    pub fn accept_prompt(&mut self, ids: &[TokenId]) {
        for step in &mut self.steps {
            ids.iter().for_each(|&id| step.accept(id));
        }
    }

    /// Chooses the next token from the model's logits (V). Call [`Self::accept`] with what was really taken.
    ///
    /// O(V); a plain greedy choice copies nothing. `candidates` is working memory; its contents do not matter.
    ///
    /// # Errors
    /// Logits of another vocabulary, NaN or positive infinity among them, or no token left that may be chosen.
    pub fn sample(
        &mut self,
        logits: &[f32],
        mask: Option<TokenMask>,
        candidates: &mut Candidates,
    ) -> Result<Drawn, SampleError> {
        let (id, drawn_logprob) = if self.is_plain_greedy() && mask.is_none() {
            (self.argmax(logits)?, 0.0)
        } else {
            self.adjust(logits, mask, candidates)?;
            self.draw(candidates)
        };
        let mut drawn = Drawn { id, drawn_logprob, logprob: None, top: Vec::new() };
        if let Some(k) = self.logprobs {
            let softmax = Softmax::of(logits)?;
            drawn.logprob = Some(softmax.logprob(logits[id as usize]));
            drawn.top = softmax.top(logits, k);
        }
        Ok(drawn)
    }

    /// Adds a token to the history: the next position begins.
    pub fn accept(&mut self, id: TokenId) {
        self.n_new += 1;
        for step in &mut self.steps {
            step.accept(id);
        }
    }

    /// Fills `candidates` with what may be chosen, after biases and the whole chain.
    fn adjust(
        &mut self,
        logits: &[f32],
        mask: Option<TokenMask>,
        candidates: &mut Candidates,
    ) -> Result<(), SampleError> {
        self.check_count(logits)?;
        candidates.refill(logits, mask)?;
        self.bias(candidates)?;
        self.rng.seek(self.n_new);
        for step in &mut self.steps {
            step.apply(candidates, &mut self.rng);
        }
        Ok(())
    }

    /// Applies `logit_bias`, and forbids end tokens before `min_tokens`.
    fn bias(&self, candidates: &mut Candidates) -> Result<(), SampleError> {
        let must_go_on = self.must_go_on();
        if self.biases.is_empty() && !must_go_on {
            return Ok(());
        }
        for &(id, bias) in &self.biases {
            match bias {
                f32::NEG_INFINITY => candidates.forbid(id),
                _ => candidates.change(id, |logit| logit + f64::from(bias)),
            }
        }
        if must_go_on {
            self.end_tokens.iter().for_each(|&id| candidates.forbid(id));
        }
        candidates.drop_impossible(self.vocab_size)
    }

    fn draw(&mut self, candidates: &Candidates) -> (TokenId, f32) {
        if self.is_greedy {
            return (candidates.ids()[candidates.best()], 0.0);
        }
        let softmax = candidates.softmax();
        let i = softmax.index_at(candidates.logits(), self.rng.uniform());
        let logit = candidates.logits()[i];
        for step in &mut self.steps {
            step.drew(logit);
        }
        (candidates.ids()[i], softmax.logprob(logit))
    }

    /// Whether nothing can change which logit is the largest.
    fn is_plain_greedy(&self) -> bool {
        self.is_greedy && self.steps.is_empty() && self.biases.is_empty() && !self.must_go_on()
    }

    /// Whether end tokens are forbidden here.
    fn must_go_on(&self) -> bool {
        self.n_new < self.min_tokens && !self.end_tokens.is_empty()
    }

    fn argmax(&self, logits: &[f32]) -> Result<TokenId, SampleError> {
        self.check_count(logits)?;
        softmax::check(logits)?;
        let best = first_largest(logits);
        best.map(|i| i as TokenId).ok_or(SampleError::NothingAllowed { vocab_size: self.vocab_size })
    }

    fn check_count(&self, logits: &[f32]) -> Result<(), SampleError> {
        let (expected, got) = (self.vocab_size, logits.len());
        if got == expected { Ok(()) } else { Err(SampleError::LogitCount { expected, got }) }
    }
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler")
            .field("n_steps", &self.steps.len())
            .field("n_new", &self.n_new)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SamplerVocab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SamplerVocab").field("size", &self.size).finish_non_exhaustive()
    }
}
