//! What a request does with its logits: draw, search beams, search contrastively.
//!
//! Where:  one for each request of an [`Engine`](crate::Engine).
//! Idea:   a driver owns no states. It looks at rows and says which branches go on with which tokens; forking and
//!         freeing sequences goes through the [`Desk`] that it is lent for a step.

mod beam;
mod contrastive;
mod draw;
mod emitter;
mod lookup;
mod read;

use wootz_grammar::{Grammar, Guide};
use wootz_text::{Sampling, Search, Sink, TokenId, Tokenizer, Usage};

use crate::adapters::AdapterId;
use crate::draft::{Draft, Pace};
use crate::runner::{Runner, Track};
use crate::{Candidates, Result, SampleError, SamplerVocab};
use beam::BeamDriver;
use contrastive::ContrastiveDriver;
use draw::DrawDriver;
pub(crate) use read::ReadDriver;
pub use read::{Reading, Reply, VectorPooling};

/// A sequence of a request.
#[derive(Debug)]
pub(crate) struct Branch {
    /// Its states; none before its first step, and none after it gave them to another.
    pub track: Option<Track>,
    /// All its tokens; those behind the track's length wait to be run.
    pub token_ids: Vec<TokenId>,
    /// Tokens at the beginning that its driver has seen or need not see: if they are run again, nobody looks.
    pub n_seen: usize,
    /// Positions that it is expected to reach.
    pub planned_len: usize,
    /// What is added to the model for it.
    pub adapter: Option<AdapterId>,
    /// Tokens that may come next, to be run along; those that turn out wrong are taken back.
    pub guess: Vec<TokenId>,
    /// How likely each of them is right, if those before it are.
    pub guess_rate: f32,
    /// What a small model has seen of it, and whether the guess is the small model's.
    pub draft: Option<Track>,
    pub is_drafted: bool,
    /// How well the small model guesses.
    pub pace: Pace,
    /// Tokens at the beginning that still are what they were when the small model saw them.
    pub n_valid: usize,
}

impl Branch {
    pub(crate) fn new(token_ids: Vec<TokenId>, planned_len: usize) -> Self {
        Self {
            track: None,
            token_ids,
            n_seen: 0,
            planned_len,
            adapter: None,
            guess: Vec::new(),
            guess_rate: 0.0,
            draft: None,
            is_drafted: false,
            pace: Pace::default(),
            n_valid: 0,
        }
    }

    /// Tokens that were run.
    pub(crate) fn n_run(&self) -> usize {
        self.track.as_ref().map_or(0, Track::len)
    }

    /// Tokens that wait to be run.
    pub(crate) fn n_pending(&self) -> usize {
        self.token_ids.len().saturating_sub(self.n_run())
    }

    /// Whether it waits for its next token alone, and nothing is guessed yet.
    pub(crate) fn wants_guess(&self) -> bool {
        self.n_run() > 0 && self.n_pending() == 1 && self.guess.is_empty()
    }

    /// Gives all its states back; what they held is computed again later.
    pub(crate) fn release(&mut self, runner: &mut Runner, draft: Option<&mut Draft>) {
        self.guess.clear();
        if let Some(track) = self.track.take() {
            runner.finish(track);
        }
        if let (Some(track), Some(draft)) = (self.draft.take(), draft) {
            draft.runner.finish(track);
        }
    }

    /// A second branch with the same past.
    fn fork(&self, desk: &mut Desk) -> Result<Branch> {
        let track = Some(desk.runner.fork(self.track.as_ref().expect("it has been run"))?);
        let (n_seen, adapter) = (self.n_seen, self.adapter);
        Ok(Branch { track, n_seen, adapter, ..Branch::new(self.token_ids.clone(), self.planned_len) })
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
    /// The tokens that were run for the first time, of all its branches.
    pub tokens: &'a [TokenId],
    /// Whether no branch has tokens left that wait.
    pub complete: bool,
    /// Branches of which the last token was run, each with the number of its rows: one, and one for each guess.
    pub ready: &'a [(usize, usize)],
    /// (rows, V): of the tokens that it wanted to see ([`Driver::n_outputs`]).
    pub logits: &'a [f32],
    /// (rows, C).
    pub hidden: &'a [f32],
}

/// What a driver may use during a step.
pub(crate) struct Desk<'a> {
    pub runner: &'a mut Runner,
    pub draft: Option<&'a mut Draft>,
    pub tokenizer: Option<&'a Tokenizer>,
    pub vocab: &'a SamplerVocab,
    pub candidates: &'a mut Candidates,
    pub sink: &'a mut Sink,
    pub usage: &'a mut Usage,
    /// The longest guess that may be run along; 0 if guessing is off.
    pub max_guess: usize,
}

impl Desk<'_> {
    /// Gives back a branch that is not continued.
    fn finish(&mut self, mut branch: Branch) {
        branch.release(self.runner, self.draft.as_deref_mut());
    }
}

/// A request's way of choosing tokens.
pub(crate) enum Driver {
    Draw(DrawDriver),
    Beam(BeamDriver),
    Contrastive(ContrastiveDriver),
    Read(ReadDriver),
}

impl Driver {
    /// For tokens that are only read, with the branch that runs them.
    pub(crate) fn reading(token_ids: Vec<TokenId>, reading: Reading) -> (Self, Branch) {
        let driver = ReadDriver::new(token_ids, reading);
        let branch = driver.branch();
        (Driver::Read(driver), branch)
    }

    pub(crate) fn new(
        sampling: &Sampling,
        vocab: &SamplerVocab,
        prompt: &[TokenId],
        room: Room,
        d_model: usize,
        grammar: Option<&Grammar>,
    ) -> Result<Self, SampleError> {
        Ok(match sampling.search {
            Search::Sample => Driver::Draw(DrawDriver::new(sampling, vocab, prompt, room, grammar)?),
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
            Driver::Read(_) => 1,
        }
    }

    /// Of a branch's next `n_tokens` tokens, how many of the last ones it wants to see; `is_last` if no others wait.
    pub(crate) fn n_outputs(&self, n_tokens: usize, is_last: bool) -> usize {
        match self {
            // The hidden state of every token, the prompt's too.
            Driver::Contrastive(_) => n_tokens,
            Driver::Read(driver) => driver.n_outputs(n_tokens),
            Driver::Draw(_) | Driver::Beam(_) => usize::from(is_last),
        }
    }

    /// The most tokens of a prompt that it takes at once.
    pub(crate) fn max_chunk(&self) -> usize {
        match self {
            Driver::Contrastive(_) => 32,
            Driver::Read(driver) => driver.max_chunk(),
            Driver::Draw(_) | Driver::Beam(_) => usize::MAX,
        }
    }

    /// Whether all its branches go on together.
    pub(crate) fn is_lockstep(&self) -> bool {
        matches!(self, Driver::Beam(_) | Driver::Contrastive(_))
    }

    /// Whether guesses may be run along.
    pub(crate) fn takes_guesses(&self) -> bool {
        matches!(self, Driver::Draw(driver) if driver.takes_guesses())
    }

    /// The guides that will be asked for a mask after the next step.
    pub(crate) fn guides(&mut self) -> impl Iterator<Item = &mut Guide> {
        let draw = match self {
            Driver::Draw(driver) => Some(driver.guides()),
            _ => None,
        };
        draw.into_iter().flatten()
    }

    /// How many of a prompt's first tokens it can do without.
    pub(crate) fn max_skip(&self) -> usize {
        match self {
            Driver::Contrastive(_) => 0,
            Driver::Read(driver) => driver.max_skip(),
            Driver::Draw(_) | Driver::Beam(_) => usize::MAX,
        }
    }

    /// The next `n_tokens` tokens are not shown to it: their states were there already.
    pub(crate) fn skip(&mut self, n_tokens: usize) {
        if let Driver::Read(driver) = self {
            driver.skip(n_tokens);
        }
    }

    /// The most sequences that it makes of its branches in one step.
    pub(crate) fn n_forks(&self, n_branches: usize) -> usize {
        self.n_branches().saturating_sub(n_branches)
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
            Driver::Read(driver) => Ok(driver.advance(rows, desk)?.then_some(0)),
            Driver::Draw(driver) => driver.advance(branches, rows, desk),
            Driver::Beam(_) if !rows.complete => Ok(None),
            Driver::Beam(driver) => driver.advance(branches, rows, desk),
        }
    }
}
