//! A model ready to answer: device, weights, engine, tokenizer and template.
//!
//! Where:  made by every command that runs a model.

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use wootz_engine::{AdapterId, Engine, EngineOptions, Request, Runner, RunnerOptions, Schedule};
use wootz_graph::{Cpu, Device};
use wootz_kernels::{Isa, Precision, TensorType};
use wootz_model::{Model, Network, Words};
use wootz_text::{GenerateEvent, Handle, Sampling, TokenId};

use crate::adapters::AdapterArgs;
use crate::machine;
use crate::model_choice::ModelChoice;

/// How a model is run.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Running")]
pub(crate) struct RunningArgs {
    /// Threads; all cores without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Positions for prompt and answer; the model's own context without it
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
    /// New tokens a step; longer prompts are taken in pieces
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    chunk: u32,
    /// What keys and values are stored as; f32 for f32 models, else f16. q8_0 takes half of f16's memory
    #[arg(long, value_name = "TYPE", value_parser = ["f32", "f16", "bf16", "q8_0"])]
    kv: Option<String>,
    /// Keep activations in f32 in products with quantized and bf16 weights, which is slower
    #[arg(long)]
    exact: bool,
}

impl RunningArgs {
    /// The device that these arguments ask for.
    pub(crate) fn device(&self) -> Cpu {
        self.device_with(Isa::detect())
    }

    /// The same on other instructions than the best.
    pub(crate) fn device_with(&self, isa: Isa) -> Cpu {
        let threads = self.threads.map_or_else(default_threads, usize::from);
        Cpu::with(isa, threads, if self.exact { Precision::Exact } else { Precision::Fast })
    }

    /// Tokens a step.
    pub(crate) fn chunk(&self) -> usize {
        self.chunk as usize
    }

    /// What keys and values of a model are stored as.
    pub(crate) fn kv_type(&self, model: &Model) -> TensorType {
        match self.kv.as_deref().and_then(TensorType::from_name) {
            Some(ty) => ty,
            None if model.dominant_type() == TensorType::F32 => TensorType::F32,
            None => TensorType::F16,
        }
    }

    /// Positions of a sequence, if they were said.
    pub(crate) fn context_limit(&self) -> Option<usize> {
        self.ctx
    }

    /// Positions of a sequence.
    pub(crate) fn context(&self, network: &Network) -> usize {
        self.ctx.unwrap_or(network.config.max_seq_len)
    }

    /// A runner with room for `n_sequences` of the context's length.
    pub(crate) fn runner(&self, model: &Model, n_sequences: usize) -> anyhow::Result<Runner> {
        let device = self.device();
        let weights = model.load(&device).context("loading weights")?;
        let options = RunnerOptions {
            n_positions: self.context(&model.network) * n_sequences,
            n_slots: n_sequences,
            kv_type: self.kv_type(model),
        };
        Ok(Runner::new(model.network.clone(), &device as &dyn Device, &weights, options)?)
    }
}

fn default_threads() -> usize {
    machine::compute_threads(&machine::Cpu::detect())
}

/// A model ready to answer.
pub(crate) struct Session {
    pub engine: Engine,
    pub words: Words,
    pub load_time: Duration,
    adapter: Option<AdapterId>,
}

/// What a generation came to.
#[derive(Debug, Default)]
pub(crate) struct Timing {
    /// Until the first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

impl Session {
    /// Loads a model, and adapters over it, with room for `n_sequences` at a time.
    pub(crate) fn open(
        choice: &ModelChoice,
        args: &RunningArgs,
        adapters: &AdapterArgs,
        n_sequences: usize,
    ) -> anyhow::Result<Self> {
        let start = Instant::now();
        let model = choice.open()?;
        anyhow::ensure!(
            model.network.config.is_decoder(),
            "`{}` is an encoder and does not continue text\nhint: `wootz embed` or `wootz hidden`",
            choice.name()
        );
        let words = Words::of(&model).context("reading the tokenizer")?;
        let options = EngineOptions {
            max_context: args.context(&model.network),
            max_batch_tokens: args.chunk(),
            max_sequences: n_sequences,
        };
        let runner = args.runner(&model, n_sequences)?;
        let mut engine = Engine::new(runner, words.tokenizer.clone(), &words.end_tokens, options);
        let additions = adapters.over(&model)?;
        let adapter = match additions.is_empty() {
            true => None,
            false => Some(engine.load_adapter(&additions).context("loading the adapters")?),
        };
        Ok(Self { engine, words, load_time: start.elapsed(), adapter })
    }

    /// Runs one request to its end. `show` sees every event and says whether to go on.
    pub(crate) fn generate(
        &mut self,
        token_ids: Vec<TokenId>,
        sampling: Sampling,
        mut show: impl FnMut(&GenerateEvent) -> bool,
    ) -> anyhow::Result<Timing> {
        let (sender, events) = std::sync::mpsc::channel();
        let (handle, cancelled) = Handle::new();
        let mut handle = Some(handle);
        let sink = Box::new(move |event| drop(sender.send(event)));
        let schedule = Schedule { cancelled: Some(cancelled), ..Schedule::default() };
        self.engine.submit(Request { token_ids, sampling, sink, schedule, adapter: self.adapter })?;
        let start = Instant::now();
        let mut first = None;
        while self.engine.has_work() {
            self.engine.step()?;
            for event in events.try_iter() {
                if matches!(event, GenerateEvent::Token(_)) && first.is_none() {
                    first = Some(start.elapsed());
                }
                match event {
                    GenerateEvent::Error(wootz_text::ModelError::Cancelled) => {}
                    GenerateEvent::Error(error) => return Err(error.into()),
                    event if !show(&event) => handle = None,
                    _ => {}
                }
            }
        }
        drop(handle);
        let prefill = first.unwrap_or_else(|| start.elapsed());
        Ok(Timing { prefill, decode: start.elapsed() - prefill })
    }
}
