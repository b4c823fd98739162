//! `wootz data show`: rows as a model would learn from them.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde_json::json;
use wootz_data::{
    Conversation, Encoded, Example, Examples, Rows, Said, Shape, Supervise, Unlearnable, encode_answer,
    encode_chat, encode_text,
};
use wootz_model::Words;
use wootz_text::{ChatInput, ChatTemplate, Message, Role, TokenId, Tokenizer};

use crate::model_choice::ModelChoice;
use crate::output;

/// What is learned: bold green on a terminal, in brackets elsewhere.
const LEARNED: [&str; 2] = ["\x1b[1;32m", "⟦"];
const END: [&str; 2] = ["\x1b[0m", "⟧"];
const REST: [&str; 2] = ["\x1b[2m", ""];

/// Look at training data
#[derive(clap::Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(clap::Subcommand)]
enum DataCommand {
    Show(ShowArgs),
}

/// Show rows with the tokens that would be learned
///
/// Every row is printed as the text that a model would see; what is learned is bold green on a terminal and in ⟦brackets⟧
/// elsewhere. A row that would teach nothing, or no end of a turn, is an error.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  wootz data show chat.jsonl.zst                          the first rows, for the model inside this program
  wootz data show rows.jsonl --model models/llama -n 20 --learn last
  wootz data show rows.jsonl --tokens -n 1                one token a line")]
struct ShowArgs {
    /// Files: .jsonl, .json, .csv, .txt, also packed (.gz, .zst)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Whose tokenizer and template: a model, or a folder with a tokenizer; the built-in model without it
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,
    /// What rows look like; without it, their fields tell
    #[arg(long, value_parser = shape_of, value_name = "SHAPE")]
    shape: Option<Shape>,
    /// Which turns are learned, where a row does not say it
    #[arg(long, value_enum, default_value = "assistant")]
    learn: Learn,
    /// Take prompts and completions as they are, without the chat template
    #[arg(long)]
    plain: bool,
    /// Rows to show
    #[arg(long, short, value_name = "N", default_value_t = 3)]
    n: usize,
    /// Rows to leave out first
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// One token a line: number, whether it is learned (+), text
    #[arg(long)]
    tokens: bool,
    /// One JSON object a row
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Learn {
    /// All that the assistant says
    Assistant,
    /// The assistant's last turn
    Last,
    /// What everybody says
    All,
}

impl DataArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            DataCommand::Show(args) => args.run(),
        }
    }
}

fn shape_of(name: &str) -> Result<Shape, String> {
    let found = Shape::NAMES.iter().find(|shape| shape.0 == name);
    let names = || Shape::NAMES.map(|shape| shape.0).join(", ");
    found.map(|shape| shape.1).ok_or_else(|| format!("expected one of {}", names()))
}

/// Whose eyes a row is seen with.
struct Reader {
    tokenizer: Arc<Tokenizer>,
    template: Option<Arc<ChatTemplate>>,
    supervise: Supervise,
}

/// A part of an example, by name: a preference has two.
type Parts = Vec<(&'static str, Result<Encoded, Unlearnable>)>;

impl ShowArgs {
    fn run(self) -> anyhow::Result<()> {
        let reader = self.reader()?;
        let rows = Rows::open(&self.files)?;
        let (mut n_shown, mut n_wrong) = (0, 0);
        for found in Examples::new(rows, self.shape).skip(self.skip).take(self.n) {
            let (row, example) = found?;
            n_shown += 1;
            let shape = self.shape.or_else(|| Shape::of(&row.fields));
            let shape = Shape::NAMES.iter().find(|named| Some(named.1) == shape).map_or("", |named| named.0);
            let place = format!("{}, line {}", row.place.path.display(), row.place.line);
            for (part, encoded) in reader.encode(&example)? {
                n_wrong += usize::from(encoded.is_err());
                self.print(&reader.tokenizer, &place, &format!("{shape}{part}"), encoded)?;
            }
        }
        match (n_shown, n_wrong) {
            (0, _) => bail!("no rows to show"),
            (_, 0) => Ok(()),
            (_, n) => bail!("{n} of the {n_shown} rows shown cannot be learned from"),
        }
    }

    fn reader(&self) -> anyhow::Result<Reader> {
        let (tokenizer, template) = self.words()?;
        let (roles, last_only) = match self.learn {
            Learn::Assistant => (vec![Role::Assistant], false),
            Learn::Last => (vec![Role::Assistant], true),
            Learn::All => {
                (vec![Role::System, Role::Developer, Role::User, Role::Assistant, Role::Tool], false)
            }
        };
        let template = template.filter(|_| !self.plain);
        Ok(Reader { tokenizer, template, supervise: Supervise { roles, last_only } })
    }

    fn words(&self) -> anyhow::Result<(Arc<Tokenizer>, Option<Arc<ChatTemplate>>)> {
        if let Some(folder) = self.model.as_deref().map(Path::new)
            && folder.join("tokenizer.json").exists()
            && !folder.join("config.json").exists()
        {
            let tokenizer = Tokenizer::from_dir(folder)?;
            return Ok((Arc::new(tokenizer), ChatTemplate::from_dir(folder)?.map(Arc::new)));
        }
        let model = ModelChoice::find(self.model.as_deref())?.open()?;
        let words = Words::of(&model).context("reading the tokenizer")?;
        Ok((words.tokenizer.context("the model has no tokenizer")?, words.template))
    }

    fn print(
        &self,
        tokenizer: &Tokenizer,
        place: &str,
        shape: &str,
        encoded: Result<Encoded, Unlearnable>,
    ) -> anyhow::Result<()> {
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(why) if self.json => {
                return super::print_json(&json!({"place": place, "shape": shape, "error": why.to_string()}));
            }
            Err(why) => {
                eprintln!("{place} ({shape}): {why}");
                return Ok(());
            }
        };
        if self.json {
            return super::print_json(&json!({
                "place": place, "shape": shape, "ids": encoded.token_ids, "supervised": encoded.supervised,
            }));
        }
        let (n_tokens, n_supervised) = (encoded.token_ids.len(), encoded.n_supervised());
        output::print(&format!("── {place}: {shape}, {n_tokens} tokens, {n_supervised} learned"))?;
        let tokens = encoded.token_ids.iter().zip(&encoded.supervised);
        if self.tokens {
            for (&id, &is_learned) in tokens {
                let mark = if is_learned { '+' } else { ' ' };
                let text = tokenizer.token_text(id).unwrap_or_default();
                output::print(&format!("{id:>7} {mark} {text}"))?;
            }
            return Ok(());
        }
        output::print(&marked(tokenizer, &encoded, !std::io::stdout().is_terminal()))
    }
}

/// The text, what is learned set apart.
fn marked(tokenizer: &Tokenizer, encoded: &Encoded, plain: bool) -> String {
    let look = usize::from(plain);
    let mut text = String::new();
    let mut rest = 0;
    while rest < encoded.token_ids.len() {
        let is_learned = encoded.supervised[rest];
        let n = encoded.supervised[rest..].iter().take_while(|is| **is == is_learned).count();
        let ids: &[TokenId] = &encoded.token_ids[rest..rest + n];
        let words = String::from_utf8_lossy(&tokenizer.decode_bytes(ids, false)).into_owned();
        let (begin, end) = if is_learned { (LEARNED[look], END[look]) } else { (REST[look], END[0]) };
        text.push_str(begin);
        text.push_str(&words);
        if is_learned || !plain {
            text.push_str(end);
        }
        rest += n;
    }
    text
}

impl Reader {
    fn encode(&self, example: &Example) -> anyhow::Result<Parts> {
        let template = self.template.as_deref();
        let answer = |prompt: &Said, said: &Said| encode_answer(&self.tokenizer, template, prompt, said);
        Ok(match example {
            Example::Text(text) => vec![("", encode_text(&self.tokenizer, text))],
            Example::Chat(conversation) => vec![("", self.chat(conversation)?)],
            Example::Completion { prompt, completion } => vec![("", answer(prompt, completion))],
            Example::Preference { prompt, chosen, rejected } => {
                vec![(" (chosen)", answer(prompt, chosen)), (" (rejected)", answer(prompt, rejected))]
            }
            Example::Label { prompt, completion, is_good } => {
                vec![(if *is_good { " (good)" } else { " (bad)" }, answer(prompt, completion))]
            }
            Example::Prompt { prompt, .. } => vec![("", Ok(self.prompt(prompt)?))],
        })
    }

    fn chat(&self, conversation: &Conversation) -> anyhow::Result<Result<Encoded, Unlearnable>> {
        let template =
            self.template.as_deref().context("the rows are conversations, and there is no chat template")?;
        Ok(encode_chat(&self.tokenizer, template, conversation, &self.supervise))
    }

    /// A prompt teaches nothing by itself; it is shown as it would be asked.
    fn prompt(&self, prompt: &Said) -> anyhow::Result<Encoded> {
        let token_ids = match (prompt, self.template.as_deref()) {
            (Said::Text(text), None) => self.tokenizer.encode(text, true, false),
            (said, Some(template)) => {
                let messages = match said {
                    Said::Text(text) => vec![Message::user(text.clone())],
                    Said::Turns(messages) => messages.clone(),
                };
                let input = ChatInput {
                    messages: &messages,
                    tools: &[],
                    documents: &[],
                    add_generation_prompt: true,
                    variables: serde_json::Map::new(),
                    template: None,
                    now: None,
                };
                self.tokenizer.encode(&template.render(&input)?.text, false, true)
            }
            (Said::Turns(_), None) => bail!("the prompts are conversations, and there is no chat template"),
        };
        let supervised = vec![false; token_ids.len()];
        Ok(Encoded { token_ids, supervised })
    }
}
