//! `wootz embed`: a text as a vector.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::json;
use wootz_model::SentenceEncoder;
use wootz_text::EmbedKind;

use super::print_json;
use crate::model_choice::ModelChoice;
use crate::output;
use crate::session::RunningArgs;

/// Show a text as a vector
///
/// Exactly what the folder's `modules.json` says: pooling, dense layers, normalisation.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  wootz embed models/all-MiniLM-L6-v2 --text \"A dog runs.\" --json")]
pub(crate) struct EmbedArgs {
    /// Folder of a sentence encoder: a path, a name in the home, hf:org/name
    model: String,
    /// The text
    #[arg(long, short)]
    text: String,
    /// The text is a question to search with, where the model tells these apart
    #[arg(long)]
    query: bool,
    /// Print {"embedding": […]}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: RunningArgs,
}

impl EmbedArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let ModelChoice::Path(folder) = ModelChoice::find(Some(&self.model))? else {
            bail!("the built-in model makes no embeddings\nhint: name a sentence encoder's folder");
        };
        let embedding = self.embed(&folder).with_context(|| format!("embedding with `{}`", self.model))?;
        if self.json {
            return print_json(&json!({"embedding": embedding}));
        }
        for line in embedding.chunks(8) {
            let numbers: Vec<String> = line.iter().map(|x| format!("{x:9.5}")).collect();
            output::print(&numbers.join(" "))?;
        }
        Ok(())
    }

    fn embed(&self, folder: &Path) -> anyhow::Result<Vec<f32>> {
        let encoder = SentenceEncoder::open(folder, &self.running.device())?;
        let kind = if self.query { EmbedKind::Query } else { EmbedKind::Plain };
        let mut embeddings = encoder.embed_texts(&[&self.text], kind)?;
        embeddings.pop().context("the encoder gave nothing back")
    }
}
