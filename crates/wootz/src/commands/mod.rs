//! The verbs, one file each: arguments, what they do, and an example that a test executes.
//!
//! Where:  chosen by `main`; what a verb needs from below it gets as values, never from the environment.

mod adapter;
mod bench;
mod chat;
mod convert;
mod data;
mod doctor;
mod embed;
mod hidden;
mod list;
mod logits;
mod pull;
mod run;
mod runs;
mod serve;
mod show;
mod tokenize;
mod tokenizer;
mod train;

use clap::Subcommand;

pub(crate) use pull::check_space;

use crate::output;
use crate::settings::Settings;

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    Run(Box<run::RunArgs>),
    Chat(Box<chat::ChatArgs>),
    Serve(Box<serve::ServeArgs>),
    Convert(convert::ConvertArgs),
    Adapter(adapter::AdapterCommand),
    Show(show::ShowArgs),
    Tokenize(tokenize::TokenizeArgs),
    Tokenizer(tokenizer::TokenizerArgs),
    Data(data::DataArgs),
    Train(train::TrainArgs),
    Runs(runs::RunsArgs),
    Logits(logits::LogitsArgs),
    Hidden(hidden::HiddenArgs),
    Embed(embed::EmbedArgs),
    Bench(bench::BenchArgs),
    Pull(pull::PullArgs),
    List(list::ListArgs),
    Doctor(doctor::DoctorArgs),
}

impl Command {
    /// Does it. `offline` forbids what would touch the network.
    pub(crate) fn run(self, offline: bool) -> anyhow::Result<()> {
        match self {
            Command::Run(args) => args.run(),
            Command::Chat(args) => args.run(),
            Command::Serve(args) => args.run(&Settings::from_environment(offline)?),
            Command::Convert(args) => args.run(),
            Command::Adapter(args) => args.run(),
            Command::Show(args) => args.run(),
            Command::Tokenize(args) => args.run(),
            Command::Tokenizer(args) => args.run(),
            Command::Data(args) => args.run(),
            Command::Train(args) => args.run(&Settings::from_environment(offline)?),
            Command::Runs(args) => args.run(&Settings::from_environment(offline)?),
            Command::Logits(args) => args.run(),
            Command::Hidden(args) => args.run(),
            Command::Embed(args) => args.run(),
            Command::Bench(args) => args.run(),
            Command::Pull(args) => args.run(&Settings::from_environment(offline)?),
            Command::List(args) => args.run(&Settings::from_environment(offline)?),
            Command::Doctor(args) => args.run(&Settings::from_environment(offline)?),
        }
    }
}

/// Token ids separated by commas.
fn parse_ids(text: &str) -> Result<Ids, String> {
    let id =
        |part: &str| part.trim().parse().map_err(|_| format!("expected token ids like 5,6,7, got `{part}`"));
    text.split(',').map(id).collect::<Result<_, _>>().map(Ids)
}

/// Token ids of one argument.
#[derive(Clone, Debug)]
pub(crate) struct Ids(pub Vec<u32>);

/// Prints a value as one line of JSON.
fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    output::print(&value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_between_commas() {
        assert_eq!(parse_ids("5, 6,7").unwrap().0, [5, 6, 7]);
        assert!(parse_ids("5,x").unwrap_err().contains("`x`"));
    }
}
