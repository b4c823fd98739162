//! The command line: one verb of a model's life per file.
//!
//! Where:  the edge: arguments, the terminal and environment variables are known here and nowhere below.
//! Idea:   data goes to stdout, everything else to stderr. Exit code 0: done; 1: failed; 2: wrong arguments;
//!         130: interrupted.
#![forbid(unsafe_code)]

mod adapters;
mod commands;
mod machine;
mod model_choice;
mod otlp;
mod output;
mod random_model;
mod sampling_args;
mod serving;
mod session;
mod settings;
mod training;

use std::process::ExitCode;

use clap::Parser;

/// A language model's whole life in one program
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 110)]
#[command(after_help = "Examples:
  wootz run \"Once upon a time\"          continue a text with the model inside this program
  wootz chat                            talk to it
  wootz show models/llama               what a model is, and what it needs
  wootz convert models/llama --to llama.gguf --dtype f16

Models are named by a path, by a name in the home (`wootz list`), or as hf:org/name.")]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
    /// Never touch the network
    #[arg(long, global = true)]
    offline: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.run(cli.offline) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough, as `head` does.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// `error: what we were doing: why it failed`, with hints on their own lines at the end.
fn describe(error: &anyhow::Error) -> String {
    let mut hints = Vec::new();
    let mut text = String::from("error: ");
    for (i, cause) in error.chain().enumerate() {
        let message = cause.to_string();
        let (said, hint) = match message.split_once("\nhint: ") {
            Some((said, hint)) => (said.to_owned(), Some(hint.to_owned())),
            None => (message, None),
        };
        // A transparent wrapper says what its source says again.
        if i > 0 && text.ends_with(&said) {
            continue;
        }
        if i > 0 {
            text.push_str("\n  caused by: ");
        }
        text.push_str(&said);
        hints.extend(hint);
    }
    for hint in hints {
        text.push_str("\nhint: ");
        text.push_str(&hint);
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn hints_stand_at_the_end() {
        let error = anyhow::anyhow!("no model `x`\nhint: `wootz list` shows those there").context("opening");
        assert_eq!(
            describe(&error),
            "error: opening\n  caused by: no model `x`\nhint: `wootz list` shows those there"
        );
    }
}
