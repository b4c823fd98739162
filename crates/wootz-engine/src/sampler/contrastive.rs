//! Contrastive search: of the few likeliest tokens take the one that is least like what was said.
//!
//! Where:  driven by the engine: logits in, candidates out, their hidden states in, one candidate out.
//! Idea:   `(1 - alpha) · probability - alpha · max cosine similarity` of the candidate's last hidden state to those before it.
//! Source: Su et al. 2022, "A contrastive framework for neural text generation", eq. 5.
//! Elsewhere: running the model on each candidate (the engine).

use wootz_text::{Contrastive, Sampling, TokenId};

use super::candidates::Candidates;
use super::mask::TokenMask;
use super::{SampleError, Sampler, SamplerVocab};

/// A contrastive search over one prompt. Deterministic; ties go to the likelier candidate.
#[derive(Debug, Clone)]
pub struct ContrastiveSearch {
    settings: Contrastive,
    sampler: Sampler,
    d_model: usize,
    /// Directions of the hidden states so far, (S, C).
    context: Vec<f32>,
}

impl ContrastiveSearch {
    /// `sampling` must be valid; of its samplers biases, `min_tokens` and penalties act before the candidates are taken.
    ///
    /// # Errors
    /// [`SampleError::UnknownToken`] if a bias is for a token outside the vocabulary.
    pub fn new(
        settings: Contrastive,
        sampling: &Sampling,
        vocab: &SamplerVocab,
        d_model: usize,
    ) -> Result<Self, SampleError> {
        let sampler = Sampler::new(sampling, vocab, 0, 0)?;
        Ok(Self { settings, sampler, d_model, context: Vec::new() })
    }

    /// Adds the prompt: its tokens (S) and their last hidden states (S, C). Parts of a prompt may come one after the other.
    pub fn accept_prompt(&mut self, ids: &[TokenId], hidden: &[f32]) {
        assert_eq!(hidden.len(), ids.len() * self.d_model, "one hidden state per token");
        self.sampler.accept_prompt(ids);
        self.push_context(hidden);
    }

    /// The likeliest tokens with their probabilities, likeliest first; at most `top_k`.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn candidates(
        &mut self,
        logits: &[f32],
        mask: Option<TokenMask>,
        candidates: &mut Candidates,
    ) -> Result<Vec<(TokenId, f32)>, SampleError> {
        self.sampler.adjust(logits, mask, candidates)?;
        let softmax = candidates.softmax();
        let best = candidates.best_pairs(self.settings.top_k);
        Ok(best.map(|(id, logit)| (id, softmax.probability(logit) as f32)).collect())
    }

    /// Which of `candidates` to take, given the hidden states (k, C) that the model has after each. O(k·S·C).
    pub fn choose(&self, candidates: &[(TokenId, f32)], hidden: &[f32]) -> usize {
        assert_eq!(hidden.len(), candidates.len() * self.d_model, "one hidden state per candidate");
        let alpha = self.settings.penalty_alpha;
        let mut best = (0, f32::NEG_INFINITY);
        for (i, (&(_, probability), state)) in candidates.iter().zip(hidden.chunks(self.d_model)).enumerate()
        {
            let score = (1.0 - alpha) * probability - alpha * self.similarity(state);
            if score > best.1 {
                best = (i, score);
            }
        }
        best.0
    }

    /// Adds the token that was taken, with its hidden state (C).
    pub fn accept(&mut self, id: TokenId, hidden: &[f32]) {
        assert_eq!(hidden.len(), self.d_model, "one hidden state");
        self.sampler.accept(id);
        self.push_context(hidden);
    }

    fn push_context(&mut self, hidden: &[f32]) {
        for state in hidden.chunks(self.d_model) {
            self.context.extend(direction(state));
        }
    }

    /// The largest cosine similarity to a hidden state before it; 0 if there is none.
    fn similarity(&self, state: &[f32]) -> f32 {
        let direction: Vec<f32> = direction(state).collect();
        let similarities = self.context.chunks(self.d_model).map(|other| dot(&direction, other));
        similarities.reduce(f32::max).unwrap_or(0.0)
    }
}

/// `state` scaled to length 1; a state of length 0 stays as it is.
fn direction(state: &[f32]) -> impl Iterator<Item = f32> {
    let length = dot(state, state).sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    state.iter().map(move |x| x * scale)
}

/// `Σ aᵢ·bᵢ` in eight lanes, always in the same order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a_chunks, a_rest), (b_chunks, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0.0_f32; 8];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((lane, x), y) in lanes.iter_mut().zip(a).zip(b) {
            *lane += x * y;
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(x, y)| x * y);
    lanes.into_iter().chain(rest).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_was_said_is_avoided() {
        let vocab = SamplerVocab { size: 3, end_tokens: Arc::from([]), token_bytes: None };
        let mut search = ContrastiveSearch::new(
            Contrastive { penalty_alpha: 0.6, top_k: 2 },
            &Sampling::default(),
            &vocab,
            2,
        )
        .unwrap();
        search.accept_prompt(&[0], &[3.0, 0.0]);
        let candidates = search.candidates(&[0.0, 2.0, 1.0], None, &mut Candidates::new()).unwrap();
        assert_eq!(candidates.iter().map(|c| c.0).collect::<Vec<_>>(), [1, 2]);
        // The likelier candidate points where the context does; the other is orthogonal to it.
        assert_eq!(search.choose(&candidates, &[5.0, 0.0, 0.0, 1.0]), 1);
        assert_eq!(search.choose(&candidates, &[0.0, 1.0, 0.0, 1.0]), 0);
        assert_eq!(search.choose(&candidates, &[0.0, 0.0, f32::NAN, 0.0]), 0);
        search.accept(2, &[0.0, 1.0]);
        assert_eq!(search.choose(&candidates, &[-1.0, 0.0, 0.0, 1.0]), 0);
    }
}
