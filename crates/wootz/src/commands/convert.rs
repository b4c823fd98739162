//! `wootz convert`: a model in another format or dtype.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use serde_json::json;
use wootz_kernels::TensorType;
use wootz_model::{ConvertOptions, Model, Progress, convert};

use super::print_json;
use crate::model_choice::ModelChoice;

/// Write a model in another format or dtype
///
/// A target that ends in `.gguf` becomes a GGUF, any other a Hugging Face folder. The source is never modified.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  wootz convert models/llama --to llama.gguf --dtype f16
  wootz convert llama.gguf --to models/llama-again")]
pub(crate) struct ConvertArgs {
    /// Model: a path, a name in the home, hf:org/name
    source: String,
    /// Target
    #[arg(long, value_name = "TARGET")]
    to: PathBuf,
    /// Type of the matrices; vectors of a GGUF are always f32
    #[arg(long, value_parser = ["keep", "f32", "f16", "bf16"], default_value = "keep")]
    dtype: String,
    /// Overwrite the target
    #[arg(long)]
    force: bool,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

impl ConvertArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let start = Instant::now();
        let model = ModelChoice::find(Some(&self.source))?.open()?;
        let options = ConvertOptions { dtype: TensorType::from_name(&self.dtype), force: self.force };
        let target = self.to.display().to_string();
        let bytes = write_model(&model, &self.to, &options)
            .with_context(|| format!("converting `{}` to `{target}`", self.source))?;
        if self.json {
            return print_json(
                &json!({"target": target, "bytes": bytes, "seconds": start.elapsed().as_secs_f64()}),
            );
        }
        println!("{target}");
        Ok(())
    }
}

/// Writes a model with progress on stderr, where that is a terminal; the bytes that were written.
pub(super) fn write_model(model: &Model, target: &Path, options: &ConvertOptions) -> anyhow::Result<usize> {
    let start = Instant::now();
    let shows = std::io::stderr().is_terminal();
    let mut bytes = 0;
    let mut show = |progress: Progress| {
        bytes = progress.bytes_done;
        if shows {
            show_progress(&progress, start);
        }
    };
    convert(model, target, options, &mut show)?;
    if shows {
        eprintln!();
    }
    Ok(bytes)
}

/// Share, rate and time left, on one line.
fn show_progress(progress: &Progress, start: Instant) {
    let Progress { bytes_done, bytes_total } = *progress;
    let seconds = start.elapsed().as_secs_f64().max(1e-3);
    let rate = bytes_done as f64 / seconds;
    let left = (bytes_total.saturating_sub(bytes_done)) as f64 / rate.max(1.0);
    let percent = 100.0 * bytes_done as f64 / bytes_total.max(1) as f64;
    eprint!("\r{percent:3.0} %  {:.0} MB/s  {left:.0} s left   ", rate / 1e6);
}
