//! One thread that computes, which all loaded models share by turns.
//!
//! Where:  made once by the server (or whoever serves several callers); every [`LocalModel`] talks to it.
//! Idea:   requests arrive by a channel, every model with work gets one [`Engine::step`] a round, events go to sinks that
//!         never block. Without work the thread sleeps in the channel. A step that fails or panics ends the requests of
//!         its own model with an error and nothing else.
//! Elsewhere: bounds of queues and tokenizing, on the callers' threads ([`LocalModel`]).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use wootz_grammar::Grammar;
use wootz_model::Words;
use wootz_text::{Cancelled, GenerateEvent, ModelError};

use crate::histogram::Histogram;
use crate::local_model::{Facts, LocalModel};
use crate::{Engine, EngineCounts, ReadRequest, Request};

/// The compute thread. Dropping it cancels what runs and waits for the step that is under way.
pub struct Host {
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// Numbers of one model for metrics.
#[derive(Clone, Debug, Default)]
pub struct ModelStats {
    /// The engine's own.
    pub counts: EngineCounts,
    /// Requests that wait, those that did not reach the engine yet included.
    pub n_queued: usize,
    /// Seconds that steps took.
    pub step_seconds: Histogram,
    /// Sequences of each step.
    pub step_sequences: Histogram,
    /// Tokens of each step.
    pub step_tokens: Histogram,
    /// Steps that failed.
    pub n_failures: u64,
}

/// What a model's callers and the compute thread share.
#[derive(Debug)]
pub(crate) struct Board {
    /// Requests on their way to the engine.
    pub under_way: AtomicUsize,
    /// Requests that wait in the engine.
    pub waiting: AtomicUsize,
    pub stats: Mutex<ModelStats>,
}

impl Board {
    pub(crate) fn n_queued(&self) -> usize {
        self.under_way.load(Ordering::Acquire) + self.waiting.load(Ordering::Acquire)
    }
}

/// A model's name on the compute thread: the address of its board, which lives as long as the model.
pub(crate) type ModelId = usize;

/// Something to do with an engine between two steps.
pub(crate) type EngineWork = Box<dyn FnOnce(Option<&mut Engine>) + Send>;

/// What callers ask of the compute thread.
pub(crate) enum Command {
    Open {
        engine: Box<Engine>,
        board: Arc<Board>,
    },
    Close(ModelId),
    Generate(ModelId, Box<Request>, Option<Grammar>),
    Read(ModelId, ReadRequest),
    /// Something with the engine; `None` if it is gone.
    With(ModelId, EngineWork),
    /// A piece of work of its own, such as an encoder's batch.
    Call(Box<dyn FnOnce() + Send>),
    Stop,
}

impl Host {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start() -> std::io::Result<Self> {
        let (commands, received) = mpsc::channel();
        let thread = thread::Builder::new().name("compute".to_owned()).spawn(move || {
            Turns { models: Vec::new(), calls: VecDeque::new() }.run(&received);
        })?;
        Ok(Self { commands, thread: Some(thread) })
    }

    /// Adds a model. It is unloaded when the last clone of the handle is dropped and nothing of it runs any more.
    ///
    /// `max_queued` requests may wait for their first step; more are refused with [`ModelError::Busy`].
    pub fn add(&self, name: &str, engine: Engine, words: Words, max_queued: usize) -> LocalModel {
        let stats = Mutex::new(ModelStats { counts: engine.counts(), ..ModelStats::default() });
        let board = Arc::new(Board { under_way: AtomicUsize::new(0), waiting: AtomicUsize::new(0), stats });
        let facts = Facts {
            name: name.to_owned(),
            words,
            door: engine.door(),
            grammars: engine.grammars(),
            dim: engine.network().config.d_hidden(),
            max_queued,
        };
        let model = LocalModel::new(self.commands.clone(), board.clone(), facts);
        // A thread that has ended answers every request with an error of its own.
        let _ = self.commands.send(Command::Open { engine: Box::new(engine), board });
        model
    }

    /// Runs `work` between two steps and waits for what it gives: an encoder's batch, for one. Keep pieces short; models
    /// wait meanwhile.
    ///
    /// # Errors
    /// [`ModelError::Failed`] if the work panics, [`ModelError::Cancelled`] if the thread has ended.
    pub fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ModelError> {
        let (sender, answer) = mpsc::channel();
        let work = move || {
            let done = catch_unwind(AssertUnwindSafe(work));
            let _ = sender.send(done.map_err(|panic| ModelError::failed(said(&*panic))));
        };
        self.commands.send(Command::Call(Box::new(work))).map_err(|_| ModelError::Cancelled)?;
        answer.recv().map_err(|_| ModelError::Cancelled)?
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A sink of the last handle may own the host: a thread cannot wait for itself.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// What lives on the thread.
struct Turns {
    models: Vec<Hosted>,
    calls: VecDeque<Box<dyn FnOnce() + Send>>,
}

struct Hosted {
    engine: Box<Engine>,
    board: Arc<Board>,
}

impl Turns {
    fn run(mut self, commands: &mpsc::Receiver<Command>) {
        loop {
            let has_work = !self.calls.is_empty() || self.models.iter().any(|model| model.engine.has_work());
            let first = match has_work {
                true => commands.try_recv().ok(),
                false => match commands.recv() {
                    Ok(command) => Some(command),
                    Err(_) => return,
                },
            };
            for command in first.into_iter().chain(commands.try_iter()) {
                if matches!(command, Command::Stop) {
                    return self.stop(commands);
                }
                self.obey(command);
            }
            if let Some(call) = self.calls.pop_front() {
                call();
            }
            for model in self.models.iter_mut().filter(|model| model.engine.has_work()) {
                model.turn();
            }
        }
    }

    /// Ends everything that runs or is still on its way.
    fn stop(mut self, commands: &mpsc::Receiver<Command>) {
        for command in commands.try_iter().filter(|command| !matches!(command, Command::Stop)) {
            self.obey(command);
        }
        for model in &mut self.models {
            model.engine.abort(&ModelError::Cancelled);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open { engine, board } => self.models.push(Hosted { engine, board }),
            Command::Close(id) => {
                let place = self.models.iter().position(|model| model.id() == id);
                if let Some(mut model) = place.map(|place| self.models.swap_remove(place)) {
                    model.engine.abort(&ModelError::Cancelled);
                }
            }
            Command::Generate(id, request, grammar) => match self.model(id) {
                Some(model) => model.take_on(|engine| engine.submit_compiled(*request, grammar)),
                None => refuse(*request, ModelError::Cancelled),
            },
            Command::Read(id, request) => match self.model(id) {
                Some(model) => model.take_on(|engine| engine.read(request)),
                None => request.reading.refuse(ModelError::Cancelled),
            },
            Command::With(id, work) => {
                let engine = self.model(id).map(|model| &mut *model.engine);
                // Whoever waits for it sees that no answer came.
                let _ = catch_unwind(AssertUnwindSafe(|| work(engine)));
            }
            Command::Call(call) => self.calls.push_back(call),
            Command::Stop => unreachable!("seen before"),
        }
    }

    fn model(&mut self, id: ModelId) -> Option<&mut Hosted> {
        self.models.iter_mut().find(|model| model.id() == id)
    }
}

impl Hosted {
    fn id(&self) -> ModelId {
        Arc::as_ptr(&self.board) as ModelId
    }

    fn take_on(&mut self, submit: impl FnOnce(&mut Engine) -> Result<(), ModelError>) {
        submit(&mut self.engine).expect("checked at the door by whoever sent it");
        self.board.waiting.store(self.engine.counts().n_waiting, Ordering::Release);
        self.board.under_way.fetch_sub(1, Ordering::AcqRel);
    }

    /// One step, whatever happens in it.
    fn turn(&mut self) {
        let start = Instant::now();
        let n_steps = self.engine.counts().n_steps;
        self.engine.expire(start);
        let stepped = catch_unwind(AssertUnwindSafe(|| self.engine.step()));
        let failure = match stepped {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(ModelError::failed(error)),
            Err(panic) => Some(ModelError::failed(format!("a step panicked: {}", said(&*panic)))),
        };
        if let Some(error) = &failure {
            self.engine.abort(error);
        }
        let counts = self.engine.counts();
        self.board.waiting.store(counts.n_waiting, Ordering::Release);
        let mut stats = self.board.stats.lock().expect("nothing panics while it holds the numbers");
        if counts.n_steps > n_steps {
            stats.step_seconds.add(start.elapsed().as_secs_f64());
            stats.step_sequences.add(counts.last_sequences as f64);
            stats.step_tokens.add(counts.last_tokens as f64);
        }
        stats.n_failures += u64::from(failure.is_some());
        stats.counts = counts;
    }
}

/// Tells a request that nobody will serve it.
fn refuse(mut request: Request, error: ModelError) {
    (request.sink)(GenerateEvent::Error(error));
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// A sink that a panic of its owner's code cannot get out of; after one, the request counts as cancelled.
pub(crate) fn guarded(mut sink: wootz_text::Sink, cancelled: Cancelled) -> wootz_text::Sink {
    let mut is_broken = false;
    Box::new(move |event| {
        if !is_broken && catch_unwind(AssertUnwindSafe(|| sink(event))).is_err() {
            is_broken = true;
            cancelled.set();
        }
    })
}
