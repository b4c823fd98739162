//! What developers run: `cargo xtask test`, `cargo xtask tidy`.
//!
//! Where:  beside the product, never inside it; `.ci/run` calls `test`.
//! Idea:   one file per task, one row of [`TASKS`] per file. A task returns an error or it has passed.
#![forbid(unsafe_code)]

mod bench;
mod clients;
mod golden;
mod source;
mod studio;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// A task: its name, its arguments and what it does for the help text, and the function that does it.
type Task = (&'static str, &'static str, fn(&[String]) -> Result<()>);

const TASKS: &[Task] = &[
    ("help", "                 this text", help),
    (
        "bench",
        "peers [OPTIONS]   speeds in turn with llama.cpp's; `cargo xtask bench peers --help` lists options",
        bench::run,
    ),
    ("clients", "             official clients of other people against a scripted server", clients::run),
    ("golden", "DIR          models that transformers recorded, as folders and as GGUFs", golden::run),
    (
        "studio",
        "              the web page: committed bundle against its sources, tests in Chromium",
        studio::run,
    ),
    (
        "test",
        "                 everything that must hold before a change lands: format, clippy, tidy, tests",
        test::run,
    ),
    (
        "tidy",
        "                 headers, layering between crates, dead files, unsafe code, names, leftovers",
        tidy::run,
    ),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let Some((name, rest)) = args.split_first() else { return help(&[]) };
    let name = if matches!(name.as_str(), "-h" | "--help") { "help" } else { name };
    match TASKS.iter().find(|(task, ..)| *task == name) {
        Some((_, _, run)) => run(rest),
        None => bail!("no task `{name}`\nhint: `cargo xtask help` lists them"),
    }
}

fn help(_args: &[String]) -> Result<()> {
    println!("usage: cargo xtask TASK\n");
    for (name, what, _) in TASKS {
        println!("  {name} {what}");
    }
    println!("\nexit code: 0 when the task passed, 1 when it did not");
    Ok(())
}

/// Refuses arguments where a task takes none.
fn no_arguments(args: &[String]) -> Result<()> {
    match args {
        [] => Ok(()),
        [first, ..] => bail!("unexpected argument `{first}`"),
    }
}
