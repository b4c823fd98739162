//! Beam search: of all continuations of several partial answers, keep the few with the largest summed log-probability.
//!
//! Where:  driven by the engine: one row of logits per running beam in, (parent, token) pairs out.
//! Idea:   each step ranks the continuations of all beams together. Those that end become hypotheses, scored by
//!         `sum of log-probabilities / length^length_penalty`; the best of the rest run on.
//! Source: Wu et al. 2016, GNMT, §7 (length normalisation); the rules of ending are those of Hugging Face's `generate`.
//!         COMPAT: biases and penalties act on log-probabilities, and scores are summed after them, as there.
//! Elsewhere: copying the parents' keys and values (the engine).
//!
//! # Invariants
//! - Running beams are ordered by score, best first; equal scores by parent, then token.

use wootz_text::{Beam, EarlyStopping, Sampling, TokenId};

use super::candidates::Candidates;
use super::exp::pow;
use super::softmax::Softmax;
use super::{SampleError, Sampler, SamplerVocab};

/// A beam search over one prompt.
#[derive(Debug, Clone)]
pub struct BeamSearch {
    settings: Beam,
    n_returned: usize,
    max_tokens: usize,
    end_tokens: Vec<TokenId>,
    running: Vec<RunningBeam>,
    /// Best first, at most `num_beams`.
    finished: Vec<Hypothesis>,
    n_tokens: usize,
    is_done: bool,
    logprobs: Vec<f32>,
}

/// A beam of the next step: beam `parent` of this step, and a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuation {
    /// Index among the beams whose logits were given.
    pub parent: usize,
    /// What it is continued by.
    pub token: TokenId,
}

/// A finished answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// New tokens, the end token included if there is one.
    pub token_ids: Vec<TokenId>,
    /// Each token's log-probability under the model's own distribution.
    pub logprobs: Vec<f32>,
    /// Sum of log-probabilities after biases and penalties, divided by `length^length_penalty`.
    pub score: f64,
}

#[derive(Debug, Clone)]
struct RunningBeam {
    sampler: Sampler,
    token_ids: Vec<TokenId>,
    logprobs: Vec<f32>,
    score: f64,
}

/// A continuation under consideration.
#[derive(Clone, Copy)]
struct Ranked {
    parent: usize,
    token: TokenId,
    logprob: f32,
    score: f64,
}

impl BeamSearch {
    /// Starts with one beam, the prompt. `sampling` must be valid; its `n` hypotheses are returned in the end.
    /// `max_tokens` is `sampling.max_tokens` or what the context has left.
    ///
    /// # Errors
    /// [`SampleError::UnknownToken`] if a bias is for a token outside the vocabulary.
    pub fn new(
        settings: Beam,
        sampling: &Sampling,
        vocab: &SamplerVocab,
        prompt: &[TokenId],
        max_tokens: usize,
    ) -> Result<Self, SampleError> {
        let mut sampler = Sampler::new(sampling, vocab, 0, 0)?;
        sampler.accept_prompt(prompt);
        let end_tokens = if sampling.ignore_eos { Vec::new() } else { vocab.end_tokens.to_vec() };
        let start = RunningBeam { sampler, token_ids: Vec::new(), logprobs: Vec::new(), score: 0.0 };
        Ok(Self {
            settings,
            n_returned: sampling.n,
            max_tokens,
            end_tokens,
            running: vec![start],
            finished: Vec::new(),
            n_tokens: 0,
            is_done: max_tokens == 0,
            logprobs: Vec::new(),
        })
    }

    /// Beams that want logits: 1 at first, `num_beams` later, fewer where the vocabulary or a mask leaves no more.
    pub fn n_running(&self) -> usize {
        self.running.len()
    }

    /// New tokens of a running beam.
    pub fn token_ids(&self, beam: usize) -> &[TokenId] {
        &self.running[beam].token_ids
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Takes each running beam's logits (V) and says which beams run on: `result[i]` is the new beam `i`. Empty when done.
    ///
    /// `ends` is asked about a continuation's new tokens, whether they end it otherwise (a stop string).
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn step(
        &mut self,
        logits: &[&[f32]],
        ends: impl Fn(&[TokenId]) -> bool,
        candidates: &mut Candidates,
    ) -> Result<Vec<Continuation>, SampleError> {
        assert!(!self.is_done, "the search is over");
        assert_eq!(logits.len(), self.running.len(), "one row of logits per running beam");
        let ranked = self.ranked(logits, candidates)?;
        self.n_tokens += 1;
        let children: Vec<RunningBeam> = ranked.iter().map(|ranked| self.child(ranked)).collect();
        let has_ended: Vec<bool> = children.iter().map(|child| self.has_ended(child, &ends)).collect();
        let mut continuations = Vec::new();
        let mut running = Vec::new();
        for (i, child) in children.into_iter().enumerate() {
            if !has_ended[i] {
                if running.len() < self.settings.num_beams {
                    continuations.push(Continuation { parent: ranked[i].parent, token: ranked[i].token });
                    running.push(child);
                }
            } else if i < self.settings.num_beams {
                self.finish(child); // those ranked lower only stand by for ended ones
            }
        }
        self.running = running;
        self.is_done = self.running.is_empty() || self.is_hopeless();
        if self.is_done {
            continuations.clear();
            self.running.clear();
        }
        Ok(continuations)
    }

    /// The best `n` hypotheses, best first.
    pub fn into_hypotheses(mut self) -> Vec<Hypothesis> {
        self.finished.truncate(self.n_returned);
        self.finished
    }

    /// The best continuations of all beams: enough that `num_beams` run on even if all end tokens are among them.
    fn ranked(&mut self, logits: &[&[f32]], candidates: &mut Candidates) -> Result<Vec<Ranked>, SampleError> {
        let n_kept = self.settings.num_beams * (1 + self.end_tokens.len()).max(2);
        let mut ranked = Vec::new();
        for (parent, (beam, &row)) in self.running.iter_mut().zip(logits).enumerate() {
            let softmax = Softmax::of(row)?;
            self.logprobs.clear();
            self.logprobs.extend(row.iter().map(|&logit| softmax.logprob(logit)));
            match beam.sampler.adjust(&self.logprobs, None, candidates) {
                Err(SampleError::NothingAllowed { .. }) => continue, // the other beams may go on
                adjusted => adjusted?,
            }
            ranked.extend(candidates.best_pairs(n_kept).map(|(token, adjusted)| Ranked {
                parent,
                token,
                logprob: self.logprobs[token as usize],
                score: beam.score + f64::from(adjusted),
            }));
        }
        if ranked.is_empty() {
            return Err(SampleError::NothingAllowed { vocab_size: self.logprobs.len() });
        }
        // Stable: of equal scores the lower parent comes first, within a parent the lower token.
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        ranked.truncate(n_kept);
        Ok(ranked)
    }

    fn child(&self, ranked: &Ranked) -> RunningBeam {
        let mut beam = self.running[ranked.parent].clone();
        beam.sampler.accept(ranked.token);
        beam.token_ids.push(ranked.token);
        beam.logprobs.push(ranked.logprob);
        beam.score = ranked.score;
        beam
    }

    fn has_ended(&self, child: &RunningBeam, ends: impl Fn(&[TokenId]) -> bool) -> bool {
        let is_end = child.token_ids.last().is_some_and(|id| self.end_tokens.contains(id));
        is_end || self.n_tokens == self.max_tokens || ends(&child.token_ids)
    }

    fn finish(&mut self, beam: RunningBeam) {
        let score = self.normalised(beam.score, self.n_tokens);
        let place = self.finished.partition_point(|hypothesis| hypothesis.score >= score);
        self.finished.insert(place, Hypothesis { token_ids: beam.token_ids, logprobs: beam.logprobs, score });
        self.finished.truncate(self.settings.num_beams);
    }

    /// Whether no running beam may still give a hypothesis that is better than the worst of enough finished ones.
    fn is_hopeless(&self) -> bool {
        let Some(worst) = self.finished.get(self.settings.num_beams - 1) else { return false };
        let length = match self.settings.early_stopping {
            EarlyStopping::WhenFull => return true,
            EarlyStopping::Never if self.settings.length_penalty > 0.0 => self.max_tokens,
            EarlyStopping::Never | EarlyStopping::Heuristic => self.n_tokens,
        };
        self.normalised(self.running[0].score, length) <= worst.score
    }

    fn normalised(&self, score: f64, length: usize) -> f64 {
        score / pow(length as f64, f64::from(self.settings.length_penalty))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wootz_text::Search;

    use super::*;

    fn search(beam: Beam, sampling: Sampling, max_tokens: usize) -> BeamSearch {
        let vocab = SamplerVocab { size: 4, end_tokens: Arc::from([0]), token_bytes: None };
        let sampling = Sampling { search: Search::Beam(beam), ..sampling };
        BeamSearch::new(beam, &sampling, &vocab, &[1], max_tokens).unwrap()
    }

    #[test]
    fn one_beam_is_greedy() {
        let beam = Beam { num_beams: 1, ..Beam::default() };
        let mut search = search(beam, Sampling::default(), 3);
        for row in [[0.0, 1.0, 3.0, 2.0], [0.0, 0.5, 0.5, 0.0], [1.0, 0.0, 0.0, 1.5]] {
            assert_eq!(search.n_running(), 1);
            search.step(&[&row], |_| false, &mut Candidates::new()).unwrap();
        }
        assert!(search.is_done());
        let hypotheses = search.into_hypotheses();
        assert_eq!(hypotheses[0].token_ids, [2, 1, 3]);
        let mean = hypotheses[0].logprobs.iter().sum::<f32>() / 3.0;
        assert!((hypotheses[0].score - f64::from(mean)).abs() < 1e-6);
    }

    #[test]
    fn a_stop_string_ends_a_beam() {
        let beam = Beam { num_beams: 2, early_stopping: EarlyStopping::WhenFull, ..Beam::default() };
        let mut search = search(beam, Sampling { n: 2, ..Sampling::default() }, 9);
        let row = [-9.0, 1.0, 2.0, 0.0];
        let pairs = search.step(&[&row], |ids| ids == [2], &mut Candidates::new()).unwrap();
        let pair = |token| Continuation { parent: 0, token };
        assert_eq!(pairs, [pair(1), pair(3)]);
        let pairs = search.step(&[&row, &row], |ids| ids == [1, 2], &mut Candidates::new()).unwrap();
        assert!(pairs.is_empty() && search.is_done());
        let ids: Vec<_> = search.into_hypotheses().into_iter().map(|h| h.token_ids).collect();
        assert_eq!(ids, [vec![2], vec![1, 2]]);
    }

    #[test]
    fn min_tokens_and_biases_hold_for_beams() {
        let sampling = Sampling {
            min_tokens: 2,
            logit_bias: [(3, f32::NEG_INFINITY)].into(),
            n: 3,
            ..Sampling::default()
        };
        let mut search = search(Beam { num_beams: 3, ..Beam::default() }, sampling, 4);
        while !search.is_done() {
            let rows = vec![[5.0_f32, 1.0, 0.5, 9.0]; search.n_running()];
            let rows: Vec<&[f32]> = rows.iter().map(|row| row.as_slice()).collect();
            search.step(&rows, |_| false, &mut Candidates::new()).unwrap();
        }
        let hypotheses = search.into_hypotheses();
        assert_eq!(hypotheses.len(), 3);
        for Hypothesis { token_ids, .. } in hypotheses {
            assert!(token_ids.iter().position(|&id| id == 0).is_none_or(|end| end >= 2), "{token_ids:?}");
            assert!(!token_ids.contains(&3));
        }
    }
}
