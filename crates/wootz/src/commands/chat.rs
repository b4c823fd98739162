//! `wootz chat`: talk to a model in the terminal.
//!
//! Where:  the interactive twin of `run`; the server's studio is another front to the same engine.
//! Idea:   the conversation is a list of messages, rendered anew by the model's own template for every turn. Lines that
//!         begin with `/` are commands. Ctrl-C stops the answer, not the program.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use clap::{Args, FromArgMatches};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::json;
use wootz_text::{FinishReason, GenerateEvent, Message, Role};

use super::print_json;
use crate::adapters::AdapterArgs;
use crate::model_choice::ModelChoice;
use crate::sampling_args::SamplingArgs;
use crate::session::{RunningArgs, Session};

const HELP: &str = "\
/system TEXT      what the model is told before everything else; without TEXT, nothing
/set NAME VALUE   a setting of sampling: /set temperature 0.5, /set top-k 40, /set max-tokens 200
/save FILE        writes the conversation; /save! overwrites
/load FILE        goes on with a conversation that was saved
/show             the prompt as it is sent
/clear            forgets the conversation
/bye              ends, as Ctrl-D does
A line that ends with \\ goes on in the next; \"\"\" begins and ends a text of several lines.
Ctrl-C stops an answer.";

/// Talk to a model
///
/// With no model named it is the small one inside this program.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  wootz chat
  wootz chat models/llama --system \"You are brief.\" --temperature 0.7
  echo \"Tell me a story about a dog.\" | wootz chat --json")]
pub(crate) struct ChatArgs {
    /// Model: a path, a name in the home, hf:org/name
    model: Option<String>,
    /// What the model is told before everything else
    #[arg(long)]
    system: Option<String>,
    /// A conversation that /save wrote, to go on with
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,
    /// Print one JSON object for each answer
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    running: RunningArgs,
    #[command(flatten)]
    adapters: AdapterArgs,
}

impl ChatArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let choice = ModelChoice::find(self.model.as_deref())?;
        let session = Session::open(&choice, &self.running, &self.adapters, 1)?;
        anyhow::ensure!(
            session.words.template.is_some(),
            "`{}` has no chat template\nhint: `wootz run` continues a text without one",
            choice.name()
        );
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = stopped.clone();
        ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("listening for Ctrl-C")?;
        let mut chat = Chat {
            session,
            messages: Vec::new(),
            system: self.system,
            sampling: self.sampling,
            json: self.json,
            stopped,
            own_file: None,
        };
        if let Some(path) = &self.load {
            chat.load(path)?;
        }
        let interactive = std::io::stdin().is_terminal();
        if interactive {
            eprintln!("{} · /help shows commands, Ctrl-D ends", choice.name());
        }
        chat.converse(interactive)
    }
}

/// A conversation.
struct Chat {
    session: Session,
    messages: Vec<Message>,
    system: Option<String>,
    sampling: SamplingArgs,
    json: bool,
    /// Set by Ctrl-C.
    stopped: Arc<AtomicBool>,
    /// The file that was loaded or saved last, which may be overwritten.
    own_file: Option<PathBuf>,
}

impl Chat {
    fn converse(&mut self, interactive: bool) -> anyhow::Result<()> {
        let mut editor = DefaultEditor::new().context("opening the terminal")?;
        while let Some(text) = read_message(&mut editor, interactive)? {
            if text.trim().is_empty() {
                continue;
            }
            let outcome = match text.strip_prefix('/') {
                Some(command) => self.command(command.trim()),
                None => self.turn(text).map(|()| true),
            };
            match outcome {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // A mistake in a command does not end a conversation; a script wants to know of it.
                Err(error) if interactive => eprintln!("{}", crate::describe(&error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Does a command; whether to go on.
    fn command(&mut self, line: &str) -> anyhow::Result<bool> {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match name {
            "help" | "?" => eprintln!("{HELP}"),
            "bye" | "exit" | "quit" => return Ok(false),
            "clear" => self.messages.clear(),
            "system" => self.system = (!rest.is_empty()).then(|| rest.to_owned()),
            "set" => self.set(rest)?,
            "save" => self.save(Path::new(rest), false)?,
            "save!" => self.save(Path::new(rest), true)?,
            "load" => self.load(Path::new(rest))?,
            "show" => eprintln!("{}", self.session.words.render_chat(&self.conversation(), &[], false)?),
            _ => bail!(
                "no command `/{name}`\nhint: /help shows them; a message that begins with / needs a space before it"
            ),
        }
        Ok(true)
    }

    /// `NAME VALUE` as if it were `--NAME VALUE`.
    fn set(&mut self, setting: &str) -> anyhow::Result<()> {
        let (name, value) = setting.split_once(char::is_whitespace).unwrap_or((setting, ""));
        let name = name.trim_start_matches('-').replace('_', "-");
        let mut words = vec!["set".to_owned(), format!("--{name}")];
        if !value.trim().is_empty() {
            words.push(value.trim().to_owned());
        }
        // Without defaults, parsing changes what is named and nothing else.
        let parser = SamplingArgs::augment_args(clap::Command::new("set").no_binary_name(false))
            .mut_args(|arg| arg.default_value(None::<&str>));
        let matches = parser.try_get_matches_from(words).map_err(|error| {
            let text = error.to_string();
            anyhow::anyhow!(
                "{}",
                text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
            )
        })?;
        let mut sampling = self.sampling.clone();
        sampling.update_from_arg_matches(&matches)?;
        sampling.sampling()?;
        self.sampling = sampling;
        Ok(())
    }

    /// The system message and the turns.
    fn conversation(&self) -> Vec<Message> {
        self.system.iter().map(Message::system).chain(self.messages.iter().cloned()).collect()
    }

    /// One message of the user and its answer.
    fn turn(&mut self, text: String) -> anyhow::Result<()> {
        self.messages.push(Message::user(text));
        match self.answer() {
            Ok(answer) => self.messages.push(Message::assistant(answer)),
            Err(error) => {
                self.messages.pop();
                return Err(error);
            }
        }
        Ok(())
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let token_ids = self.session.words.encode_chat(&self.conversation(), &[])?;
        let sampling = self.sampling.sampling()?;
        anyhow::ensure!(sampling.n == 1, "`n` is {}, and a chat has one answer", sampling.n);
        let (live, stopped) = (!self.json, self.stopped.clone());
        stopped.store(false, Ordering::Relaxed);
        let (mut answer, mut reason) = (String::new(), None);
        self.session
            .generate(token_ids, sampling, |event| {
                match event {
                    GenerateEvent::Token(token) => {
                        answer.push_str(&token.text);
                        if live {
                            print!("{}", token.text);
                            let _ = std::io::stdout().flush();
                        }
                    }
                    GenerateEvent::Finished { reason: why, .. } => reason = Some(*why),
                    _ => {}
                }
                !stopped.load(Ordering::Relaxed)
            })
            .context("answering\nhint: /clear begins anew where the context is full")?;
        if self.json {
            let reason = reason.map_or("cancelled", FinishReason::as_str);
            print_json(&json!({"role": "assistant", "content": answer, "finish_reason": reason}))?;
        } else {
            println!();
        }
        Ok(answer)
    }

    fn save(&mut self, path: &Path, force: bool) -> anyhow::Result<()> {
        anyhow::ensure!(!path.as_os_str().is_empty(), "no file named\nhint: /save story.json");
        let is_own = self.own_file.as_deref() == Some(path);
        anyhow::ensure!(
            force || is_own || !path.exists(),
            "{} is there already\nhint: /save! overwrites it",
            path.display()
        );
        let messages: Vec<_> = self.conversation().iter().map(Message::to_json).collect();
        let text = serde_json::to_string_pretty(&json!({"messages": messages}))?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
        self.own_file = Some(path.to_owned());
        eprintln!("{} messages saved to {}", messages.len(), path.display());
        Ok(())
    }

    fn load(&mut self, path: &Path) -> anyhow::Result<()> {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let file: serde_json::Value =
            serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
        let list = file["messages"].as_array();
        let list = list.with_context(|| format!("{}: expected `messages`, a list", path.display()))?;
        let message = |(i, message): (usize, &serde_json::Value)| {
            let text = |key: &str| {
                message[key].as_str().with_context(|| {
                    format!("{}: messages[{i}].{key}: expected a text, got {}", path.display(), message[key])
                })
            };
            Ok(Message::new(Role::from(text("role")?), text("content")?))
        };
        let mut messages = list.iter().enumerate().map(message).collect::<anyhow::Result<Vec<_>>>()?;
        self.system = None;
        if messages.first().is_some_and(|message| message.role == Role::System) {
            self.system = Some(messages.remove(0).text());
        }
        eprintln!("{} messages loaded", messages.len());
        self.messages = messages;
        self.own_file = Some(path.to_owned());
        Ok(())
    }
}

/// One message, perhaps of several lines; `None` at the end of the input.
fn read_message(editor: &mut DefaultEditor, interactive: bool) -> anyhow::Result<Option<String>> {
    let mut text = String::new();
    let mut quoted = false;
    loop {
        let prompt = match (interactive, text.is_empty() && !quoted) {
            (false, _) => "",
            (true, true) => ">>> ",
            (true, false) => "... ",
        };
        let line = match editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                (text, quoted) = (String::new(), false);
                continue;
            }
            Err(ReadlineError::Eof) => return Ok((!text.is_empty()).then_some(text)),
            Err(error) => return Err(error).context("reading the terminal"),
        };
        let marks = line.matches("\"\"\"").count();
        quoted ^= marks % 2 == 1;
        let (line, goes_on) = match line.strip_suffix('\\') {
            Some(line) if !quoted => (line.to_owned(), true),
            _ => (line.replace("\"\"\"", ""), false),
        };
        text.push_str(&line);
        if !quoted && !goes_on {
            let text = text.trim_matches('\n').to_owned();
            if interactive && !text.is_empty() {
                editor.add_history_entry(text.as_str()).context("keeping the history")?;
            }
            return Ok(Some(text));
        }
        text.push('\n');
    }
}
