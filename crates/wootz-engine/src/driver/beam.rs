//! Beam search: the likeliest continuations side by side; answers come when the search is over.
//!
//! Elsewhere: which beams go on and when it ends ([`BeamSearch`]).

use std::collections::HashMap;

use wootz_text::{Beam, FinishReason, Sampling, TokenId};

use super::emitter::{Chosen, Emitter};
use super::{Branch, Desk, Room, Rows};
use crate::{BeamSearch, Result, SampleError, SamplerVocab, StopMatcher};

/// Runs one beam search.
pub(crate) struct BeamDriver {
    search: Option<BeamSearch>,
    sampling: Sampling,
    num_beams: usize,
    max_tokens: usize,
}

impl BeamDriver {
    pub(super) fn new(
        beam: Beam,
        sampling: &Sampling,
        vocab: &SamplerVocab,
        prompt: &[TokenId],
        room: Room,
    ) -> Result<Self, SampleError> {
        Ok(Self {
            search: Some(BeamSearch::new(beam, sampling, vocab, prompt, room.max_tokens)?),
            sampling: sampling.clone(),
            num_beams: beam.num_beams,
            max_tokens: room.max_tokens,
        })
    }

    /// Twice the beams: while beams change places, old and new ones exist together.
    pub(super) fn n_branches(&self) -> usize {
        2 * self.num_beams
    }

    pub(super) fn advance(
        &mut self,
        branches: &mut Vec<Branch>,
        rows: Rows,
        desk: &mut Desk,
    ) -> Result<Option<usize>> {
        let logits: Vec<&[f32]> = rows.logits.chunks_exact(desk.vocab.size).collect();
        let (tokenizer, sampling) = (desk.tokenizer, &self.sampling);
        let ends = |ids: &[TokenId]| {
            let Some(tokenizer) = tokenizer.filter(|_| !sampling.stop.is_empty()) else { return false };
            let mut stops = StopMatcher::new(&sampling.stop);
            ids.len() > sampling.min_tokens && stops.push(&tokenizer.decode(ids, true)).stop.is_some()
        };
        let search = self.search.as_mut().expect("a search that is over has no branches");
        let continuations = search.step(&logits, ends, desk.candidates)?;
        // The last beam to continue a parent takes its states over; those before it fork.
        let mut uses: HashMap<usize, usize> = HashMap::new();
        continuations.iter().for_each(|c| *uses.entry(c.parent).or_default() += 1);
        let mut parents: Vec<Option<Branch>> = branches.drain(..).map(Some).collect();
        for continuation in &continuations {
            let left = uses.get_mut(&continuation.parent).expect("counted above");
            *left -= 1;
            let parent = &mut parents[continuation.parent];
            let mut branch = match *left == 0 {
                true => parent.take().expect("taken by the last user only"),
                false => parent.as_ref().expect("taken by the last user only").fork(desk)?,
            };
            branch.token_ids.push(continuation.token);
            branches.push(branch);
        }
        parents.into_iter().flatten().for_each(|parent| desk.finish(parent));
        if search.is_done() {
            return Ok(Some(self.report(desk)));
        }
        Ok(None)
    }

    /// Sends the hypotheses, best first; the number of new tokens.
    fn report(&mut self, desk: &mut Desk) -> usize {
        let hypotheses = self.search.take().map(BeamSearch::into_hypotheses).unwrap_or_default();
        let mut n_tokens = 0;
        for (choice, hypothesis) in hypotheses.into_iter().enumerate() {
            let mut emitter = Emitter::new(&self.sampling, choice, self.max_tokens);
            let mut ended = false;
            for (&id, &logprob) in hypothesis.token_ids.iter().zip(&hypothesis.logprobs) {
                if !self.sampling.ignore_eos && desk.vocab.end_tokens.contains(&id) {
                    break;
                }
                let logprob = self.sampling.logprobs.map(|_| logprob);
                let chosen = Chosen { id, logprob, top: &[], is_last: false };
                ended = emitter.token(desk.tokenizer, chosen, desk.sink).is_some();
                if ended {
                    break;
                }
            }
            if !ended {
                emitter.finish(desk.tokenizer, FinishReason::Stop, desk.sink);
            }
            n_tokens += emitter.n_tokens();
        }
        n_tokens
    }
}
