//! `wootz tokenize`: a text as tokens.

use anyhow::Context;
use serde_json::json;
use wootz_model::Words;

use super::print_json;
use crate::model_choice::ModelChoice;

/// Show a text as tokens
///
/// Special tokens are added as the model wants them, and recognised where the text spells them.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  wootz tokenize models/llama --text \"Once upon a time\"")]
pub(crate) struct TokenizeArgs {
    /// Model: a path, a name in the home, hf:org/name; the built-in one without it
    model: Option<String>,
    /// The text
    #[arg(long, short)]
    text: String,
    /// Add no special tokens
    #[arg(long)]
    plain: bool,
    /// Print {"ids": […], "tokens": […]}
    #[arg(long)]
    json: bool,
}

impl TokenizeArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let model = ModelChoice::find(self.model.as_deref())?.open()?;
        let words = Words::of(&model).context("reading the tokenizer")?;
        let tokenizer = words.tokenizer.context("the model has no tokenizer")?;
        let ids = tokenizer.encode(&self.text, !self.plain, true);
        let tokens: Vec<&str> = ids.iter().map(|&id| tokenizer.token_text(id).unwrap_or_default()).collect();
        if self.json {
            return print_json(&json!({"ids": ids, "tokens": tokens}));
        }
        for (id, token) in ids.iter().zip(tokens) {
            println!("{id:>7}  {token}");
        }
        Ok(())
    }
}
