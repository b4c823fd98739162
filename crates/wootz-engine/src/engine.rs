//! The engine: requests in, tokens out, one ragged batch a step.
//!
//! Where:  driven by whoever holds it, by calling [`Engine::step`]; it has no thread of its own.
//! Idea:   every request is a [`Driver`](crate::driver::Driver) with some branches (choices, beams, candidates), each
//!         a sequence with pending tokens. A step takes what is pending, as much as fits, runs it at once, and hands
//!         every driver its rows. When blocks run out, the last by precedence gives its own up and is computed again
//!         later: its tokens are kept, and so is all that its driver knows.
//! Source: Yu et al. 2022, Orca (iteration-level scheduling), OSDI '22, §3; Kwon et al. 2023, §4.5 (recomputation).
//! Elsewhere: which tokens a step takes ([`scheduler`](crate::scheduler)), what happens with logits ([`sampler`](crate::sampler)), the states ([`Runner`]).

use std::sync::Arc;
use std::time::Instant;

use wootz_grammar::{Grammar, Grammars};
use wootz_graph::Addition;
use wootz_text::{
    Cancelled, ContextFull, GenerateEvent, ModelError, Sampling, Sink, TokenId, Tokenizer, Usage,
};

use crate::adapters::AdapterId;
use crate::draft::Draft;
use crate::driver::{Branch, Desk, Driver, Reading, Room, Rows};
use crate::job::{Job, truncate_left};
use crate::runner::{Forward, Outputs, Runner, Work};
use crate::scheduler::{Limits, Share, shares};
use crate::{Candidates, Door, EngineCounts, Error, Identity, Prefix, PrefixLimits, Result, SamplerVocab};

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
    /// What is added to the model for this request.
    pub adapter: Option<AdapterId>,
}

/// Tokens that are only read.
pub struct ReadRequest {
    /// At least one token; at least two where their log-probabilities are asked for.
    pub token_ids: Vec<TokenId>,
    /// What to make of them.
    pub reading: Reading,
    /// When and whether.
    pub schedule: Schedule,
    /// What is added to the model for this request.
    pub adapter: Option<AdapterId>,
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
    /// Without states, in order of precedence.
    waiting: Vec<Job>,
    /// In order of precedence.
    running: Vec<Job>,
    candidates: Candidates,
    n_submitted: u64,
    counts: EngineCounts,
    grammars: Arc<Grammars>,
    /// The longest guess; 0 if guessing is off.
    max_guess: usize,
    draft: Option<Draft>,
    identity: Option<Identity>,
}

/// The longest guess.
const MAX_GUESS: usize = 15;

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
        let grammars = Arc::new(Grammars::new(tokenizer.clone(), size, end_tokens));
        let vocab = SamplerVocab { size, end_tokens: end_tokens.into(), token_bytes: bytes };
        Self {
            runner,
            tokenizer,
            vocab,
            options,
            waiting: Vec::new(),
            running: Vec::new(),
            candidates: Candidates::default(),
            n_submitted: 0,
            counts: EngineCounts::default(),
            grammars,
            max_guess: 0,
            draft: None,
            identity: None,
        }
    }

    /// Guesses what comes next from what was said, and runs the guess along where that costs little. Tokens stay the same.
    ///
    /// Without effect on a model with recurrences, whose states cannot be taken back.
    pub fn with_guessing(mut self) -> Self {
        self.max_guess = if self.runner.can_truncate() { MAX_GUESS } else { 0 };
        self
    }

    /// Has a small model guess where looking back finds nothing. Tokens stay the same; where it does not pay it rests.
    ///
    /// # Errors
    /// [`Error::Draft`] if the small model has other tokens, or either has recurrences, which cannot be taken back.
    pub fn with_draft(self, small: Runner) -> Result<Self> {
        let size = small.network().config.vocab_size;
        if size != self.vocab.size {
            return Err(Error::Draft(format!("it has {size} tokens, expected {}", self.vocab.size)));
        }
        if !(small.can_truncate() && self.runner.can_truncate()) {
            return Err(Error::Draft("recurrent states cannot be taken back".to_owned()));
        }
        let n_numbers = |runner: &Runner| {
            let specs = runner.network().params.specs().iter();
            specs.map(|spec| spec.n_elements()).sum::<usize>() as f32
        };
        let cost = n_numbers(&small) / n_numbers(&self.runner);
        let max_batch_tokens = self.options.max_batch_tokens;
        let engine = self.with_guessing();
        Ok(Self { draft: Some(Draft { runner: small, cost, max_batch_tokens }), ..engine })
    }

    /// Says which model this is, so that what it computed can be saved for another process.
    pub fn with_identity(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// What a file with a computed beginning must be like to be restored here.
    ///
    /// # Errors
    /// [`Error::NoPrefixes`] if this engine keeps none, or does not know which model it runs; [`Error::NoAdapter`].
    pub fn prefix_limits(&self, adapter: Option<AdapterId>) -> Result<PrefixLimits> {
        if !self.runner.keeps_prefixes() {
            return Err(Error::NoPrefixes("they are switched off, or it has recurrences"));
        }
        let identity = self.identity.ok_or(Error::NoPrefixes("nobody said which model it is"))?;
        let fingerprint = adapter.map(|id| self.runner.fingerprint(id)).transpose()?;
        Ok(PrefixLimits {
            identity: fingerprint.map_or(identity, |fingerprint| identity.with_adapter(fingerprint)),
            vocab_size: self.vocab.size,
            max_blocks: self.runner.n_blocks(),
            bytes_a_block: self.runner.bytes_a_block(),
        })
    }

    /// What is kept of these tokens from their beginning, in whole blocks; empty if nothing is.
    ///
    /// # Errors
    /// As [`prefix_limits`](Self::prefix_limits).
    pub fn save_prefix(&mut self, token_ids: &[TokenId], adapter: Option<AdapterId>) -> Result<Prefix> {
        self.prefix_limits(adapter)?;
        self.runner.export(token_ids, adapter)
    }

    /// Keeps a beginning as if it had just been computed, as far as there is room. How many of its tokens are kept.
    ///
    /// # Errors
    /// As [`prefix_limits`](Self::prefix_limits), and blocks of another size.
    pub fn restore_prefix(&mut self, prefix: &Prefix, adapter: Option<AdapterId>) -> Result<usize> {
        self.prefix_limits(adapter)?;
        self.runner.import(prefix, adapter)
    }

    /// Compiles constraints for this engine, on any thread.
    pub fn grammars(&self) -> Arc<Grammars> {
        self.grammars.clone()
    }

    /// The tokenizer, where there is one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_deref()
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
        EngineCounts {
            n_waiting: self.waiting.len(),
            n_running: self.running.len(),
            n_blocks: self.runner.n_blocks(),
            n_free_blocks: self.runner.n_free_blocks(),
            n_cached_blocks: self.runner.n_idle_blocks(),
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
        let grammar = compile(&self.grammars, &request.sampling)?;
        self.submit_compiled(request, grammar)
    }

    /// As [`submit`](Self::submit), with the request's constraint compiled already.
    pub(crate) fn submit_compiled(
        &mut self,
        request: Request,
        grammar: Option<Grammar>,
    ) -> Result<(), ModelError> {
        let Request { mut token_ids, sampling, sink, schedule, adapter } = request;
        self.door().check(&token_ids, &sampling)?;
        let max_context = self.options.max_context;
        let bos = self.tokenizer.as_ref().and_then(|tokenizer| tokenizer.special().bos);
        let n_head = usize::from(bos.is_some() && bos == token_ids.first().copied());
        let mut usage = Usage { prompt_tokens: token_ids.len(), ..Usage::default() };
        if sampling.context_full != ContextFull::Error {
            let n_new = sampling.max_tokens.unwrap_or(max_context / 4).min(max_context / 2).max(1);
            usage.dropped_tokens = truncate_left(&mut token_ids, n_head, n_new, max_context);
        }
        let left = max_context - token_ids.len();
        let most = if sampling.context_full == ContextFull::Shift { usize::MAX } else { left };
        let room = Room {
            max_tokens: sampling.max_tokens.unwrap_or(left).min(most),
            seed: sampling.seed.unwrap_or(self.n_submitted),
        };
        let d_model = self.network().config.d_hidden();
        let driver = match Driver::new(&sampling, &self.vocab, &token_ids, room, d_model, grammar.as_ref()) {
            Ok(driver) => driver,
            Err(error) => {
                let mut sink = sink;
                sink(GenerateEvent::Error(ModelError::invalid("sampling", error.to_string())));
                return Ok(());
            }
        };
        let planned_len = token_ids.len().saturating_add(room.max_tokens).min(max_context);
        self.use_adapter(adapter)?;
        let branches = vec![Branch { adapter, ..Branch::new(token_ids, planned_len) }];
        let context_full = sampling.context_full;
        let arrival = self.n_submitted;
        self.take_on(Job { driver, branches, sink, schedule, arrival, context_full, n_head, usage, adapter });
        Ok(())
    }

    /// Takes tokens on that are only read. The answer comes during a later step.
    ///
    /// # Errors
    /// As [`submit`](Self::submit); the answer's place is dropped unused then.
    pub fn read(&mut self, request: ReadRequest) -> Result<(), ModelError> {
        let ReadRequest { token_ids, reading, schedule, adapter } = request;
        self.door().check_reading(&token_ids)?;
        if let Reading::Logprobs { from, .. } = reading
            && !(1..token_ids.len()).contains(&from)
        {
            let message = format!("expected tokens before and from index {from} of {}", token_ids.len());
            return Err(ModelError::invalid("continuation", message));
        }
        let usage = Usage { prompt_tokens: token_ids.len(), ..Usage::default() };
        self.use_adapter(adapter)?;
        let (driver, branch) = Driver::reading(token_ids, reading);
        let branch = Branch { adapter, ..branch };
        let (branches, sink) = (vec![branch], Box::new(|_| {}));
        let (arrival, context_full, n_head) = (self.n_submitted, ContextFull::Error, 0);
        self.take_on(Job { driver, branches, sink, schedule, arrival, context_full, n_head, usage, adapter });
        Ok(())
    }

    /// Loads an adapter, for requests to name; those that run go on undisturbed.
    ///
    /// # Errors
    /// [`Error::NoAdapterSlot`], and additions that are not this model's.
    pub fn load_adapter(&mut self, additions: &[Addition]) -> Result<AdapterId> {
        self.runner.load_adapter(additions)
    }

    /// Frees an adapter's memory.
    ///
    /// # Errors
    /// [`Error::AdapterInUse`] while requests with it wait or run, [`Error::NoAdapter`] if it is not loaded.
    pub fn unload_adapter(&mut self, id: AdapterId) -> Result<()> {
        self.runner.unload_adapter(id)
    }

    fn use_adapter(&mut self, adapter: Option<AdapterId>) -> Result<(), ModelError> {
        let used = adapter.map_or(Ok(()), |id| self.runner.use_adapter(id));
        used.map_err(|error| ModelError::invalid("adapter", error.to_string()))
    }

    /// A job's last event; its adapter has one user less.
    fn finish(&mut self, job: Job, outcome: Result<usize, ModelError>) {
        if let Some(id) = job.adapter {
            self.runner.leave_adapter(id);
        }
        job.finish(outcome);
    }

    fn take_on(&mut self, job: Job) {
        insert(&mut self.waiting, job);
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
        if let Some(draft) = &mut self.draft {
            draft.runner.forget_all();
        }
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
        for job in &mut self.running {
            job.shift(self.options.max_context, &mut self.runner, self.draft.as_mut());
        }
        self.admit();
        self.begin()?;
        let shares = self.make_room();
        if shares.is_empty() {
            return Ok(());
        }
        let (forward, ran) = self.run(&shares)?;
        self.counts.n_steps += 1;
        self.counts.last_tokens = shares.iter().map(|share| share.n_tokens + share.n_guess).sum();
        self.counts.last_sequences = shares.len();
        self.hand_out(&ran, &forward);
        self.go_ahead()
    }

    /// Has the small model guess, where the next batch leaves room for guesses.
    fn go_ahead(&mut self) -> Result<()> {
        let Some(draft) = &mut self.draft else { return Ok(()) };
        let is_waiting = |job: &Job| job.branches.iter().all(|branch| branch.n_pending() <= 1);
        // Beside prompts, nothing is guessed.
        match self.waiting.is_empty() && self.running.iter().all(is_waiting) {
            true => draft.go_ahead(&mut self.running),
            false => Ok(()),
        }
    }

    fn end_where(&mut self, ends: impl Fn(&Job) -> bool, error: ModelError) {
        for job in (0..self.running.len()).rev() {
            if ends(&self.running[job]) {
                self.end(job, Err(error.clone()));
            }
        }
        for job in std::mem::take(&mut self.waiting) {
            match ends(&job) {
                true => self.finish(job, Err(error.clone())),
                false => self.waiting.push(job),
            }
        }
    }

    /// Moves waiting requests to the running ones while there is room for their sequences and tokens. One of higher
    /// priority takes the place of one of lower priority.
    fn admit(&mut self) {
        while let Some(job) = self.waiting.first() {
            let n_sequences: usize = self.running.iter().map(|job| job.driver.n_branches()).sum();
            let n_promised: usize = self.running.iter().map(Job::n_missing_blocks).sum();
            let n_available = self.runner.n_free_blocks() + self.runner.n_idle_blocks();
            let has_room = n_sequences + job.driver.n_branches() <= self.options.max_sequences
                && job.n_blocks() + n_promised <= n_available;
            if has_room || self.running.is_empty() {
                let job = self.waiting.remove(0);
                insert(&mut self.running, job);
            } else if self.running.last().is_some_and(|last| last.schedule.priority < job.schedule.priority) {
                self.preempt(self.running.len() - 1);
            } else {
                return;
            }
        }
    }

    /// Takes a running request's states away. It waits again, and goes on where it was.
    fn preempt(&mut self, job: usize) {
        let mut job = self.running.remove(job);
        self.counts.n_preemptions += u64::from(job.holds_blocks());
        job.release(&mut self.runner, self.draft.as_mut());
        insert(&mut self.waiting, job);
    }

    /// Gives every branch without states a place for them, and what others have computed already.
    fn begin(&mut self) -> Result<()> {
        for job in &mut self.running {
            for at in 0..job.branches.len() {
                if job.branches[at].n_pending() <= 1 && job.branches[at].track.is_some() {
                    continue;
                }
                let mut track = match job.branches[at].track.take() {
                    Some(track) => track,
                    None => match closest(&job.branches, at) {
                        Some((other, n_alike)) => self.runner.start_like(other, n_alike)?,
                        None => {
                            let branch = &job.branches[at];
                            self.runner.start_with(branch.planned_len, branch.adapter)?
                        }
                    },
                };
                let branch = &mut job.branches[at];
                let most = job.driver.max_skip().max(branch.n_seen).min(branch.token_ids.len() - 1);
                let n_adopted = self.runner.adopt(&mut track, &branch.token_ids, most);
                let n_unseen = track.len().saturating_sub(branch.n_seen);
                if n_adopted > 0 && n_unseen > 0 {
                    job.driver.skip(n_unseen);
                    branch.n_seen = track.len();
                    job.usage.cached_tokens += n_unseen;
                }
                branch.track = Some(track);
                // Others of its branches begin when this one has computed what they share.
                if branch.n_pending() > 1 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What the next batch takes, after requests at the end have given up their blocks for those before them.
    fn make_room(&mut self) -> Vec<Share> {
        let mut limits = Limits {
            max_tokens: self.options.max_batch_tokens,
            shares_blocks: self.runner.keeps_prefixes(),
            takes_guesses: self.max_guess > 0,
        };
        loop {
            let shares = shares(&self.running, limits);
            let n_needed: usize = shares.iter().map(|share| self.n_needed(share)).sum::<usize>()
                + self.running.iter().map(n_forks).sum::<usize>();
            if n_needed <= self.runner.n_free_blocks() + self.runner.n_idle_blocks() {
                return shares;
            }
            match self.running.len() - 1 {
                // Nobody gives way to a guess.
                _ if shares.iter().any(|share| share.n_guess > 0) => limits.takes_guesses = false,
                // It is alone and still does not fit.
                0 => self.end(0, Err(ModelError::failed(Error::NoBlock))),
                last => self.preempt(last),
            }
        }
    }

    fn n_needed(&self, share: &Share) -> usize {
        let track = &self.running[share.job].branches[share.branch].track;
        track.as_ref().map_or(0, |track| track.n_missing_blocks(share.n_tokens + share.n_guess))
    }

    /// Runs the model over the shares; masks are computed meanwhile.
    fn run(&mut self, shares: &[Share]) -> Result<(Forward, Vec<Ran>)> {
        let mut ran = Vec::with_capacity(shares.len());
        for share in shares {
            let job = &mut self.running[share.job];
            let branch = &mut job.branches[share.branch];
            branch.guess.truncate(share.n_guess);
            let (start, end) = (branch.n_run(), branch.n_run() + share.n_tokens);
            let n_new = end.saturating_sub(branch.n_seen.max(start));
            let is_last = end == branch.token_ids.len();
            let n_outputs = job.driver.n_outputs(n_new, is_last) + share.n_guess;
            let token_ids = [&branch.token_ids[start..end], &branch.guess].concat();
            ran.push(Ran { job: share.job, branch: share.branch, n_new, is_last, n_outputs, token_ids });
        }
        let mut work = Vec::with_capacity(ran.len());
        let mut guides = Vec::new();
        let mut next = ran.iter().peekable();
        for (index, job) in self.running.iter_mut().enumerate() {
            let mut has_last = false;
            for (at, branch) in job.branches.iter_mut().enumerate() {
                let Some(ran) = next.next_if(|ran| (ran.job, ran.branch) == (index, at)) else { continue };
                has_last |= ran.is_last;
                let track = branch.track.as_mut().expect("every branch with a share has begun");
                let outputs = Outputs::Tail(ran.n_outputs);
                work.push(Work { track, token_ids: &ran.token_ids, outputs });
            }
            if has_last {
                guides.extend(job.driver.guides());
            }
        }
        let runner = &mut self.runner;
        let forward = match guides.is_empty() {
            true => runner.forward(&mut work, None),
            false => beside(move || compute_masks(guides), || runner.forward(&mut work, None)),
        };
        drop(work);
        Ok((forward?, ran))
    }

    /// Gives every driver the rows of its branches.
    fn hand_out(&mut self, ran: &[Ran], forward: &Forward) {
        let config = &self.runner.network().config;
        let (v, c) = (config.vocab_size, config.d_hidden());
        let mut row = 0;
        let mut ended = Vec::new();
        for group in ran.chunk_by(|a, b| a.job == b.job) {
            let job = &mut self.running[group[0].job];
            let first = row;
            let (mut tokens, mut ready) = (Vec::new(), Vec::new());
            for ran in group {
                let branch = &mut job.branches[ran.branch];
                row += ran.n_outputs;
                let end = branch.n_run() - branch.guess.len();
                tokens.extend_from_slice(&branch.token_ids[end - ran.n_new..end]);
                branch.n_seen = branch.n_seen.max(end);
                if ran.is_last {
                    ready.push((ran.branch, ran.n_outputs));
                }
                let track = branch.track.as_mut().expect("it was run");
                self.runner.publish(track, &branch.token_ids);
            }
            if tokens.is_empty() {
                continue;
            }
            let rows = Rows {
                tokens: &tokens,
                complete: job.branches.iter().all(|branch| branch.n_pending() == 0),
                ready: &ready,
                logits: &forward.logits[first * v..row * v],
                hidden: &forward.hidden[first * c..row * c],
            };
            let mut desk = Desk {
                runner: &mut self.runner,
                draft: self.draft.as_mut(),
                tokenizer: self.tokenizer.as_deref(),
                vocab: &self.vocab,
                candidates: &mut self.candidates,
                sink: &mut job.sink,
                usage: &mut job.usage,
                max_guess: self.max_guess,
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
        job.release(&mut self.runner, self.draft.as_mut());
        if let Ok(completion_tokens) = outcome {
            self.counts.prompt_tokens += job.usage.prompt_tokens as u64;
            self.counts.cached_tokens += job.usage.cached_tokens as u64;
            self.counts.completion_tokens += completion_tokens as u64;
            self.counts.guessed_tokens += job.usage.guessed_tokens as u64;
            self.counts.right_tokens += job.usage.right_tokens as u64;
        }
        self.finish(job, outcome);
    }
}

/// Puts a job where its precedence says.
fn insert(jobs: &mut Vec<Job>, job: Job) {
    let at = jobs.partition_point(|other| other.precedence() < job.precedence());
    jobs.insert(at, job);
}

/// The branch with states that has most tokens in common with branch `at`, and how many.
fn closest(branches: &[Branch], at: usize) -> Option<(&crate::Track, usize)> {
    let tokens = &branches[at].token_ids;
    let n_alike = |other: &Branch| tokens.iter().zip(&other.token_ids).take_while(|(a, b)| a == b).count();
    let others = branches.iter().enumerate().filter(|(i, _)| *i != at);
    let with_states = others.filter_map(|(_, other)| Some((other.track.as_ref()?, n_alike(other))));
    let most = tokens.len() - 1;
    with_states.map(|(track, n)| (track, n.min(most))).max_by_key(|(track, n)| track.len().min(*n))
}

/// Blocks that a driver may take in the next step for new branches.
fn n_forks(job: &Job) -> usize {
    match job.branches.iter().all(|branch| branch.n_pending() > 0) {
        true => job.driver.n_forks(job.branches.len()),
        false => 0,
    }
}

/// What one branch brought to a step.
struct Ran {
    job: usize,
    branch: usize,
    /// Tokens that its driver sees for the first time.
    n_new: usize,
    /// Whether its last token was among them.
    is_last: bool,
    /// Rows of the output.
    n_outputs: usize,
    /// The tokens, and those of the guess.
    token_ids: Vec<TokenId>,
}

/// The request's constraint, ready to use.
pub(crate) fn compile(grammars: &Grammars, sampling: &Sampling) -> Result<Option<Grammar>, ModelError> {
    let Some(constraint) = &sampling.constraint else { return Ok(None) };
    sampling.validate()?;
    let grammar = grammars.compile(constraint);
    grammar.map(Some).map_err(|error| ModelError::invalid("sampling.constraint", error.to_string()))
}

/// Has every guide compute its mask, which it keeps. What goes wrong is said again where the mask is used.
fn compute_masks(guides: Vec<&mut wootz_grammar::Guide>) {
    for guide in guides {
        let _ = guide.mask();
    }
}

/// Runs both at the same time, where there are threads; without them `side` is left out.
fn beside<T>(side: impl FnOnce() + Send, main: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("masks".to_owned()).spawn_scoped(scope, side);
        let result = main();
        drop(thread); // the scope waits for it
        result
    })
}
