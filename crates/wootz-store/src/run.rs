//! One run: what is told when it begins, and what is known of it later.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::LOST_AFTER;

/// What is told when a run begins.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// What kind of work it is, `train`.
    pub kind: String,
    /// What people call it.
    pub name: String,
    /// Every setting as it is run, defaults filled in.
    pub config: Value,
    /// A fingerprint of the data, if there are data.
    pub data: Option<String>,
    /// What it goes out from: numbers of runs, models, adapters, in order.
    pub parents: Vec<String>,
    /// Where its files are.
    pub output_dir: PathBuf,
    /// The process that does it.
    pub pid: u32,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// Somebody works on it, or was when last heard of.
    Running,
    /// It came to its end.
    Finished,
    /// It ended with an error.
    Failed,
    /// It was ended on purpose.
    Stopped,
}

impl RunStatus {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Running, Self::Finished, Self::Failed, Self::Stopped]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// A run as the store knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its number: twelve hexadecimal digits.
    pub id: String,
    /// What was told when it began.
    pub told: NewRun,
    /// What became of it.
    pub status: RunStatus,
    /// When it began.
    pub started: SystemTime,
    /// When it was last heard of.
    pub heard: SystemTime,
    /// When it ended, if it did.
    pub ended: Option<SystemTime>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl Run {
    /// Whether it should be running and has not been heard of for [`LOST_AFTER`]: it was killed.
    pub fn is_lost(&self, now: SystemTime) -> bool {
        let silence = now.duration_since(self.heard).unwrap_or(Duration::ZERO);
        self.status == RunStatus::Running && silence > LOST_AFTER
    }
}
