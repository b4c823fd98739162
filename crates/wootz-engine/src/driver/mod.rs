//! What a request does with its logits: draw, search beams, search contrastively.
//!
//! Where:  one for each request of an [`Engine`](crate::Engine).
//! Idea:   a driver owns no states. It looks at rows and says which branches go on with which tokens; forking and
//!         freeing sequences goes through the [`Desk`] that it is lent for a step.

mod beam;
mod contrastive;
mod draw;
mod emitter;

use wootz_text::{Sampling, Search, Sink, TokenId, Tokenizer};

use crate::runner::{Runner, Track};
use crate::{Candidates, Result, SampleError, SamplerVocab};
use beam::BeamDriver;
use contrastive::ContrastiveDriver;
use draw::DrawDriver;

/// A sequence of a request.
#[derive(Debug)]
pub(crate) struct Branch {
    /// Its states; none before its first step.
    pub track: Option<Track>,
    /// Tokens that were not run yet.
    pub pending: Vec<TokenId>,
    /// Positions that it is expected to reach.
    pub planned_len: usize,
}

impl Branch {
    pub(crate) fn new(pending: Vec<TokenId>, planned_len: usize) -> Self {
        Self { track: None, pending, planned_len }
    }

    fn track(&self) -> &Track {
        self.track.as_ref().expect("it has been run")
    }

    /// A second branch with the same past that goes on with `token`.
    fn fork(&self, desk: &mut Desk, token: TokenId) -> Result<Branch> {
        let track = Some(desk.runner.fork(self.track())?);
        Ok(Branch { track, pending: vec![token], planned_len: self.planned_len })
    }
}

/// How far a request may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// New tokens, at least 1.
    pub max_tokens: usize,
    /// The seed in use.
    pub seed: u64,
}

/// What a step gave a request.
pub(crate) struct Rows<'a> {
    /// The tokens that were run, of all its branches.
    pub tokens: &'a [TokenId],
    /// Whether no branch has pending tokens left.
    pub complete: bool,
    /// (rows, V): the last token's of each branch, or every token's for a driver that wants hidden states.
    pub logits: &'a [f32],
    /// (rows, C).
    pub hidden: &'a [f32],
}

/// What a driver may use during a step.
pub(crate) struct Desk<'a> {
    pub runner: &'a mut Runner,
    pub tokenizer: Option<&'a Tokenizer>,
    pub vocab: &'a SamplerVocab,
    pub candidates: &'a mut Candidates,
    pub sink: &'a mut Sink,
}

impl Desk<'_> {
    /// Gives back a branch that is not continued.
    fn finish(&mut self, branch: Branch) {
        if let Some(track) = branch.track {
            self.runner.finish(track);
        }
    }
}

/// A request's way of choosing tokens.
pub(crate) enum Driver {
    Draw(DrawDriver),
    Beam(BeamDriver),
    Contrastive(ContrastiveDriver),
}

impl Driver {
    pub(crate) fn new(
        sampling: &Sampling,
        vocab: &SamplerVocab,
        prompt: &[TokenId],
        room: Room,
        d_model: usize,
    ) -> Result<Self, SampleError> {
        Ok(match sampling.search {
            Search::Sample => Driver::Draw(DrawDriver::new(sampling, vocab, prompt, room)?),
            Search::Beam(beam) => Driver::Beam(BeamDriver::new(beam, sampling, vocab, prompt, room)?),
            Search::Contrastive(search) => {
                Driver::Contrastive(ContrastiveDriver::new(search, sampling, vocab, room, d_model)?)
            }
        })
    }

    /// The most sequences that it has at a time.
    pub(crate) fn n_branches(&self) -> usize {
        match self {
            Driver::Draw(driver) => driver.n_branches(),
            Driver::Beam(driver) => driver.n_branches(),
            Driver::Contrastive(driver) => driver.n_branches(),
        }
    }

    /// Whether it looks at the hidden state of every token, the prompt's too.
    pub(crate) fn wants_hidden(&self) -> bool {
        matches!(self, Driver::Contrastive(_))
    }

    /// The most tokens of a prompt that it takes at once.
    pub(crate) fn max_chunk(&self) -> usize {
        if self.wants_hidden() { 32 } else { usize::MAX }
    }

    /// Takes the rows of a step. `Some(n)` when all choices are finished, with `n` new tokens together.
    pub(crate) fn advance(
        &mut self,
        branches: &mut Vec<Branch>,
        rows: Rows,
        desk: &mut Desk,
    ) -> Result<Option<usize>> {
        match self {
            Driver::Contrastive(driver) => driver.advance(branches, rows, desk),
            _ if !rows.complete => Ok(None),
            Driver::Draw(driver) => driver.advance(branches, rows, desk),
            Driver::Beam(driver) => driver.advance(branches, rows, desk),
        }
    }
}
