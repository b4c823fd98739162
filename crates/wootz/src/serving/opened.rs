//! Opens one model for the server, whatever it is: a decoder, a sentence encoder, a cross-encoder.

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use anyhow::Context;
use wootz_engine::{Host, LoadOptions};
use wootz_graph::Cpu;
use wootz_model::{CrossEncoder, Model, SentenceEncoder, Words};
use wootz_serve::{ModelCard, ServedModel};

use super::encoder::OnHost;
use super::numbers::numbers;
use crate::model_choice::ModelChoice;

/// How models are loaded.
#[derive(Clone)]
pub(crate) struct Loading {
    pub host: Arc<Host>,
    pub device: Arc<Cpu>,
    pub options: LoadOptions,
    /// Requests of one model that may wait.
    pub max_queued: usize,
}

/// Opens `choice` under the name `name`.
///
/// # Errors
/// Files that are broken, or a kind of model that nobody can ask anything.
pub(crate) fn open(name: &str, choice: &ModelChoice, loading: &Loading) -> anyhow::Result<ServedModel> {
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
    let (engine, words) =
        wootz_engine::load(model, &*loading.device, &loading.options).context("loading weights")?;
    let local = loading.host.add(&card.name, engine, words, loading.max_queued);
    let (tokenizer, template) = (local.words().tokenizer.clone(), local.words().template.clone());
    let (for_tokens, for_numbers) = (local.clone(), local.clone());
    Ok(ServedModel {
        card: ModelCard { max_seq_len: local.max_context(), ..card },
        tokenize: Some(Arc::new(move |prompt| for_tokens.tokenize(prompt))),
        numbers: Some(Arc::new(move || numbers(&for_numbers.stats()))),
        generate: Some(Arc::new(local.clone())),
        score: Some(Arc::new(local.clone())),
        embed: Some(Arc::new(local)),
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

fn card(name: &str, choice: &ModelChoice, model: &Model) -> ModelCard {
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
        is_loaded: true,
    }
}

/// When a model's files were changed last.
fn changed_s(choice: &ModelChoice) -> Option<u64> {
    let ModelChoice::Path(path) = choice else { return None };
    let changed = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    Some(changed.duration_since(UNIX_EPOCH).ok()?.as_secs())
}
