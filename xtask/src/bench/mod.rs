//! `cargo xtask bench`: Wootz and the programs that people compare it with, in turn, on this machine; a server under load.
//!
//! Where:  a task for developers, never a check: it measures, and its exit code says nothing about speed.
//! Idea:   both programs run in turn (A B A B), each as a process of its own; medians and spreads are printed beside
//!         ceilings that were measured in the same minute. Rows are recorded as they come, so that a run may be cut into
//!         pieces (`--only`).

mod busy;
mod cases;
mod client;
mod encoding;
mod llama_cpp;
mod load;
mod measure;
mod options;
mod peers;
mod process;
mod row;
mod samples;
mod serve;
mod server;
mod table;
mod wootz;

use anyhow::{Result, bail};

pub(crate) fn run(args: &[String]) -> Result<()> {
    match args.split_first() {
        Some((what, rest)) if what == "peers" => peers::run(rest),
        Some((what, rest)) if what == "serve" => serve::run(rest),
        Some((what, rest)) if what == "load" => load::run(rest),
        Some((what, _)) => bail!("no benchmark `{what}`\nhint: `peers`, `serve` and `load` are some"),
        None => bail!("usage: cargo xtask bench peers|serve|load [OPTIONS]"),
    }
}
