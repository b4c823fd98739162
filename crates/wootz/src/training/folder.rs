//! A run's folder: what was run, its metrics, its checkpoints.
//!
//! ```text
//! output_dir/
//!   recipe.yaml        as it was read
//!   run.json           id, versions, data, state
//!   metrics.jsonl      one line a step
//!   prepared/          encoded examples
//!   checkpoint-100/    a model or an adapter as others read it, and training.safetensors
//!   …                  at the end the model or the adapter itself
//! ```

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value as Json, json};
use wootz_weights::AtomicFile;

/// The state that a run goes on from, inside a checkpoint.
pub(super) const STATE: &str = "training.safetensors";

/// A run's folder.
pub(super) struct RunFolder {
    pub path: PathBuf,
    metrics: std::fs::File,
}

impl RunFolder {
    /// Makes it, or opens one to go on in.
    pub fn open(path: &Path, recipe: &str, goes_on: bool) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("making `{}`", path.display()))?;
        if !goes_on && let Some(found) = newest(path) {
            bail!(
                "`{}` holds the checkpoints of a run already, the newest `{}`\nhint: `--resume` goes on from it; else choose another `output_dir`",
                path.display(),
                found.display()
            );
        }
        remove_partial(path);
        write(&path.join("recipe.yaml"), recipe.as_bytes())?;
        let file = path.join("metrics.jsonl");
        let mut options = std::fs::OpenOptions::new();
        options.create(true);
        let metrics = if goes_on {
            options.append(true).open(&file)
        } else {
            options.write(true).truncate(true).open(&file)
        };
        let metrics = metrics.with_context(|| format!("opening `{}`", file.display()))?;
        Ok(Self { path: path.to_owned(), metrics })
    }

    /// Keeps the lines up to a step, when a run goes on from it.
    pub fn keep_metrics_until(&mut self, step: u64) -> anyhow::Result<()> {
        let path = self.path.join("metrics.jsonl");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let is_before = |line: &&str| {
            let line: Option<Json> = serde_json::from_str(line).ok();
            line.and_then(|line| line["step"].as_u64()).is_some_and(|of| of <= step)
        };
        let kept: String = text.lines().filter(is_before).flat_map(|line| [line, "\n"]).collect();
        write(&path, kept.as_bytes())?;
        self.metrics = std::fs::OpenOptions::new().append(true).open(&path)?;
        Ok(())
    }

    /// Adds a line of metrics.
    pub fn note(&mut self, line: &Json) -> anyhow::Result<()> {
        writeln!(self.metrics, "{line}").context("writing metrics.jsonl")
    }

    /// Says what the run is and how it goes.
    pub fn describe(&self, about: &Json) -> anyhow::Result<()> {
        write(&self.path.join("run.json"), format!("{about:#}\n").as_bytes())
    }

    /// The number of the run whose folder this is.
    pub fn known_id(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.path.join("run.json")).ok()?;
        serde_json::from_str::<Json>(&text).ok()?["id"].as_str().map(str::to_owned)
    }

    /// The folder of a step's checkpoint.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.path.join(format!("checkpoint-{step}"))
    }

    /// Removes all checkpoints but the newest `limit`.
    pub fn rotate(&self, limit: Option<u64>) {
        let Some(limit) = limit else { return };
        let mut all = checkpoints(&self.path);
        all.sort_unstable_by_key(|(step, _)| std::cmp::Reverse(*step));
        for (_, path) in all.into_iter().skip(limit.max(1) as usize) {
            // What cannot be removed stays; the run goes on.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Writes a file that is whole or not there.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write(bytes)?;
    Ok(file.commit()?)
}

/// The newest checkpoint that is whole.
pub(super) fn newest(path: &Path) -> Option<PathBuf> {
    checkpoints(path).into_iter().max_by_key(|(step, _)| *step).map(|(_, path)| path)
}

fn checkpoints(path: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = path.read_dir() else { return Vec::new() };
    let of_step = |path: PathBuf| {
        let step = path.file_name()?.to_str()?.strip_prefix("checkpoint-")?.parse().ok()?;
        path.join(STATE).is_file().then_some((step, path))
    };
    entries.flatten().filter_map(|entry| of_step(entry.path())).collect()
}

/// What a killed run left half-written.
fn remove_partial(path: &Path) {
    let Ok(entries) = path.read_dir() else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_partial = name.starts_with('.') && (name.ends_with(".partial") || name.ends_with(".tmp"));
        if is_partial && entry.path().is_dir() {
            let _ = std::fs::remove_dir_all(entry.path());
        } else if is_partial {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// What `run.json` says.
pub(super) fn about(id: &str, recipe: &[(&'static str, String)], fingerprint: &str, base: &str) -> Json {
    let settings: serde_json::Map<String, Json> =
        recipe.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
    json!({
        "id": id, "wootz": env!("CARGO_PKG_VERSION"), "base_model": base, "data": fingerprint, "settings": settings,
        "state": "running",
    })
}
