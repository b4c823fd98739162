//! `wootz logits`: what a model thinks comes next.

use anyhow::Context;
use serde_json::json;
use wootz_engine::{Outputs, Runner, Work};
use wootz_model::Words;

use super::{Ids, parse_ids, print_json};
use crate::model_choice::ModelChoice;
use crate::session::RunningArgs;

/// Show the logits after a text, and the likeliest token at every position
#[derive(clap::Args)]
#[command(after_help = "Examples:
  wootz logits models/llama --ids 5,6,7 --json
  wootz logits --text \"Once upon a\"")]
pub(crate) struct LogitsArgs {
    /// Model: a path, a name in the home, hf:org/name; the built-in one without it
    model: Option<String>,
    /// Token ids; nothing is added to them
    #[arg(long, value_parser = parse_ids, required_unless_present = "text", conflicts_with = "text")]
    ids: Option<Ids>,
    /// A text in place of token ids
    #[arg(long)]
    text: Option<String>,
    /// Print {"logits": [V numbers, last position], "argmax": [one per position]}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: RunningArgs,
}

impl LogitsArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let model = ModelChoice::find(self.model.as_deref())?.open()?;
        anyhow::ensure!(
            model.network.config.is_decoder(),
            "an encoder has no logits\nhint: `wootz hidden` shows its last rows"
        );
        let words = Words::of(&model).context("reading the tokenizer")?;
        let ids = match (self.ids, &self.text) {
            (Some(Ids(ids)), _) => ids,
            (None, Some(text)) => {
                words.tokenizer.as_ref().context("the model has no tokenizer")?.encode(text, true, true)
            }
            (None, None) => unreachable!("one of both is required"),
        };
        let v = model.network.config.vocab_size;
        check_ids(&ids, v, self.running.context(&model.network))?;
        let mut runner = self.running.runner(&model, 1)?;
        let (argmax, logits) = all_positions(&mut runner, &ids, self.running.chunk(), v)?;
        if self.json {
            return print_json(&json!({"logits": logits, "argmax": argmax}));
        }
        let mut order: Vec<usize> = (0..v).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let max = logits[order[0]];
        let sum: f64 = logits.iter().map(|z| f64::from(z - max).exp()).sum();
        for id in order.into_iter().take(20) {
            let token = words.tokenizer.as_ref().and_then(|t| t.token_text(id as u32)).unwrap_or_default();
            let p = 100.0 * f64::from(logits[id] - max).exp() / sum;
            println!("{p:6.2} %  {:9.4}  {id:>7}  {token}", logits[id]);
        }
        Ok(())
    }
}

/// Checks ids before a model is loaded for them.
pub(super) fn check_ids(ids: &[u32], vocab_size: usize, context: usize) -> anyhow::Result<()> {
    anyhow::ensure!(!ids.is_empty(), "no tokens given");
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocab_size) {
        anyhow::bail!("token {id} is not among the {vocab_size} of the vocabulary");
    }
    anyhow::ensure!(ids.len() <= context, "{} tokens do not fit a context of {context}", ids.len());
    Ok(())
}

/// The likeliest token at every position, and the logits of the last one.
fn all_positions(
    runner: &mut Runner,
    ids: &[u32],
    chunk: usize,
    v: usize,
) -> anyhow::Result<(Vec<usize>, Vec<f32>)> {
    let mut track = runner.start(ids.len())?;
    let (mut argmax, mut last) = (Vec::with_capacity(ids.len()), Vec::new());
    for token_ids in ids.chunks(chunk) {
        let work = Work { track: &mut track, token_ids, outputs: Outputs::All };
        let forward = runner.forward(&mut [work], None)?;
        for logits in forward.logits.chunks_exact(v) {
            let best = (0..v).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
            argmax.push(best);
        }
        last = forward.logits[forward.logits.len() - v..].to_vec();
    }
    runner.finish(track);
    Ok((argmax, last))
}
