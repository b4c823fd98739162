//! `wootz pull`: a model from the Hub into the home.
//!
//! Where:  a verb; the work is `wootz_remote::Hub::pull`, here are its progress bars.
//! Idea:   what is in Hugging Face's cache already stays there and is not fetched again.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use wootz_remote::{
    Event, LocalModel, ModelName, Origin, PullRequest, Pulled, PulledFile, RemoteFile, RepoPath,
};

use super::print_json;
use crate::machine;
use crate::output::{bytes, print};
use crate::settings::Settings;

/// Fetch a model from the Hugging Face Hub
///
/// Weights in one format (safetensors before PyTorch, or one GGUF), configuration, tokenizer and templates. A pull that
/// was interrupted goes on where it stopped; every file is verified. HF_TOKEN opens gated models, HF_ENDPOINT names a
/// mirror. A model that is whole in Hugging Face's cache is left there and used from there.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  wootz pull hf:org/name\n  wootz pull hf:org/name-GGUF:Q4_K_M\n  wootz pull hf:org/name --include '*.json' --revision v1.0"
)]
pub(crate) struct PullArgs {
    /// hf:org/name, hf:org/name@revision, hf:org/name:FILE or hf:org/name:QUANT
    model: String,
    /// Branch, tag or commit
    #[arg(long)]
    revision: Option<String>,
    /// Fetch the files that fit this pattern (`*`, `?`) and no others; may be repeated
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Print one line of JSON at the end
    #[arg(long)]
    json: bool,
}

impl PullArgs {
    /// Lists, looks whether there is anything to do, fetches.
    pub(crate) fn run(self, settings: &Settings) -> Result<()> {
        let mut name = ModelName::parse(&self.model)?;
        if let Some(revision) = &self.revision {
            name = name.at(revision)?;
        }
        let places = settings.places();
        let folder = places.folder_of(&name);
        let request = PullRequest { name: name.clone(), include: self.include.clone(), folder };
        let hub = settings.connect()?;
        let context = || format!("pulling {name}");
        let (listing, files) = hub.plan(&request).with_context(context)?;
        let at_commit = name.clone().at(&listing.commit).ok();
        let cached =
            at_commit.and_then(|name| places.find(&name)).filter(|model| model.origin == Origin::HfCache);
        if let Some(cached) = cached.filter(|_| self.include.is_empty()) {
            return tell_cached(&cached, &name, self.json);
        }
        check_space(&files, &request)?;
        let bars = Bars::new(&files);
        let watch = |path: &RepoPath, event| bars.update(path, event);
        let pulled = hub.fetch_all(&listing, &files, &request, &watch).with_context(context)?;
        bars.finish();
        if self.json { print_json(&as_json(&name, &pulled)) } else { print(&as_text(&pulled)) }
    }
}

/// Refuses to begin what the disk cannot hold.
pub(crate) fn check_space(files: &[RemoteFile], request: &PullRequest) -> Result<()> {
    let here = |file: &RemoteFile| std::fs::metadata(file.path.below(&request.folder)).map_or(0, |m| m.len());
    let missing: u64 = files.iter().map(|file| file.size_bytes.unwrap_or(0).saturating_sub(here(file))).sum();
    let free = machine::free_bytes(&request.folder).unwrap_or(u64::MAX);
    let folder = request.folder.display();
    ensure!(
        missing <= free,
        "{folder}: {} are missing, but the disk has {} left",
        bytes(missing),
        bytes(free)
    );
    Ok(())
}

fn tell_cached(model: &LocalModel, name: &ModelName, as_json: bool) -> Result<()> {
    if !as_json {
        return print(&format!(
            "{}\nalready in Hugging Face's cache; used from there",
            model.path().display()
        ));
    }
    print_json(&json!({
        "model": name.to_string(), "folder": model.folder, "commit": model.commit, "fetched_bytes": 0,
        "files": model.selection.weights.iter().chain(&model.selection.companions).map(|path| json!({
            "path": path.as_str(), "was_present": true,
        })).collect::<Vec<_>>(),
    }))
}

fn as_json(name: &ModelName, pulled: &Pulled) -> Value {
    let file = |file: &PulledFile| {
        json!({
            "path": file.path.as_str(), "size_bytes": file.size_bytes, "was_present": file.was_present,
            "digest": file.digest.map(|digest| digest.to_string()),
        })
    };
    json!({
        "model": name.to_string(), "folder": pulled.folder, "commit": pulled.commit,
        "fetched_bytes": pulled.files.iter().map(|file| file.fetched_bytes).sum::<u64>(),
        "files": pulled.files.iter().map(file).collect::<Vec<_>>(),
    })
}

fn as_text(pulled: &Pulled) -> String {
    let total: u64 = pulled.files.iter().map(|file| file.size_bytes).sum();
    let fetched: u64 = pulled.files.iter().map(|file| file.fetched_bytes).sum();
    let (n_files, folder) = (pulled.files.len(), pulled.folder.display());
    let unverified = pulled.files.iter().filter(|file| file.digest.is_none()).count();
    let note = if unverified == 0 {
        String::new()
    } else {
        format!("; the server named no digest for {unverified}")
    };
    format!("{folder}\n{n_files} files, {}, {} fetched{note}", bytes(total), bytes(fetched))
}

/// A bar per file under way and one for all of them; plain lines where stderr is no terminal.
struct Bars {
    multi: Option<MultiProgress>,
    all: ProgressBar,
    state: Mutex<BarState>,
}

#[derive(Default)]
struct BarState {
    /// Bars of files under way, and bytes that each of them and of those before had.
    files: HashMap<String, ProgressBar>,
    done_bytes: HashMap<String, u64>,
}

/// How a bar looks. Rate and time left are those of all files; a file's own would jump with every other one.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates here are well-formed")
}

impl Bars {
    fn new(files: &[RemoteFile]) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let multi = is_terminal.then(MultiProgress::new);
        let total: u64 = files.iter().filter_map(|file| file.size_bytes).sum();
        let all = match &multi {
            Some(multi) => multi.add(ProgressBar::new(total)),
            None => ProgressBar::hidden(),
        };
        all.set_style(style("{msg:<22.22} {bar:14} {decimal_bytes:>9} of {decimal_total_bytes:<9} {decimal_bytes_per_sec:>11}, {eta} left"));
        all.set_message(format!("{} files", files.len()));
        Self { multi, all, state: Mutex::default() }
    }

    fn update(&self, path: &RepoPath, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let name = path.to_string();
        match event {
            Event::Progress { done_bytes, total_bytes } => {
                let is_first = state.done_bytes.insert(name.clone(), done_bytes).is_none();
                self.all.set_position(state.done_bytes.values().sum());
                if is_first {
                    // Bytes of an earlier pull, and the time before the first byte, are no sign of speed.
                    self.all.reset_eta();
                }
                if let Some(bar) = self.bar(&mut state, &name) {
                    bar.set_length(total_bytes.unwrap_or(done_bytes));
                    bar.set_position(done_bytes);
                }
            }
            Event::Checking => self.note(&name, "checking what is here"),
            Event::Waiting => self.note(&name, "another process is fetching it; waiting"),
            Event::Retrying { attempt, why } => self.note(&name, &format!("trying again ({attempt}): {why}")),
            Event::Finished { was_present } => {
                if let Some(bar) = state.files.remove(&name) {
                    bar.finish_and_clear();
                }
                if !self.is_terminal() {
                    eprintln!(
                        "{name}: {}",
                        if was_present { "already here" } else { "fetched and verified" }
                    );
                }
            }
        }
    }

    fn is_terminal(&self) -> bool {
        self.multi.is_some()
    }

    /// The bar of a file under way.
    fn bar<'a>(&self, state: &'a mut BarState, name: &str) -> Option<&'a ProgressBar> {
        let multi = self.multi.as_ref()?;
        let new = || {
            let bar = multi.insert_before(&self.all, ProgressBar::new(0));
            bar.set_style(style("{msg:<22.22} {bar:14} {decimal_bytes:>9} of {decimal_total_bytes:<9}"));
            bar.set_message(name.rsplit('/').next().unwrap_or(name).to_owned());
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        };
        Some(state.files.entry(name.to_owned()).or_insert_with(new))
    }

    /// A line above the bars.
    fn note(&self, name: &str, what: &str) {
        match &self.multi {
            // A terminal that is gone is no reason to stop.
            Some(multi) => drop(multi.println(format!("{name}: {what}"))),
            None => eprintln!("{name}: {what}"),
        }
    }

    fn finish(&self) {
        self.all.finish_and_clear();
    }
}
