//! What the system and the server say of a server's process: memory, file descriptors, blocks of keys and values.
//!
//! Source: Linux' `proc(5)`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::super::client;
use super::super::server::Running;

/// Numbers of one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub resident_mib: f64,
    pub n_files: usize,
    pub n_threads: usize,
    /// Blocks that hold nothing or a prefix for later, and all.
    pub n_blocks_given_back: f64,
    pub n_blocks: f64,
    pub n_in_progress: f64,
    pub n_running: f64,
}

impl Moment {
    /// Looks now.
    pub fn of(server: &Running) -> Result<Self> {
        let page = client::ask(server.address, "GET", "/metrics", "")?.body;
        let numbers = numbers(&page);
        let number =
            |name: &str| numbers.get(name).copied().with_context(|| format!("no `{name}` at /metrics"));
        let proc = std::path::PathBuf::from(format!("/proc/{}", server.id()));
        let status = std::fs::read_to_string(proc.join("status")).context("reading /proc/PID/status")?;
        let field = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("a field of /proc")?;
            line.split_whitespace().next().and_then(|n| n.parse().ok()).context("a number in /proc")
        };
        Ok(Self {
            resident_mib: field("VmRSS:")? / 1024.0,
            n_files: std::fs::read_dir(proc.join("fd")).context("reading /proc/PID/fd")?.count(),
            n_threads: field("Threads:")? as usize,
            n_blocks_given_back: number("wootz_kv_blocks_free")? + number("wootz_kv_blocks_cached")?,
            n_blocks: number("wootz_kv_blocks")?,
            n_in_progress: number("wootz_generations_in_progress")?,
            n_running: number("wootz_running_requests")? + number("wootz_queued_requests")?,
        })
    }

    /// Looks until nothing runs, at most `limit` long.
    pub fn when_idle(server: &Running, limit: Duration) -> Result<(Self, Duration)> {
        let begun = Instant::now();
        loop {
            let moment = Self::of(server)?;
            if moment.n_in_progress == 0.0 && moment.n_running == 0.0 {
                return Ok((moment, begun.elapsed()));
            }
            if begun.elapsed() > limit {
                bail!(
                    "after {limit:?}, {} generations and {} requests still run",
                    moment.n_in_progress,
                    moment.n_running
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Sums over all labels by name; histograms are left out.
fn numbers(page: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let name = name.split('{').next().unwrap_or(name);
        if let Ok(value) = value.parse::<f64>() {
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_summed_over_models() {
        let page = "# HELP a b\na{model=\"x\"} 2\na{model=\"y\"} 3\nb 4.5\n";
        assert_eq!(numbers(page), BTreeMap::from([("a".into(), 5.0), ("b".into(), 4.5)]));
    }
}
