//! `wootz train`: a recipe carried out.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use wootz_train::config::{TemplateKind, TrainConfig};

use super::print_json;
use crate::settings::Settings;
use crate::training::{Event, Options, Run, refuse_what_is_missing};
use crate::{machine, output};

/// Train a model by a recipe: pretraining, fine-tuning, LoRA, preferences
///
/// A recipe is YAML with axolotl's names; docs/train-keys.md lists them. The folder `output_dir` gets the model or the PEFT
/// adapter, checkpoints, metrics.jsonl and the recipe. A run that was stopped, however, goes on exactly with --resume.
#[derive(Args)]
#[command(after_help = "Examples:\n  wootz train --init sft > recipe.yaml\n  wootz train recipe.yaml\n  \
    wootz train recipe.yaml --resume --json")]
pub(crate) struct TrainArgs {
    /// The recipe; - reads it from stdin
    #[arg(required_unless_present = "init")]
    recipe: Option<PathBuf>,
    /// Print a commented recipe to begin with
    #[arg(long, value_name = "KIND", conflicts_with = "recipe", value_parser = kind_of)]
    init: Option<TemplateKind>,
    /// Go on from the newest checkpoint in the recipe's folder, if there is one
    #[arg(long)]
    resume: bool,
    /// Open everything, say what the run needs, and stop before the first step
    #[arg(long)]
    dry_run: bool,
    /// Threads; all cores without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// One JSON object a step on stdout
    #[arg(long)]
    json: bool,
}

fn kind_of(name: &str) -> Result<TemplateKind, String> {
    let names = || TemplateKind::NAMES.map(|named| named.0).join(", ");
    let found = TemplateKind::NAMES.iter().find(|named| named.0 == name);
    found.map(|named| named.1).ok_or_else(|| format!("expected one of {}", names()))
}

impl TrainArgs {
    /// The arguments that go on with a run in its folder.
    pub(super) fn going_on(folder: &Path, json: bool) -> Self {
        let recipe = Some(folder.join("recipe.yaml"));
        Self { recipe, init: None, resume: true, dry_run: false, threads: None, json }
    }

    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        if let Some(kind) = self.init {
            return output::print(TrainConfig::template(kind).trim_end());
        }
        let Some(path) = &self.recipe else { bail!("expected a recipe") };
        let text = match path.as_os_str() == "-" {
            true => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("reading the recipe from stdin")?;
                text
            }
            false => {
                std::fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?
            }
        };
        let parsed = TrainConfig::parse(&text).with_context(|| format!("in `{}`", path.display()))?;
        if !parsed.without_effect.is_empty() {
            eprintln!("without effect here: {}", parsed.without_effect.join(", "));
        }
        let config = parsed.config;
        refuse_what_is_missing(&config)?;
        let n_threads =
            self.threads.map_or_else(|| machine::compute_threads(&machine::Cpu::detect()), usize::from);
        let options = Options { home: settings.home.clone(), n_threads, resume: self.resume };
        let mut shown = Shown { json: self.json, every: config.logging_steps.max(1), said: Instant::now() };
        let run = Run::open(&config, &text, options, &mut |event| shown.show(event))?;
        shown.end_line();
        eprintln!("{} steps in {}", run.n_steps(), run.dtype());
        if self.dry_run {
            return run.leave();
        }
        let path = run.finish(&mut |event| shown.show(event))?;
        match self.json {
            true => print_json(&json!({"done": true, "checkpoint": path})),
            false => {
                eprintln!("done: {}", path.display());
                Ok(())
            }
        }
    }
}

/// What is shown on the way.
struct Shown {
    json: bool,
    every: u64,
    /// When something that goes on was said last
    said: Instant,
}

impl Shown {
    fn show(&mut self, event: Event) {
        match event {
            Event::Said(text) => {
                self.end_line();
                eprintln!("{text}");
            }
            Event::Doing(text) if std::io::stderr().is_terminal() => {
                if self.said.elapsed() > Duration::from_millis(200) {
                    self.said = Instant::now();
                    eprint!("\r\x1b[K{text}");
                }
            }
            Event::Doing(_) => {}
            Event::Step(line) if self.json => {
                // A reader that went away is no reason to stop learning.
                let _ = print_json(&line.to_json());
            }
            Event::Step(line) => {
                let step = line.report.step;
                if !step.is_multiple_of(self.every) && step != 1 && step != line.n_steps {
                    return;
                }
                let metrics: String =
                    line.report.metrics.iter().map(|(name, value)| format!("  {name} {value:.3}")).collect();
                eprintln!(
                    "step {step}/{}  loss {:.4}  grad {:.3}  lr {:.2e}  {:.0} tok/s  mfu {:.0} % of {}  {} MiB  {} left{metrics}",
                    line.n_steps,
                    line.report.loss,
                    line.report.grad_norm,
                    line.report.lr,
                    line.tok_per_s,
                    100.0 * line.mfu,
                    line.peak.0,
                    line.rss_mib,
                    duration(line.seconds_left),
                );
            }
            Event::Measured { step, loss } if self.json => {
                let _ = print_json(&json!({"step": step, "val_loss": loss}));
            }
            Event::Measured { step, loss } => eprintln!("step {step}: held-out loss {loss:.4}"),
            Event::Saved(path) => eprintln!("saved {}", path.display()),
        }
    }

    fn end_line(&self) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}
