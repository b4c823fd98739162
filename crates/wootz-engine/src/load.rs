//! From an opened model to an engine: weights on the device, room for states, words beside it.
//!
//! Where:  the server and the command line, once for each model.

use std::sync::Arc;

use wootz_graph::{Device, StateCapacity};
use wootz_kernels::TensorType;
use wootz_model::{Model, Network, Words};

use crate::{BLOCK_LEN, Engine, EngineOptions, Error, Identity, Result, Runner, RunnerOptions, states_of};

/// How much an engine may hold.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Positions of one sequence; the model's own context without it.
    pub max_context: Option<usize>,
    /// Sequences at a time.
    pub n_sequences: usize,
    /// Positions of all sequences and of the cache together; without it, a full context for every sequence.
    pub n_positions: Option<usize>,
    /// New tokens a step.
    pub max_batch_tokens: usize,
    /// What keys and values are stored as; f32 for f32 models, else f16.
    pub kv_type: Option<TensorType>,
    /// Whether states of finished sequences are kept for others with the same beginning, as long as there is room.
    pub keeps_prefixes: bool,
    /// Whether what comes next is guessed from what was said, and run along.
    pub guesses: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            max_context: None,
            n_sequences: 8,
            n_positions: None,
            max_batch_tokens: 512,
            kv_type: None,
            keeps_prefixes: true,
            guesses: true,
        }
    }
}

/// Loads a model's weights onto a device and makes an engine of them.
///
/// # Errors
/// An encoder, broken words or weights, a context that the positions cannot hold.
pub fn load(model: &Model, device: &dyn Device, options: &LoadOptions) -> Result<(Engine, Words)> {
    let config = &model.network.config;
    if !config.is_decoder() {
        let message = format!("`{}` is an encoder and does not continue text", config.arch);
        return Err(wootz_model::Error::Unsupported(message).into());
    }
    let max_context = options.max_context.unwrap_or(config.max_seq_len);
    let n_positions = options.n_positions.unwrap_or(max_context.saturating_mul(options.n_sequences));
    if n_positions.next_multiple_of(BLOCK_LEN) < max_context {
        return Err(Error::Room { n_positions, max_context });
    }
    let words = Words::of(model)?;
    let kv_type = options.kv_type.unwrap_or(match model.dominant_type() {
        TensorType::F32 => TensorType::F32,
        _ => TensorType::F16,
    });
    let weights = model.load(device)?;
    let runner_options = RunnerOptions { n_positions, n_slots: options.n_sequences, kv_type };
    let mut runner = Runner::new(model.network.clone(), device, &weights, runner_options)?;
    if options.keeps_prefixes {
        runner = runner.keep_prefixes();
    }
    let engine_options = EngineOptions {
        max_context,
        max_batch_tokens: options.max_batch_tokens,
        max_sequences: options.n_sequences,
    };
    let engine = Engine::new(runner, words.tokenizer.clone(), &words.end_tokens, engine_options);
    // A cache of another type, or other states, holds other bytes.
    let engine = engine.with_identity(Identity::of(model, &format!("{kv_type} {}", device.name())));
    let engine = if options.guesses { engine.with_guessing() } else { engine };
    Ok((engine, words))
}

/// Bytes of weights and states that [`load`] will take, told before it does.
///
/// # Errors
/// An architecture whose states cannot be told.
pub fn needed_bytes(model: &Model, options: &LoadOptions) -> Result<u64> {
    let weights: u64 = model.weights().iter().map(|tensor| tensor.bytes.len() as u64).sum();
    let config = &model.network.config;
    if !config.is_decoder() {
        return Ok(weights);
    }
    let max_context = options.max_context.unwrap_or(config.max_seq_len);
    let n_positions = options.n_positions.unwrap_or(max_context.saturating_mul(options.n_sequences));
    let capacity = StateCapacity {
        n_blocks: n_positions.div_ceil(BLOCK_LEN),
        block_len: BLOCK_LEN,
        n_slots: options.n_sequences,
        kv_type: options.kv_type.unwrap_or(TensorType::F16),
    };
    Ok(weights.saturating_add(capacity.bytes(&states_of(&model.network)?) as u64))
}

/// What guesses for a model.
#[derive(Clone, Copy, Debug)]
pub enum DraftModel<'a> {
    /// Another, smaller model with the same vocabulary.
    Model(&'a Model),
    /// The model's own first layers, with its own head behind them. They are loaded a second time.
    FirstLayers(usize),
}

/// Loads what guesses for `engine`, whose model is `model`.
///
/// # Errors
/// [`Error::Draft`] for another vocabulary, for as many layers as the model has, and for recurrences.
pub fn load_draft(
    engine: Engine,
    model: &Model,
    draft: DraftModel,
    device: &dyn Device,
    options: &LoadOptions,
) -> Result<Engine> {
    let (network, source) = match draft {
        DraftModel::Model(small) => {
            same_words(&Words::of(model)?, &Words::of(small)?)?;
            (small.network.clone(), small)
        }
        DraftModel::FirstLayers(n_layers) => {
            let mut config = model.network.config.clone();
            if !(1..config.layers.len()).contains(&n_layers) {
                let message = format!("{n_layers} first layers of {}", config.layers.len());
                return Err(Error::Draft(message));
            }
            config.layers.truncate(n_layers);
            (Arc::new(Network::declare(config)), model)
        }
    };
    if !network.config.is_decoder() {
        return Err(Error::Draft("it is an encoder".to_owned()));
    }
    let weights = device.load(&network.params, &|spec| source.tensor(spec))?;
    let max_context = engine.door().options.max_context;
    let kv_type = options.kv_type.unwrap_or(TensorType::F16);
    let n_positions = options.n_positions.unwrap_or(max_context.saturating_mul(options.n_sequences));
    let runner_options = RunnerOptions { n_positions, n_slots: options.n_sequences, kv_type };
    engine.with_draft(Runner::new(network, device, &weights, runner_options)?)
}

/// Checks that two models mean the same by their tokens.
fn same_words(large: &Words, small: &Words) -> Result<()> {
    let (Some(large), Some(small)) = (&large.tokenizer, &small.tokenizer) else { return Ok(()) };
    let n_tokens = large.vocab_size().max(small.vocab_size());
    let differs = (0..n_tokens as u32).find(|&id| large.token_text(id) != small.token_text(id));
    match differs {
        None => Ok(()),
        Some(id) => {
            let text =
                |tokenizer: &wootz_text::Tokenizer| tokenizer.token_text(id).unwrap_or("none").to_owned();
            let message = format!("token {id} is `{}`, expected `{}`", text(small), text(large));
            Err(Error::Draft(message))
        }
    }
}
