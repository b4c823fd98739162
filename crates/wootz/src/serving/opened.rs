//! Opens one model for the server, whatever it is: a decoder, a sentence encoder, a cross-encoder.

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use anyhow::Context;
use wootz_engine::{Host, LoadOptions, needed_bytes};
use wootz_graph::Cpu;
use wootz_model::{CrossEncoder, Model, SentenceEncoder, Words};
use wootz_serve::{ModelCard, ServedModel};

use super::encoder::OnHost;
use super::guessing::Guessing;
use super::numbers::numbers;
use super::overlays::Base;
use crate::model_choice::ModelChoice;
use crate::session::RunningArgs;

/// Positions of one sequence unless --ctx says more: long contexts take memory that few requests need.
pub(crate) const DEFAULT_CONTEXT: usize = 16 << 10;

/// How models are loaded.
#[derive(Clone)]
pub(crate) struct Loading {
    pub host: Arc<Host>,
    pub device: Arc<Cpu>,
    pub running: RunningArgs,
    /// Requests computed at a time.
    pub parallel: usize,
    /// Requests of one model that may wait.
    pub max_queued: usize,
    /// What guesses ahead.
    pub guessing: Guessing,
}

impl Loading {
    /// How much a model's engine may hold.
    pub(crate) fn options(&self, model: &Model) -> LoadOptions {
        let own = model.network.config.max_seq_len;
        let context = self.running.context_limit().unwrap_or(own.min(DEFAULT_CONTEXT));
        LoadOptions {
            max_context: Some(context),
            n_sequences: self.parallel,
            // Few requests fill their context: blocks are shared, and who finds none waits.
            n_positions: Some(context.saturating_mul(self.parallel).min(context.max(4 * DEFAULT_CONTEXT))),
            max_batch_tokens: self.running.chunk(),
            kv_type: Some(self.running.kv_type(model)),
            guesses: self.guessing != Guessing::Off,
            ..LoadOptions::default()
        }
    }

    /// Memory that a model will take.
    ///
    /// # Errors
    /// A model, or one that guesses for it, whose size cannot be told.
    pub(crate) fn needed_bytes(&self, model: &Model) -> anyhow::Result<u64> {
        let options = self.options(model);
        let own = needed_bytes(model, &options)?;
        Ok(match model.network.config.is_decoder() {
            true => own.saturating_add(self.guessing.needed_bytes(model, &options)?),
            false => own,
        })
    }
}

/// Opens `choice` under the name `name`.
///
/// # Errors
/// Files that are broken, or a kind of model that nobody can ask anything.
pub(super) fn open(name: &str, choice: &ModelChoice, loading: &Loading) -> anyhow::Result<ServedModel> {
    let model = choice.open()?;
    let card = card(name, choice, &model);
    let config = &model.network.config;
    if config.is_decoder() {
        return decoder(card, &model, loading);
    }
    let ModelChoice::Path(folder) = choice else { anyhow::bail!("an encoder is a folder") };
    if folder.join("modules.json").is_file() {
        return sentence_encoder(card, &model, folder, loading);
    }
    let encoder = CrossEncoder::open(folder, &*loading.device).with_context(|| {
        format!("`{}` is no decoder, has no `modules.json`, and is no cross-encoder", choice.name())
    })?;
    let words = Words::of(&model)?;
    let rerank = OnHost { host: loading.host.clone(), encoder: Arc::new(encoder) };
    Ok(ServedModel {
        card,
        rerank: Some(Arc::new(rerank)),
        tokenizer: words.tokenizer,
        ..ServedModel::default()
    })
}

fn decoder(card: ModelCard, model: &Model, loading: &Loading) -> anyhow::Result<ServedModel> {
    let options = loading.options(model);
    let (engine, words) = wootz_engine::load(model, &*loading.device, &options).context("loading weights")?;
    let engine = loading.guessing.add_to(engine, model, &*loading.device, &options)?;
    let local = loading.host.add(&card.name, engine, words, loading.max_queued);
    let (tokenizer, template) = (local.words().tokenizer.clone(), local.words().template.clone());
    let (for_tokens, for_numbers) = (local.clone(), local.clone());
    Ok(ServedModel {
        card: ModelCard { max_seq_len: local.max_context(), is_loaded: true, ..card },
        tokenize: Some(Arc::new(move |prompt| for_tokens.tokenize(prompt))),
        numbers: Some(Arc::new(move || numbers(&for_numbers.stats()))),
        generate: Some(Arc::new(local.clone())),
        score: Some(Arc::new(local.clone())),
        embed: Some(Arc::new(local.clone())),
        own: Some(Base::of(local)),
        tokenizer,
        template,
        ..ServedModel::default()
    })
}

fn sentence_encoder(
    card: ModelCard,
    model: &Model,
    folder: &Path,
    loading: &Loading,
) -> anyhow::Result<ServedModel> {
    let encoder = SentenceEncoder::open(folder, &*loading.device).context("loading the sentence encoder")?;
    let embed = OnHost { host: loading.host.clone(), encoder: Arc::new(encoder) };
    let words = Words::of(model)?;
    Ok(ServedModel {
        card: ModelCard { embedding_dim: Some(wootz_text::Embed::dim(&embed)), ..card },
        embed: Some(Arc::new(embed)),
        tokenizer: words.tokenizer,
        ..ServedModel::default()
    })
}

/// What is said of a model before it is loaded.
pub(super) fn card(name: &str, choice: &ModelChoice, model: &Model) -> ModelCard {
    let network = &model.network;
    let size_bytes = model.weights().iter().map(|tensor| tensor.bytes.len() as u64).sum();
    ModelCard {
        name: name.to_owned(),
        created_s: changed_s(choice).unwrap_or(0),
        architecture: network.config.arch.to_string(),
        n_params: network.params.n_elements() as u64,
        size_bytes,
        weight_type: model.dominant_type().to_string(),
        max_seq_len: network.config.max_seq_len,
        embedding_dim: None,
        is_loaded: false,
        parent: None,
    }
}

/// When a model's files were changed last.
fn changed_s(choice: &ModelChoice) -> Option<u64> {
    let ModelChoice::Path(path) = choice else { return None };
    let changed = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    Some(changed.duration_since(UNIX_EPOCH).ok()?.as_secs())
}
