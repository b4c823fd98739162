//! `wootz adapter`: what is done with adapters as files.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use serde_json::json;
use wootz_kernels::TensorType;
use wootz_model::ConvertOptions;

use super::convert::write_model;
use super::print_json;
use crate::adapters;
use crate::model_choice::ModelChoice;

/// Do something with an adapter's files
#[derive(clap::Args)]
pub(crate) struct AdapterCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    Merge(MergeArgs),
}

/// Write a model with an adapter merged into its weights
///
/// The result computes what the model computed with the adapter, up to the rounding of its dtype. Neither source is
/// modified.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  wootz adapter merge models/llama adapters/pirate -o models/pirate
  wootz adapter merge llama.gguf adapters/pirate=0.5 -o pirate.gguf --dtype f16")]
struct MergeArgs {
    /// Model: a path, a name in the home, hf:org/name
    model: String,
    /// Adapter: PEFT's folder or llama.cpp's GGUF, with a strength other than 1 after `=`
    #[arg(value_name = "ADAPTER[=STRENGTH]")]
    adapter: String,
    /// Target: a folder, or a GGUF if it ends in .gguf
    #[arg(long, short, value_name = "TARGET")]
    output: PathBuf,
    /// Type of the matrices; quantized ones need one
    #[arg(long, value_parser = ["keep", "f32", "f16", "bf16"], default_value = "keep")]
    dtype: String,
    /// Overwrite the target
    #[arg(long)]
    force: bool,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

impl AdapterCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Merge(args) => args.run(),
        }
    }
}

impl MergeArgs {
    fn run(self) -> anyhow::Result<()> {
        let start = Instant::now();
        let model = ModelChoice::find(Some(&self.model))?.open()?;
        let (path, strength) = adapters::parse(&self.adapter)?;
        let additions = adapters::open(&path, strength, &model)?;
        let n_layers = additions.len();
        let merged = model.merged(additions).context("merging the adapter")?;
        let options = ConvertOptions { dtype: TensorType::from_name(&self.dtype), force: self.force };
        let target = self.output.display().to_string();
        let bytes =
            write_model(&merged, &self.output, &options).with_context(|| format!("writing `{target}`"))?;
        if self.json {
            let seconds = start.elapsed().as_secs_f64();
            return print_json(
                &json!({"target": target, "bytes": bytes, "layers": n_layers, "seconds": seconds}),
            );
        }
        println!("{target}");
        Ok(())
    }
}
