//! `cargo xtask test`: everything that must hold before a change lands.
//!
//! Where:  called by people and by `.ci/run`.
//! Idea:   cheap checks first; the first that fails ends the run; the last line says plainly what happened.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{clients, no_arguments, studio, tidy, workspace};

/// The cargo calls around `tidy`, in order.
const FORMAT: &[&str] = &["fmt", "--all", "--check"];
const CLIPPY: &[&str] = &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
const TESTS: &[&str] = &["test", "--workspace", "--locked", "--no-fail-fast"];

/// Runs the steps in order and stops at the first that fails.
pub fn run(args: &[String]) -> Result<()> {
    no_arguments(args)?;
    let start = Instant::now();
    cargo(FORMAT).context("hint: `cargo fmt --all` formats everything")?;
    eprintln!("==> cargo xtask tidy");
    tidy::run(&[])?;
    cargo(CLIPPY)?;
    cargo(TESTS)?;
    eprintln!("==> cargo xtask clients");
    clients::run(&[])?;
    eprintln!("==> cargo xtask studio");
    studio::run(&[])?;
    let seconds = start.elapsed().as_secs();
    println!(
        "==> passed: format, tidy, clippy, tests, clients, studio ({} min {} s)",
        seconds / 60,
        seconds % 60
    );
    Ok(())
}

/// Runs cargo at the root of the workspace with its output shown.
fn cargo(args: &[&str]) -> Result<()> {
    let line = format!("cargo {}", args.join(" "));
    eprintln!("==> {line}");
    // The cargo that started us is named in the environment, which keeps one toolchain throughout.
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(args)
        .current_dir(workspace::root())
        .status()
        .with_context(|| format!("starting `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}
