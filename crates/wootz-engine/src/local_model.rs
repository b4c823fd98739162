//! A loaded model as everybody else sees it: `Generate`, `Score`, `Embed`.
//!
//! Where:  made by [`Host::add`]; cheap to clone and used from any thread.
//! Idea:   templates and tokenizers run on the caller's thread, and what can be refused is refused there; what is left
//!         goes to the compute thread by a channel of bounded length.
//! Elsewhere: the thread ([`Host`](crate::Host)), the scheduling ([`Engine`](crate::Engine)).

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use wootz_grammar::Grammars;
use wootz_graph::Addition;
use wootz_model::Words;
use wootz_text::{
    ChatInput, Embed, EmbedKind, Generate, GenerateRequest, Handle, ModelError, Prompt, Score, ScoreRequest,
    Scored, Sink, TokenId, Tokenizer,
};

use crate::engine::compile;
use crate::host::{Board, Command, ModelId, ModelStats, guarded};
use crate::{AdapterId, Door, Engine, Prefix, ReadRequest, Reading, Reply, Request, Schedule, VectorPooling};

/// A handle to a model on the compute thread.
#[derive(Clone)]
pub struct LocalModel {
    inner: Arc<Inner>,
    pooling: VectorPooling,
    adapter: Option<Arc<LoadedAdapter>>,
}

/// An adapter in a model's bank. It is unloaded when the last handle with it is dropped and no request of it runs any more.
struct LoadedAdapter {
    inner: Arc<Inner>,
    id: AdapterId,
}

impl Drop for LoadedAdapter {
    fn drop(&mut self) {
        let id = self.id;
        // Requests hold it until they end, so it is not in use; and a model that is gone has no bank.
        let unload = move |engine: Option<&mut Engine>| drop(engine.map(|engine| engine.unload_adapter(id)));
        let _ = self.inner.send(Command::With(self.inner.id(), Box::new(unload)));
    }
}

struct Inner {
    commands: mpsc::Sender<Command>,
    board: Arc<Board>,
    facts: Facts,
}

/// What stays the same as long as a model is loaded.
pub(crate) struct Facts {
    pub name: String,
    pub words: Words,
    pub door: Door,
    pub grammars: Arc<Grammars>,
    pub dim: usize,
    pub max_queued: usize,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Close(self.id()));
    }
}

impl Inner {
    fn id(&self) -> ModelId {
        Arc::as_ptr(&self.board) as ModelId
    }

    /// A place in the queue, or [`ModelError::Busy`].
    fn queue(&self) -> Result<(), ModelError> {
        self.board.under_way.fetch_add(1, Ordering::AcqRel);
        let queued = self.board.n_queued() - 1;
        if queued >= self.facts.max_queued {
            self.board.under_way.fetch_sub(1, Ordering::AcqRel);
            return Err(ModelError::Busy { queued });
        }
        Ok(())
    }

    fn send(&self, command: Command) -> Result<(), ModelError> {
        self.commands.send(command).map_err(|_| ModelError::Cancelled)
    }
}

impl LocalModel {
    pub(crate) fn new(commands: mpsc::Sender<Command>, board: Arc<Board>, facts: Facts) -> Self {
        let inner = Arc::new(Inner { commands, board, facts });
        Self { inner, pooling: VectorPooling::default(), adapter: None }
    }

    /// The same model with another way to make vectors of texts.
    pub fn with_pooling(self, pooling: VectorPooling) -> Self {
        Self { pooling, ..self }
    }

    /// The same model with an adapter, which is loaded into its bank. Both handles can be used side by side; what they
    /// are asked for shares batches.
    ///
    /// # Errors
    /// Additions that are not this model's, and a bank without a free slot.
    pub fn with_adapter(&self, additions: Vec<Addition>) -> Result<Self, ModelError> {
        let id = self.with_engine(move |engine| engine.load_adapter(&additions))?;
        let adapter = Some(Arc::new(LoadedAdapter { inner: self.inner.clone(), id }));
        Ok(Self { adapter, ..self.clone() })
    }

    fn adapter_id(&self) -> Option<AdapterId> {
        self.adapter.as_ref().map(|adapter| adapter.id)
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.inner.facts.name
    }

    /// Tokenizer, template and end tokens.
    pub fn words(&self) -> &Words {
        &self.inner.facts.words
    }

    /// Positions of one sequence, prompt and answer.
    pub fn max_context(&self) -> usize {
        self.inner.facts.door.options.max_context
    }

    /// Tokens of the vocabulary; a tokenizer may know fewer.
    pub fn vocab_size(&self) -> usize {
        self.inner.facts.door.vocab_size
    }

    /// Numbers for metrics, as of the last step.
    pub fn stats(&self) -> ModelStats {
        let board = &self.inner.board;
        let stats = board.stats.lock().expect("nothing panics while it holds the numbers");
        ModelStats { n_queued: board.n_queued(), ..stats.clone() }
    }

    /// Takes the model off the compute thread and frees its memory. What runs ends with [`ModelError::Cancelled`], and so
    /// does every later request.
    pub fn unload(&self) {
        let _ = self.inner.send(Command::Close(self.inner.id()));
    }

    /// Saves what is kept of these tokens from their beginning. How many tokens that is; nothing is written if it is none.
    ///
    /// Blocks; the compute thread only copies.
    ///
    /// # Errors
    /// A model that keeps nothing, and a file that cannot be written.
    pub fn save_prefix(&self, token_ids: Vec<TokenId>, path: &Path) -> Result<usize, ModelError> {
        let adapter = self.adapter_id();
        let (prefix, limits) = self.with_engine(move |engine| {
            Ok((engine.save_prefix(&token_ids, adapter)?, engine.prefix_limits(adapter)?))
        })?;
        if !prefix.token_ids.is_empty() {
            prefix.write(path, &limits).map_err(ModelError::failed)?;
        }
        Ok(prefix.token_ids.len())
    }

    /// Restores what [`save_prefix`](Self::save_prefix) wrote, as far as there is room; the tokens that are kept then.
    ///
    /// # Errors
    /// A model that keeps nothing, and a file of another model or a broken one.
    pub fn restore_prefix(&self, path: &Path) -> Result<Vec<TokenId>, ModelError> {
        let adapter = self.adapter_id();
        let limits = self.with_engine(move |engine| engine.prefix_limits(adapter))?;
        let prefix = Prefix::read(path, &limits).map_err(ModelError::failed)?;
        self.with_engine(move |engine| {
            let n_tokens = engine.restore_prefix(&prefix, adapter)?;
            Ok(prefix.token_ids[..n_tokens].to_vec())
        })
    }

    /// Does something with the engine between two steps, and waits for it.
    fn with_engine<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> crate::Result<T> + Send + 'static,
    ) -> Result<T, ModelError> {
        let (sender, answer) = mpsc::channel();
        let work = move |engine: Option<&mut Engine>| {
            let _ = sender.send(engine.map(work));
        };
        self.inner.send(Command::With(self.inner.id(), Box::new(work)))?;
        let done = answer.recv().ok().flatten().ok_or(ModelError::Cancelled)?;
        done.map_err(ModelError::failed)
    }

    /// A prompt as tokens, as [`generate`](Generate::generate) would run it.
    ///
    /// # Errors
    /// A template that the messages do not fit, or a model without tokenizer or template.
    pub fn tokenize(&self, prompt: Prompt) -> Result<Vec<TokenId>, ModelError> {
        match prompt {
            Prompt::TokenIds(token_ids) => Ok(token_ids),
            Prompt::Text(text) => self.encode(&text),
            Prompt::Chat { messages, tools, variables, continues } => {
                let template = self.words().template.as_ref();
                let template =
                    template.ok_or_else(|| self.unsupported("conversations: it has no chat template"))?;
                let input = ChatInput {
                    messages: &messages,
                    tools: &tools,
                    variables,
                    add_generation_prompt: true,
                    ..ChatInput::default()
                };
                let rendered = match continues {
                    true => template.render_open(&input),
                    false => template.render(&input),
                };
                let rendered = rendered.map_err(|error| ModelError::invalid("prompt", error.to_string()))?;
                Ok(self.tokenizer()?.encode(&rendered.text, false, true))
            }
        }
    }

    fn encode(&self, text: &str) -> Result<Vec<TokenId>, ModelError> {
        Ok(self.tokenizer()?.encode(text, true, true))
    }

    fn tokenizer(&self) -> Result<&Tokenizer, ModelError> {
        let tokenizer = self.words().tokenizer.as_deref();
        tokenizer.ok_or_else(|| self.unsupported("text: it has no tokenizer"))
    }

    fn unsupported(&self, what: &str) -> ModelError {
        ModelError::Unsupported { model: self.inner.facts.name.clone(), what: what.to_owned() }
    }

    /// Tokens of prompt and continuation, and the index of the first one that is scored.
    fn scored_tokens(&self, request: &ScoreRequest) -> Result<(Vec<TokenId>, usize), ModelError> {
        let (mut token_ids, mut from) = match request {
            ScoreRequest::TokenIds { prompt, continuation } => {
                ([prompt.as_slice(), continuation].concat(), prompt.len())
            }
            ScoreRequest::Text { prompt, continuation } => {
                let whole = self.encode(&format!("{prompt}{continuation}"))?;
                let from = self.encode(prompt)?.len().min(whole.len());
                (whole, from)
            }
        };
        if from == 0 {
            let bos = self.words().tokenizer.as_ref().and_then(|tokenizer| tokenizer.special().bos);
            let bos = bos.ok_or_else(|| {
                ModelError::invalid("prompt", "expected at least one token: the model has no start token")
            })?;
            token_ids.insert(0, bos);
            from = 1;
        }
        if from == token_ids.len() {
            return Err(ModelError::invalid("continuation", "expected at least one token, got none"));
        }
        self.inner.facts.door.check_reading(&token_ids)?;
        Ok((token_ids, from))
    }

    /// Has all `items` read, not all at once, and gives the answers in order.
    fn read_all<T: Send + 'static>(
        &self,
        items: Vec<(Vec<TokenId>, Option<usize>)>,
        reading: impl Fn(Option<usize>, Reply<T>) -> Reading,
    ) -> Result<Vec<T>, ModelError> {
        let (handle, cancelled) = Handle::new();
        let (sender, answers) = mpsc::channel();
        let mut done: Vec<Option<T>> = items.iter().map(|_| None).collect();
        let mut n_under_way = 0;
        let mut take = |wait: Range<usize>| -> Result<(), ModelError> {
            for _ in wait {
                let (index, answer): (usize, Result<T, ModelError>) =
                    answers.recv().map_err(|_| ModelError::Cancelled)?;
                done[index] = Some(answer?);
            }
            Ok(())
        };
        let schedule = Schedule { cancelled: Some(cancelled), ..Schedule::default() };
        // Others find room in the queue beside a long batch.
        let most = self.inner.facts.max_queued.div_ceil(2);
        for (index, (token_ids, from)) in items.into_iter().enumerate() {
            loop {
                let queued = match n_under_way < most {
                    true => self.inner.queue(),
                    false => Err(ModelError::Busy { queued: n_under_way }),
                };
                match queued {
                    Ok(()) => break,
                    Err(ModelError::Busy { .. }) if n_under_way > 0 => {
                        take(0..1)?;
                        n_under_way -= 1;
                    }
                    Err(error) => return Err(error),
                }
            }
            let sender = sender.clone();
            let keep = (self.inner.clone(), self.adapter.clone());
            let reply: Reply<T> = Box::new(move |answer| {
                let _ = sender.send((index, answer));
                drop(keep);
            });
            let reading = reading(from, reply);
            let (schedule, adapter) = (schedule.clone(), self.adapter_id());
            let request = ReadRequest { token_ids, reading, schedule, adapter };
            self.inner.send(Command::Read(self.inner.id(), request))?;
            n_under_way += 1;
        }
        drop(sender);
        take(0..n_under_way)?;
        handle.detach();
        Ok(done.into_iter().map(|answer| answer.expect("every answer was taken")).collect())
    }
}

impl Generate for LocalModel {
    fn generate(&self, request: GenerateRequest, sink: Sink) -> Result<Handle, ModelError> {
        let GenerateRequest { prompt, sampling, priority, deadline } = request;
        sampling.validate()?;
        let token_ids = self.tokenize(prompt)?;
        self.inner.facts.door.check(&token_ids, &sampling)?;
        let grammar = compile(&self.inner.facts.grammars, &sampling)?;
        self.inner.queue()?;
        let (handle, cancelled) = Handle::new();
        let schedule = Schedule { priority, deadline, cancelled: Some(cancelled.clone()) };
        // What runs keeps its model loaded.
        let keep = (self.inner.clone(), self.adapter.clone());
        let mut sink = guarded(sink, cancelled);
        let sink: Sink = Box::new(move |event| {
            let _ = &keep;
            sink(event);
        });
        let request = Request { token_ids, sampling, sink, schedule, adapter: self.adapter_id() };
        self.inner.send(Command::Generate(self.inner.id(), Box::new(request), grammar))?;
        Ok(handle)
    }
}

impl Score for LocalModel {
    fn score(&self, batch: &[ScoreRequest]) -> Result<Vec<Scored>, ModelError> {
        let items = batch.iter().map(|request| {
            let (token_ids, from) = self.scored_tokens(request)?;
            Ok((token_ids, Some(from)))
        });
        let items = items.collect::<Result<Vec<_>, ModelError>>()?;
        self.read_all(items, |from, reply| Reading::Logprobs {
            from: from.expect("given with every item"),
            reply,
        })
    }
}

impl Embed for LocalModel {
    /// Vectors of a decoder: pooled last rows, of length 1. Nothing is put before a text, whatever its kind.
    fn embed(&self, texts: &[&str], _kind: EmbedKind) -> Result<Vec<Vec<f32>>, ModelError> {
        let items = texts.iter().map(|text| {
            let token_ids = self.encode(text)?;
            self.inner.facts.door.check_reading(&token_ids)?;
            Ok((token_ids, None))
        });
        let items = items.collect::<Result<Vec<_>, ModelError>>()?;
        let pooling = self.pooling;
        self.read_all(items, |_, reply| Reading::Vector { pooling, reply })
    }

    fn dim(&self) -> usize {
        self.inner.facts.dim
    }
}
