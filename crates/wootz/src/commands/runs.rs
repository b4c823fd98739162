//! `wootz runs`: what was run, with what, and what became of it.

use std::path::Path;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use wootz_store::{Filter, Run, RunStatus, Runs, compare, read_lines};

use super::print_json;
use super::train::TrainArgs;
use crate::output;
use crate::settings::Settings;
use crate::training::STORE_FILE;

/// Runs of training: list, show, compare, resume
#[derive(Args)]
#[command(
    after_help = "Examples:\n  wootz runs list\n  wootz runs show 3f2a\n  wootz runs compare 3f2a 91bc\n  \
    wootz runs resume 3f2a"
)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    command: RunsCommand,
}

#[derive(Subcommand)]
enum RunsCommand {
    /// All runs, the newest first
    List {
        /// One JSON object a run
        #[arg(long)]
        json: bool,
    },
    /// Settings, state and numbers of one run
    Show {
        /// The first digits of its number, or its name
        run: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// What two runs were set to differently, and where they ended
    Compare {
        /// The first
        first: String,
        /// The second
        second: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Go on with a run that was stopped, from its newest checkpoint
    Resume {
        /// The first digits of its number, or its name
        run: String,
        /// One JSON object a step on stdout
        #[arg(long)]
        json: bool,
    },
}

impl RunsArgs {
    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        std::fs::create_dir_all(&settings.home)?;
        let runs = Runs::open(&settings.home.join(STORE_FILE))?;
        match self.command {
            RunsCommand::List { json } => list(&runs, json),
            RunsCommand::Show { run, json } => show(&runs.find(&run)?, json),
            RunsCommand::Compare { first, second, json } => {
                both(&runs.find(&first)?, &runs.find(&second)?, json)
            }
            RunsCommand::Resume { run, json } => {
                let folder = runs.find(&run)?.told.output_dir;
                TrainArgs::going_on(&folder, json).run(settings)
            }
        }
    }
}

/// What metrics.jsonl says, in short.
#[derive(Default)]
struct Numbers {
    steps: u64,
    tokens: u64,
    loss: Option<f64>,
    val_loss: Option<f64>,
    best_val_loss: Option<f64>,
}

impl Numbers {
    fn of(folder: &Path) -> Self {
        let mut numbers = Self::default();
        // A run without steps has no file, and one that cannot be read says nothing.
        let _ = read_lines(&folder.join("metrics.jsonl"), |line| {
            numbers.steps = numbers.steps.max(line["step"].as_u64().unwrap_or(0));
            numbers.tokens = numbers.tokens.max(line["tokens"].as_u64().unwrap_or(0));
            numbers.loss = line["loss"].as_f64().or(numbers.loss);
            if let Some(loss) = line["val_loss"].as_f64() {
                numbers.val_loss = Some(loss);
                numbers.best_val_loss = Some(numbers.best_val_loss.map_or(loss, |best| best.min(loss)));
            }
        });
        numbers
    }

    fn to_json(&self) -> Value {
        json!({
            "steps": self.steps, "tokens": self.tokens, "loss": self.loss, "val_loss": self.val_loss,
            "best_val_loss": self.best_val_loss,
        })
    }
}

fn status(run: &Run) -> &'static str {
    match run.status {
        RunStatus::Running if run.is_lost(SystemTime::now()) => "lost",
        status => status.as_str(),
    }
}

fn seconds(run: &Run) -> u64 {
    let until = run.ended.unwrap_or(run.heard);
    until.duration_since(run.started).map_or(0, |time| time.as_secs())
}

fn about(run: &Run) -> Value {
    json!({
        "id": run.id, "kind": run.told.kind, "name": run.told.name, "status": status(run), "seconds": seconds(run),
        "parents": run.told.parents, "data": run.told.data, "output_dir": run.told.output_dir, "error": run.error,
        "config": run.told.config, "numbers": Numbers::of(&run.told.output_dir).to_json(),
    })
}

fn list(runs: &Runs, json: bool) -> anyhow::Result<()> {
    let all = runs.list(Filter::default())?;
    if json {
        return all.iter().try_for_each(|run| print_json(&about(run)));
    }
    if all.is_empty() {
        eprintln!("no runs yet\nhint: `wootz train --init sft` prints a recipe to begin with");
        return Ok(());
    }
    let number = |number: Option<f64>| number.map_or_else(|| "–".to_owned(), |number| format!("{number:.4}"));
    let head = ["run", "name", "state", "steps", "loss", "held-out", "from"].map(str::to_owned);
    let rows = all.iter().map(|run| {
        let numbers = Numbers::of(&run.told.output_dir);
        [
            run.id.clone(),
            run.told.name.clone(),
            status(run).to_owned(),
            numbers.steps.to_string(),
            number(numbers.loss),
            number(numbers.val_loss),
            run.told.parents.join(", "),
        ]
    });
    output::print_table(&[head].into_iter().chain(rows).collect::<Vec<_>>())
}

fn show(run: &Run, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(&about(run));
    }
    let numbers = Numbers::of(&run.told.output_dir);
    let mut rows = vec![
        ["run".to_owned(), format!("{} ({})", run.id, run.told.name)],
        ["state".to_owned(), status(run).to_owned()],
        ["folder".to_owned(), run.told.output_dir.display().to_string()],
        ["from".to_owned(), run.told.parents.join(", ")],
        ["time".to_owned(), format!("{} s", seconds(run))],
        ["steps".to_owned(), format!("{}, {} tokens", numbers.steps, numbers.tokens)],
    ];
    rows.extend(run.error.iter().map(|error| ["error".to_owned(), error.clone()]));
    for (name, value) in
        [("loss", numbers.loss), ("held-out loss", numbers.val_loss), ("lowest", numbers.best_val_loss)]
    {
        rows.extend(value.map(|value| [name.to_owned(), format!("{value:.4}")]));
    }
    let settings = run.told.config.as_object().into_iter().flatten();
    rows.extend(settings.map(|(key, value)| [key.clone(), said(value)]));
    output::print_table(&rows)
}

fn both(first: &Run, second: &Run, json: bool) -> anyhow::Result<()> {
    let differences = compare(&first.told.config, &second.told.config);
    let numbers = [first, second].map(|run| Numbers::of(&run.told.output_dir));
    if json {
        let settings: Vec<Value> = differences
            .iter()
            .map(|d| json!({"key": d.path, "first": d.first, "second": d.second}))
            .collect();
        return print_json(&json!({
            "first": first.id, "second": second.id, "settings": settings,
            "numbers": [numbers[0].to_json(), numbers[1].to_json()],
        }));
    }
    let side = |value: &Option<Value>| value.as_ref().map_or_else(|| "–".to_owned(), said);
    let mut rows = vec![["".to_owned(), first.id.clone(), second.id.clone()]];
    rows.extend(differences.iter().map(|d| [d.path.clone(), side(&d.first), side(&d.second)]));
    let number = |number: Option<f64>| number.map_or_else(|| "–".to_owned(), |number| format!("{number:.4}"));
    rows.push(["steps".to_owned(), numbers[0].steps.to_string(), numbers[1].steps.to_string()]);
    rows.push(["loss".to_owned(), number(numbers[0].loss), number(numbers[1].loss)]);
    rows.push(["held-out loss".to_owned(), number(numbers[0].val_loss), number(numbers[1].val_loss)]);
    output::print_table(&rows)
}

fn said(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
