//! The engine: requests in, tokens out, one ragged batch a step.
//!
//! Where:  driven by whoever holds it, by calling [`Engine::step`]; it has no thread of its own.
//! Idea:   every request is a [`Driver`](crate::driver::Driver) with some branches (choices, beams, candidates), each
//!         a sequence with pending tokens. A step takes what is pending, as much as fits, runs it at once, and hands
//!         every driver its rows.
//! Elsewhere: what happens with logits ([`sampler`](crate::sampler)), the states ([`Runner`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use wootz_text::{Cancelled, GenerateEvent, ModelError, Sampling, Sink, TokenId, Tokenizer, Usage};

use crate::driver::{Branch, Driver, Reading, Room};
use crate::runner::{Forward, Outputs, Runner, Work};
use crate::{Candidates, Door, EngineCounts, Error, Result, SamplerVocab};

/// What an engine allows.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Positions of one sequence, prompt and answer.
    pub max_context: usize,
    /// New tokens a step; longer prompts are taken in several steps.
    pub max_batch_tokens: usize,
    /// Sequences at a time: choices, beams and candidates each count.
    pub max_sequences: usize,
}

/// A request of tokens.
pub struct Request {
    /// The prompt; at least one token.
    pub token_ids: Vec<TokenId>,
    /// How to continue it.
    pub sampling: Sampling,
    /// Where events go.
    pub sink: Sink,
    /// When and whether.
    pub schedule: Schedule,
}

/// Tokens that are only read.
pub struct ReadRequest {
    /// At least one token; at least two where their log-probabilities are asked for.
    pub token_ids: Vec<TokenId>,
    /// What to make of them.
    pub reading: Reading,
    /// When and whether.
    pub schedule: Schedule,
}

/// When a request is served, and whether at all.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// Higher ones first.
    pub priority: i32,
    /// Compared with the time that [`Engine::expire`] is given.
    pub deadline: Option<Instant>,
    /// Looked at between steps.
    pub cancelled: Option<Cancelled>,
}

/// Runs requests over one model.
pub struct Engine {
    runner: Runner,
    tokenizer: Option<Arc<Tokenizer>>,
    vocab: SamplerVocab,
    options: EngineOptions,
    waiting: VecDeque<Job>,
    running: Vec<Job>,
    candidates: Candidates,
    n_submitted: u64,
    counts: EngineCounts,
}

/// A request on its way.
struct Job {
    driver: Driver,
    branches: Vec<Branch>,
    sink: Sink,
    schedule: Schedule,
    prompt_tokens: usize,
}

impl Engine {
    /// An engine over a runner. Without a tokenizer texts are empty and stop strings never match.
    pub fn new(
        runner: Runner,
        tokenizer: Option<Arc<Tokenizer>>,
        end_tokens: &[TokenId],
        options: EngineOptions,
    ) -> Self {
        let bytes = tokenizer.clone().map(|tokenizer| -> crate::TokenBytes {
            Arc::new(move |id, out: &mut Vec<u8>| out.extend(tokenizer.token_bytes(id).unwrap_or_default()))
        });
        let size = runner.network().config.vocab_size;
        let vocab = SamplerVocab { size, end_tokens: end_tokens.into(), token_bytes: bytes };
        Self {
            runner,
            tokenizer,
            vocab,
            options,
            waiting: VecDeque::new(),
            running: Vec::new(),
            candidates: Candidates::default(),
            n_submitted: 0,
            counts: EngineCounts::default(),
        }
    }

    /// The model.
    pub fn network(&self) -> &wootz_model::Network {
        self.runner.network()
    }

    /// The checks that this engine makes before it takes a request on.
    pub fn door(&self) -> Door {
        Door { options: self.options, vocab_size: self.vocab.size, has_tokenizer: self.tokenizer.is_some() }
    }

    /// What there is now, and what was done so far.
    pub fn counts(&self) -> EngineCounts {
        let (n_blocks, n_free_blocks) = self.runner.n_blocks();
        EngineCounts {
            n_waiting: self.waiting.len(),
            n_running: self.running.len(),
            n_blocks,
            n_free_blocks,
            ..self.counts
        }
    }

    /// The runner, for those who look at states or run batches themselves.
    pub fn runner(&mut self) -> &mut Runner {
        &mut self.runner
    }

    /// Takes a request on. Its events come during later steps.
    ///
    /// # Errors
    /// What can be said without computing: invalid settings, an empty or too long prompt, unknown tokens.
    pub fn submit(&mut self, request: Request) -> Result<(), ModelError> {
        let Request { token_ids, sampling, sink, schedule } = request;
        self.door().check(&token_ids, &sampling)?;
        let prompt_tokens = token_ids.len();
        let left = self.options.max_context - prompt_tokens;
        let room = Room {
            max_tokens: sampling.max_tokens.unwrap_or(left).min(left),
            seed: sampling.seed.unwrap_or(self.n_submitted),
        };
        let d_model = self.runner.network().config.d_hidden();
        let driver = match Driver::new(&sampling, &self.vocab, &token_ids, room, d_model) {
            Ok(driver) => driver,
            Err(error) => {
                let mut sink = sink;
                sink(GenerateEvent::Error(ModelError::invalid("sampling", error.to_string())));
                return Ok(());
            }
        };
        let branches = vec![Branch::new(token_ids, prompt_tokens + room.max_tokens)];
        self.take_on(Job { driver, branches, sink, schedule, prompt_tokens });
        Ok(())
    }

    /// Takes tokens on that are only read. The answer comes during a later step.
    ///
    /// # Errors
    /// As [`submit`](Self::submit); the answer's place is dropped unused then.
    pub fn read(&mut self, request: ReadRequest) -> Result<(), ModelError> {
        let ReadRequest { token_ids, reading, schedule } = request;
        self.door().check_reading(&token_ids)?;
        if let Reading::Logprobs { from, .. } = reading
            && !(1..token_ids.len()).contains(&from)
        {
            let message = format!("expected tokens before and from index {from} of {}", token_ids.len());
            return Err(ModelError::invalid("continuation", message));
        }
        let prompt_tokens = token_ids.len();
        let (driver, branch) = Driver::reading(token_ids, reading);
        let sink = Box::new(|_| {});
        self.take_on(Job { driver, branches: vec![branch], sink, schedule, prompt_tokens });
        Ok(())
    }

    fn take_on(&mut self, job: Job) {
        self.waiting.push_back(job);
        self.n_submitted += 1;
    }

    /// Ends requests whose deadline is not after `now`.
    pub fn expire(&mut self, now: Instant) {
        self.end_where(
            |job| job.schedule.deadline.is_some_and(|deadline| deadline <= now),
            ModelError::TimedOut,
        );
    }

    /// Ends all requests with `error` and forgets all states: the way back after a step that failed.
    pub fn abort(&mut self, error: &ModelError) {
        let jobs = self.running.drain(..).chain(self.waiting.drain(..));
        jobs.for_each(|job| job.finish(Err(error.clone())));
        self.runner.forget_all();
    }

    /// Whether a step would do something.
    pub fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.running.is_empty()
    }

    /// One ragged batch: the next token of every running sequence, and as much of the prompts as fits.
    ///
    /// # Errors
    /// Only what no request is to blame for; a request's own failure is its last event.
    pub fn step(&mut self) -> Result<()> {
        self.end_where(Job::is_cancelled, ModelError::Cancelled);
        self.admit();
        let mut share = self.share();
        let forward = loop {
            if share.is_empty() {
                return Ok(());
            }
            match self.run(&share) {
                Ok(forward) => break forward,
                Err(Error::NoBlock) => {
                    // The youngest request gives way.
                    let last = self.running.len() - 1;
                    self.end(last, Err(ModelError::failed(Error::NoBlock)));
                    share.retain(|part| part.job != last);
                }
                Err(error) => return Err(error),
            }
        };
        self.counts.n_steps += 1;
        self.counts.last_tokens = share.iter().map(|share| share.n_tokens).sum();
        self.counts.last_sequences = share.len();
        self.hand_out(&share, &forward);
        Ok(())
    }

    fn end_where(&mut self, ends: impl Fn(&Job) -> bool, error: ModelError) {
        for job in (0..self.running.len()).rev() {
            if ends(&self.running[job]) {
                self.end(job, Err(error.clone()));
            }
        }
        for job in std::mem::take(&mut self.waiting) {
            match ends(&job) {
                true => job.finish(Err(error.clone())),
                false => self.waiting.push_back(job),
            }
        }
    }

    /// Moves waiting requests to the running ones while there is room for their sequences.
    fn admit(&mut self) {
        let mut n_sequences: usize = self.running.iter().map(|job| job.driver.n_branches()).sum();
        while let Some(job) = self.waiting.front() {
            n_sequences += job.driver.n_branches();
            if n_sequences > self.options.max_sequences {
                return;
            }
            self.running.extend(self.waiting.pop_front());
        }
    }

    /// Which pending tokens the next batch takes: single ones first, then prompts in order of arrival.
    fn share(&self) -> Vec<Share> {
        let all = || {
            let branches = |(job, running): (usize, &Job)| {
                (0..running.branches.len()).map(move |branch| (job, branch)).collect::<Vec<_>>()
            };
            self.running.iter().enumerate().flat_map(branches)
        };
        let pending = |job: usize, branch: usize| self.running[job].branches[branch].pending.len();
        let mut shares: Vec<Share> = all()
            .filter(|&(job, branch)| pending(job, branch) == 1)
            .map(|(job, branch)| Share { job, branch, n_tokens: 1 })
            .collect();
        let mut left = self.options.max_batch_tokens.saturating_sub(shares.len());
        for (job, branch) in all().filter(|&(job, branch)| pending(job, branch) > 1) {
            let limit = self.running[job].driver.max_chunk().min(left);
            let n_tokens = pending(job, branch).min(limit);
            if n_tokens > 0 {
                shares.push(Share { job, branch, n_tokens });
                left -= n_tokens;
            }
        }
        shares.sort_by_key(|share| (share.job, share.branch));
        shares
    }

    fn run(&mut self, shares: &[Share]) -> Result<Forward> {
        let mut work = Vec::with_capacity(shares.len());
        let mut shares = shares.iter().peekable();
        for (index, job) in self.running.iter_mut().enumerate() {
            for (at, branch) in job.branches.iter_mut().enumerate() {
                let Some(share) = shares.next_if(|share| (share.job, share.branch) == (index, at)) else {
                    continue;
                };
                if branch.track.is_none() {
                    branch.track = Some(self.runner.start(branch.planned_len)?);
                }
                let Branch { track: Some(track), pending, .. } = branch else {
                    unreachable!("a track was just started")
                };
                let is_last = share.n_tokens == pending.len();
                let outputs = Outputs::Tail(job.driver.n_outputs(share.n_tokens, is_last));
                work.push(Work { track, token_ids: &pending[..share.n_tokens], outputs });
            }
        }
        self.runner.forward(&mut work, None)
    }

    /// Gives every driver the rows of its branches.
    fn hand_out(&mut self, shares: &[Share], forward: &Forward) {
        let config = &self.runner.network().config;
        let (v, c) = (config.vocab_size, config.d_hidden());
        let mut row = 0;
        let mut ended = Vec::new();
        for group in shares.chunk_by(|a, b| a.job == b.job) {
            let job = &mut self.running[group[0].job];
            let first = row;
            let mut complete = true;
            let mut tokens = Vec::new();
            for share in group {
                let pending = &mut job.branches[share.branch].pending;
                let is_last = share.n_tokens == pending.len();
                complete &= is_last;
                row += job.driver.n_outputs(share.n_tokens, is_last);
                tokens.extend(pending.drain(..share.n_tokens));
            }
            let rows = crate::driver::Rows {
                tokens: &tokens,
                complete,
                logits: &forward.logits[first * v..row * v],
                hidden: &forward.hidden[first * c..row * c],
            };
            let mut desk = crate::driver::Desk {
                runner: &mut self.runner,
                tokenizer: self.tokenizer.as_deref(),
                vocab: &self.vocab,
                candidates: &mut self.candidates,
                sink: &mut job.sink,
            };
            match job.driver.advance(&mut job.branches, rows, &mut desk) {
                Ok(None) => {}
                Ok(Some(completion_tokens)) => ended.push((group[0].job, Ok(completion_tokens))),
                Err(error) => ended.push((group[0].job, Err(ModelError::failed(error)))),
            }
        }
        for (job, outcome) in ended.into_iter().rev() {
            self.end(job, outcome);
        }
    }

    /// Frees what a request holds and sends its last event.
    fn end(&mut self, job: usize, outcome: Result<usize, ModelError>) {
        let mut job = self.running.remove(job);
        for track in job.branches.drain(..).filter_map(|branch| branch.track) {
            self.runner.finish(track);
        }
        if let Ok(completion_tokens) = outcome {
            self.counts.prompt_tokens += job.prompt_tokens as u64;
            self.counts.completion_tokens += completion_tokens as u64;
        }
        job.finish(outcome);
    }
}

impl Job {
    fn is_cancelled(&self) -> bool {
        self.schedule.cancelled.as_ref().is_some_and(Cancelled::get)
    }

    /// Sends the last event.
    fn finish(mut self, outcome: Result<usize, ModelError>) {
        if let Driver::Read(driver) = self.driver {
            return driver.finish(outcome.map(|_| ()));
        }
        (self.sink)(match outcome {
            Ok(completion_tokens) => GenerateEvent::Usage(Usage {
                prompt_tokens: self.prompt_tokens,
                cached_tokens: 0,
                completion_tokens,
            }),
            Err(error) => GenerateEvent::Error(error),
        });
    }
}

/// Tokens of one branch that go into the next batch.
struct Share {
    job: usize,
    branch: usize,
    n_tokens: usize,
}
