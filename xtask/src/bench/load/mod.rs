//! `cargo xtask bench load`: what a crowd, a flood, sluggish readers and a crash do to `wootz serve`.
//!
//! Where:  a task for developers, on this machine's loopback alone; short versions of its parts are tests.
//! Idea:   each part starts a server with the built-in model, does its worst for a bounded time, and looks at what the
//!         system says of the process afterwards. A part that does not hold fails the run.

mod batch;
mod crowd;
mod flood;
mod slow;
mod watch;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::server::Running;
use super::wootz::Wootz;

const HELP: &str = "\
usage: cargo xtask bench load [OPTIONS]

Builds `wootz` and puts its server under load, on loopback alone.

  --only A,B          crowd, flood, slow, crash
  --seconds N         how long the crowd stays (300)
  --connections N     how many the crowd are (500)
  --wootz-bin FILE    a ready wootz; else it is built";

/// Requests that a server of this benchmark computes at a time, and that may wait.
const PARALLEL: usize = 8;
const QUEUE: usize = 56;

/// A part: its name and what does it.
type Part = (&'static str, fn(&Load) -> Result<String>);

const PARTS: &[Part] =
    &[("crowd", crowd::run), ("flood", flood::run), ("slow", slow::run), ("crash", batch::run)];

/// What all parts share.
pub(super) struct Load {
    wootz: Wootz,
    pub time: Duration,
    pub n_connections: usize,
}

impl Load {
    /// A server with the built-in model and its files in `home`.
    pub fn start(&self, home: &std::path::Path) -> Result<Running> {
        let mut command = Command::new(self.wootz.program());
        command.env("WOOTZ_HOME", home).args(["serve", "--ctx", "512"]);
        command.args(["--parallel", &PARALLEL.to_string(), "--queue", &QUEUE.to_string()]);
        Running::wootz(&mut command)
    }
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut only, mut seconds, mut n_connections, mut program) = (Vec::new(), 300, 500, None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().with_context(|| format!("`{arg}`: expected a value"));
        let mut count = |most: u64| -> Result<u64> {
            let text = value()?;
            let n = text.parse().ok().filter(|n| (1..=most).contains(n));
            n.with_context(|| format!("`{arg}`: expected a number from 1 to {most}, got `{text}`"))
        };
        match arg.as_str() {
            "--seconds" => seconds = count(3600)?,
            "--connections" => n_connections = count(1000)? as usize,
            "--only" => only = value()?.split(',').map(|part| part.trim().to_owned()).collect(),
            "--wootz-bin" => program = Some(std::path::PathBuf::from(value()?)),
            "-h" | "--help" => {
                println!("{HELP}");
                return Ok(());
            }
            other => bail!("unexpected argument `{other}`\nhint: `cargo xtask bench load --help`"),
        }
    }
    if let Some(name) = only.iter().find(|name| PARTS.iter().all(|(part, _)| part != name)) {
        bail!("--only {name}: no such part");
    }
    let wootz = match &program {
        Some(program) => Wootz::at(program)?,
        None => Wootz::build()?,
    };
    let load = Load { wootz, time: Duration::from_secs(seconds), n_connections };
    let mut failed = Vec::new();
    for (name, part) in PARTS.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|o| o == name)) {
        eprintln!("==> {name}");
        match part(&load) {
            Ok(said) => println!("{name}: {said}"),
            Err(error) => {
                println!("{name}: FAILED: {error:#}");
                failed.push(*name);
            }
        }
    }
    ensure!(failed.is_empty(), "{} did not hold", failed.join(", "));
    Ok(())
}
