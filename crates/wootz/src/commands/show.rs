//! `wootz show`: what a model is, and what it needs.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;
use wootz_engine::states_of;
use wootz_graph::{Graph, StateCapacity, draw_svg};
use wootz_model::{Model, Words};

use super::print_json;
use crate::adapters;
use crate::model_choice::ModelChoice;
use crate::session::RunningArgs;

/// Show what a model or an adapter is: architecture, parameters, memory, tokenizer, template
#[derive(clap::Args)]
#[command(after_help = "Examples:
  wootz show models/llama
  wootz show models/llama --graph llama.svg
  wootz show adapters/pirate")]
pub(crate) struct ShowArgs {
    /// Model or adapter: a path, a name in the home, hf:org/name; the built-in model without it
    model: Option<String>,
    /// Write the model's graph as an SVG
    #[arg(long, value_name = "FILE")]
    graph: Option<PathBuf>,
    /// Overwrite the SVG
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: RunningArgs,
}

impl ShowArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if let Some(facts) = self.model.as_deref().map(adapters::facts).transpose()?.flatten() {
            if self.json {
                return print_json(&facts);
            }
            print_facts(&facts, 0);
            return Ok(());
        }
        let choice = ModelChoice::find(self.model.as_deref())?;
        let model = choice.open()?;
        if let Some(path) = &self.graph {
            draw(&model, &choice.name(), path, self.force)?;
        }
        let words = Words::of(&model).context("reading the tokenizer")?;
        let facts = self.facts(&choice, &model, &words)?;
        if self.json {
            return print_json(&facts);
        }
        print_facts(&facts, 0);
        Ok(())
    }

    fn facts(&self, choice: &ModelChoice, model: &Model, words: &Words) -> anyhow::Result<serde_json::Value> {
        let config = &model.network.config;
        let weight_bytes: usize = model.weights().iter().map(|tensor| tensor.bytes.len()).sum();
        let mut types: Vec<(String, usize)> = Vec::new();
        for tensor in model.weights().iter() {
            match types.iter_mut().find(|(name, _)| *name == tensor.ty.name()) {
                Some((_, n)) => *n += 1,
                None => types.push((tensor.ty.name().to_owned(), 1)),
            }
        }
        let context = self.running.context(&model.network);
        let kv_type = self.running.kv_type(model);
        let capacity = StateCapacity { n_blocks: context.div_ceil(64), block_len: 64, n_slots: 1, kv_type };
        let states = if config.is_decoder() { states_of(&model.network)? } else { Vec::new() };
        let tokenizer = words.tokenizer.as_ref().map(|tokenizer| {
            json!({
                "tokens": tokenizer.vocab_size(),
                "bos": config.bos_token,
                "end_tokens": words.end_tokens,
            })
        });
        Ok(json!({
            "model": choice.name(),
            "architecture": config.arch,
            "parameters": model.network.params.n_elements(),
            "layers": config.layers.len(),
            "width": config.d_model,
            "vocabulary": config.vocab_size,
            "context": config.max_seq_len,
            "weights": {
                "files": model.weights().files().map(|p| p.display().to_string()).collect::<Vec<_>>(),
                "mib": mib(weight_bytes),
                "tensors": types.into_iter().map(|(name, n)| (name, json!(n))).collect::<serde_json::Map<_, _>>(),
            },
            "memory": {
                "weights_mib": mib(weight_bytes),
                "states_mib": mib(capacity.bytes(&states)),
                "states_for": format!("{context} positions in {kv_type}"),
            },
            "tokenizer": tokenizer,
            "chat_template": words.template.as_ref().and_then(|template| template.source("default")),
        }))
    }
}

fn mib(bytes: usize) -> f64 {
    (bytes as f64 / (1 << 20) as f64 * 10.0).round() / 10.0
}

fn draw(model: &Model, name: &str, path: &PathBuf, force: bool) -> anyhow::Result<()> {
    let network = &model.network;
    let mut g = Graph::new(&network.params);
    let x = network.hidden(&mut g, network.config.is_decoder())?;
    if network.config.is_decoder() {
        let x = g.select_outputs(x)?;
        network.logits(&mut g, x)?;
    }
    let svg = draw_svg(&g, name);
    anyhow::ensure!(
        force || !path.exists(),
        "{} is there already\nhint: --force overwrites it",
        path.display()
    );
    std::fs::write(path, svg).with_context(|| format!("writing {}", path.display()))
}

/// Nested facts as indented lines; long texts in full at the end of their line.
fn print_facts(facts: &serde_json::Value, depth: usize) {
    let Some(map) = facts.as_object() else { return };
    for (key, value) in map {
        let key = format!("{}{}", "  ".repeat(depth), key.replace('_', " "));
        match value {
            serde_json::Value::Object(_) => {
                println!("{key}");
                print_facts(value, depth + 1);
            }
            serde_json::Value::Null => println!("{key:<18} none"),
            serde_json::Value::String(text) if text.contains('\n') => {
                println!("{key}");
                text.lines().for_each(|line| println!("  │ {line}"));
            }
            serde_json::Value::String(text) => println!("{key:<18} {text}"),
            serde_json::Value::Array(items) => {
                let items: Vec<String> = items
                    .iter()
                    .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                    .collect();
                println!("{key:<18} {}", items.join(", "));
            }
            number => println!("{key:<18} {number}"),
        }
    }
}
