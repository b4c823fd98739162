//! `wootz list`: the models on this machine.
//!
//! Where:  a verb; finding them is `wootz_remote::Places`, their headers are read by `wootz-weights`.
//! Idea:   a model that cannot be read is listed with what is wrong, so that it can be mended or deleted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wootz_remote::{LocalModel, Origin, WeightFormat};
use wootz_weights::Weights;

use super::print_json;
use crate::output::{bytes, print, print_table};
use crate::settings::Settings;

/// A `config.json` beyond this is none.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// List the models on this machine
///
/// Those in the home, and those in Hugging Face's cache, which are used where they are.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  wootz list --json")]
pub(crate) struct ListArgs {
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What a model's files say about it.
struct Facts {
    architecture: String,
    /// The type of most of its bytes, `q4_k`, or the method, `gptq`.
    quantization: String,
}

impl ListArgs {
    /// Looks into both places and prints what is there.
    pub(crate) fn run(self, settings: &Settings) -> Result<()> {
        let models = settings.places().list();
        if self.json {
            return print_json(&json!({ "models": models.iter().map(as_json).collect::<Vec<_>>() }));
        }
        if models.is_empty() {
            return print(&format!(
                "no models in {} or in Hugging Face's cache\nhint: `wootz pull hf:org/name` fetches one",
                settings.home.join("models").display()
            ));
        }
        let head = ["MODEL", "SIZE", "ARCHITECTURE", "WEIGHTS", "PLACE"].map(str::to_owned);
        let rows: Vec<[String; 5]> = std::iter::once(head).chain(models.iter().map(as_row)).collect();
        print_table(&rows)?;
        for model in &models {
            if let Err(error) = facts(model) {
                eprintln!("{}: {error:#}", model.name);
            }
        }
        Ok(())
    }
}

fn as_json(model: &LocalModel) -> Value {
    let facts = facts(model);
    json!({
        "name": model.name,
        "path": model.path(),
        "place": place(model),
        "format": model.selection.format.name(),
        "size_bytes": model.size_bytes(),
        "architecture": facts.as_ref().ok().map(|facts| &facts.architecture),
        "quantization": facts.as_ref().ok().map(|facts| &facts.quantization),
        "commit": model.commit,
        "error": facts.as_ref().err().map(|error| format!("{error:#}")),
    })
}

fn as_row(model: &LocalModel) -> [String; 5] {
    let (architecture, quantization) = match facts(model) {
        Ok(facts) => (facts.architecture, facts.quantization),
        Err(_told_below) => ("unreadable".into(), "unreadable".into()),
    };
    [model.name.clone(), bytes(model.size_bytes()), architecture, quantization, place(model).into()]
}

fn place(model: &LocalModel) -> &'static str {
    match model.origin {
        Origin::Home => "home",
        Origin::HfCache => "hf cache",
    }
}

fn facts(model: &LocalModel) -> Result<Facts> {
    if model.selection.format == WeightFormat::Gguf {
        let weights = Weights::open(model.path())?;
        let gguf = weights.gguf().context("expected a GGUF")?;
        return Ok(Facts {
            architecture: gguf.str("general.architecture")?.into(),
            quantization: main_type(&weights),
        });
    }
    let config = config(&model.folder, model.selection.format)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let architecture = text(&config["architectures"][0]).or_else(|| text(&config["model_type"]));
    let base = text(&config["base_model_name_or_path"]).map(|base| format!("adapter of {base}"));
    let method = text(&config["quantization_config"]["quant_method"]);
    let declared = text(&config["dtype"]).or_else(|| text(&config["torch_dtype"]));
    let quantization = match (method, model.selection.format) {
        (Some(method), _) => method,
        (None, WeightFormat::Safetensors) => main_type(&Weights::open(weights_path(model))?),
        // Opening PyTorch's archives reads far more than a header.
        (None, _) => declared.unwrap_or_else(|| "unknown".into()),
    };
    Ok(Facts { architecture: architecture.or(base).unwrap_or_else(|| "unknown".into()), quantization })
}

/// A single file by its name, shards by their folder.
fn weights_path(model: &LocalModel) -> std::path::PathBuf {
    match &model.selection.weights[..] {
        [file] => file.below(&model.folder),
        _ => model.folder.clone(),
    }
}

fn config(folder: &Path, format: WeightFormat) -> Result<Value> {
    let name = if format == WeightFormat::Adapter { "adapter_config.json" } else { "config.json" };
    let path = folder.join(name);
    let Ok(metadata) = fs::metadata(&path) else { return Ok(Value::Null) };
    let size = metadata.len();
    ensure!(
        size <= MAX_CONFIG_BYTES,
        "{}: expected at most {MAX_CONFIG_BYTES} bytes, got {size}",
        path.display()
    );
    let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("parsing {}", path.display()))
}

/// The type that most bytes are of.
fn main_type(weights: &Weights) -> String {
    let mut sizes = BTreeMap::new();
    for info in weights.infos() {
        *sizes.entry(info.ty).or_insert(0_usize) += info.n_bytes().unwrap_or(0);
    }
    let largest = sizes.into_iter().max_by_key(|(_, n_bytes)| *n_bytes);
    largest.map_or("empty".into(), |(ty, _)| ty.to_string())
}
