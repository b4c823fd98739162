//! A run's row in the store of the home: written before the work begins, told that it lives, ended with what became of it.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use serde_json::Value as Json;
use wootz_store::{NewRun, RunStatus, Runs, StoreError};

/// How often a run tells that it lives.
const BEAT: Duration = Duration::from_secs(5);

/// The file of runs in a home.
pub(crate) const FILE: &str = "wootz.db";

/// What is known of this run.
pub(super) struct Record {
    runs: Runs,
    pub id: String,
    told: Instant,
}

impl Record {
    /// A new row, or that of the run that goes on.
    ///
    /// # Errors
    /// A home that cannot be written to; a run that another living process works on.
    pub fn open(home: &Path, known: Option<&str>, run: &NewRun) -> anyhow::Result<Self> {
        std::fs::create_dir_all(home).with_context(|| format!("making `{}`", home.display()))?;
        let runs = Runs::open(&home.join(FILE))?;
        let id = match known.map(|id| runs.find(id)) {
            Some(Ok(found)) => {
                go_on(&runs, &found.id, found.told.pid)?;
                found.id
            }
            // A folder that came from another home has a run that this one does not know.
            Some(Err(StoreError::NoRun { .. })) | None => runs.create(run, SystemTime::now())?,
            Some(Err(error)) => return Err(error.into()),
        };
        Ok(Self { runs, id, told: Instant::now() })
    }

    /// Tells that it lives, now and then.
    pub fn beat(&mut self) -> anyhow::Result<()> {
        if self.told.elapsed() < BEAT {
            return Ok(());
        }
        self.told = Instant::now();
        Ok(self.runs.heartbeat(&self.id, std::process::id(), SystemTime::now())?)
    }

    /// Ends it: finished, stopped, or why it failed.
    pub fn end(&self, end: Result<RunStatus, &str>) -> anyhow::Result<()> {
        Ok(self.runs.end(&self.id, std::process::id(), end, SystemTime::now())?)
    }
}

/// Takes a run over. One whose process is gone was killed, however recently it was heard of.
fn go_on(runs: &Runs, id: &str, by: u32) -> anyhow::Result<()> {
    let (own, now) = (std::process::id(), SystemTime::now());
    match runs.resume(id, own, now) {
        Err(StoreError::State { .. }) if is_alive(by) && by != own => {
            bail!("run {id} goes on in process {by}\nhint: end it first")
        }
        Err(StoreError::State { .. }) => {
            runs.end(id, by, Ok(RunStatus::Stopped), now)?;
            Ok(runs.resume(id, own, now)?)
        }
        other => Ok(other?),
    }
}

/// Whether there is such a process; yes where that cannot be asked.
fn is_alive(pid: u32) -> bool {
    let proc = Path::new("/proc");
    !proc.join("self").exists() || proc.join(pid.to_string()).exists()
}

/// What the store is told of a run.
pub(super) fn new_run(folder: &Path, settings: &[(&'static str, String)], data: &str, base: &str) -> NewRun {
    let config: serde_json::Map<String, Json> =
        settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
    let output_dir = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    NewRun {
        kind: "train".to_owned(),
        name: output_dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        config: Json::Object(config),
        data: Some(data.to_owned()),
        parents: vec![base.to_owned()],
        output_dir,
        pid: std::process::id(),
    }
}
