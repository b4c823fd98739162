//! `wootz run`: continue a text.

use std::io::{IsTerminal, Read, Write};

use anyhow::{Context, bail};
use serde_json::json;
use wootz_text::{FinishReason, GenerateEvent, Message, Search, TokenEvent, Usage};

use super::{Ids, parse_ids, print_json};
use crate::adapters::AdapterArgs;
use crate::model_choice::ModelChoice;
use crate::sampling_args::SamplingArgs;
use crate::session::{RunningArgs, Session, Timing};

/// Continue a text
///
/// With one argument it is the text, continued by the small model inside this program. The text is taken as it
/// stands; --chat puts it into the model's chat template.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  wootz run \"Once upon a time\"
  wootz run models/llama \"Once upon a time\" --max-tokens 50 --temperature 0
  wootz run --chat \"Tell me a story about a dog.\"
  wootz run models/llama \"Once upon a time\" --adapter adapters/pirate=0.8
  wootz run models/llama --ids 5,6,7 --json
  echo \"Once upon a time\" | wootz run -m models/llama")]
pub(crate) struct RunArgs {
    /// Model and text, or the text alone
    #[arg(value_name = "[MODEL] TEXT", num_args = 0..=2)]
    words: Vec<String>,
    /// Model: a path, a name in the home, hf:org/name
    #[arg(long, short)]
    model: Option<String>,
    /// Token ids in place of a text; nothing is added to them
    #[arg(long, value_parser = parse_ids)]
    ids: Option<Ids>,
    /// Put the text into the chat template, as the user's message
    #[arg(long)]
    chat: bool,
    /// System message before it
    #[arg(long, requires = "chat")]
    system: Option<String>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    running: RunningArgs,
    #[command(flatten)]
    adapters: AdapterArgs,
}

impl RunArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (model, text) = self.split()?;
        let choice = ModelChoice::find(model.as_deref())?;
        let sampling = self.sampling.sampling()?;
        let n_sequences = match sampling.search {
            Search::Sample => sampling.n,
            Search::Beam(beam) => 2 * beam.num_beams,
            Search::Contrastive(search) => search.top_k + 1,
        };
        let mut session = Session::open(&choice, &self.running, &self.adapters, n_sequences)?;
        let token_ids = match &self.ids {
            Some(Ids(ids)) => ids.clone(),
            None => self.encode(&session, &text)?,
        };
        let mut answers = Answers::new(sampling.n, !self.json);
        let timing = session.generate(token_ids, sampling, |event| answers.take(event))?;
        if self.json {
            return print_json(&answers.json(&session, &timing));
        }
        println!();
        if std::io::stderr().is_terminal() {
            eprintln!("{}", answers.summary(&timing));
        }
        Ok(())
    }

    /// Model and text from the arguments or the standard input.
    fn split(&self) -> anyhow::Result<(Option<String>, String)> {
        let text_of_stdin = || -> anyhow::Result<String> {
            let mut text = String::new();
            if std::io::stdin().is_terminal() {
                bail!("no text to continue\nhint: wootz run \"Once upon a time\"");
            }
            std::io::stdin().read_to_string(&mut text).context("reading the text from standard input")?;
            Ok(text.trim_end_matches('\n').to_owned())
        };
        match (&self.words[..], &self.model, &self.ids) {
            ([model, text], None, None) => Ok((Some(model.clone()), text.clone())),
            ([_, _], ..) => bail!("two texts given\nhint: the model is named once, and --ids is the text"),
            ([model], None, Some(_)) => Ok((Some(model.clone()), String::new())),
            ([], model, Some(_)) => Ok((model.clone(), String::new())),
            ([_], Some(_), Some(_)) => bail!("both a text and --ids given"),
            ([model], None, None) if ModelChoice::exists(model) => {
                Ok((Some(model.clone()), text_of_stdin()?))
            }
            ([text], model, None) => Ok((model.clone(), text.clone())),
            (_, model, None) => Ok((model.clone(), text_of_stdin()?)),
            _ => unreachable!("at most two words are parsed"),
        }
    }

    fn encode(&self, session: &Session, text: &str) -> anyhow::Result<Vec<u32>> {
        let tokenizer = session.words.tokenizer.as_ref();
        let tokenizer = tokenizer.context("the model has no tokenizer\nhint: give token ids with --ids")?;
        if !self.chat {
            let ids = tokenizer.encode(text, true, false);
            anyhow::ensure!(!ids.is_empty(), "the text is empty");
            return Ok(ids);
        }
        let system = self.system.iter().map(Message::system);
        let messages: Vec<Message> = system.chain([Message::user(text)]).collect();
        session.words.encode_chat(&messages, &[]).context("putting the text into the chat template")
    }
}

/// What came back, choice by choice.
struct Answers {
    choices: Vec<Answer>,
    /// Whether text is shown as it comes.
    live: bool,
    usage: Usage,
}

#[derive(Default)]
struct Answer {
    text: String,
    tokens: Vec<TokenEvent>,
    reason: Option<FinishReason>,
}

impl Answers {
    fn new(n: usize, live: bool) -> Self {
        Self { choices: (0..n).map(|_| Answer::default()).collect(), live, usage: Usage::default() }
    }

    fn take(&mut self, event: &GenerateEvent) -> bool {
        match event {
            GenerateEvent::Token(token) => {
                // Several answers cannot be shown as they come: they would run into each other.
                if self.live && self.choices.len() == 1 {
                    print!("{}", token.text);
                    if std::io::stdout().flush().is_err() {
                        return false;
                    }
                }
                let answer = &mut self.choices[token.choice];
                answer.text.push_str(&token.text);
                answer.tokens.push(token.clone());
            }
            GenerateEvent::Finished { choice, reason } => {
                self.choices[*choice].reason = Some(*reason);
                if self.live && self.choices.len() > 1 {
                    println!("── {} ──\n{}", choice + 1, self.choices[*choice].text);
                }
            }
            GenerateEvent::Usage(usage) => self.usage = *usage,
            GenerateEvent::Error(_) => {}
        }
        true
    }

    fn json(&self, session: &Session, timing: &Timing) -> serde_json::Value {
        let choices: Vec<_> = self.choices.iter().map(Answer::json).collect();
        let mut value = choices[0].clone();
        let (prefill, decode) = self.rates(timing);
        value["usage"] = json!({
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
        });
        value["timings"] = json!({
            "load_ms": session.load_time.as_secs_f64() * 1e3,
            "prefill_tok_per_s": prefill,
            "decode_tok_per_s": decode,
        });
        if choices.len() > 1 {
            value["choices"] = choices.into();
        }
        value
    }

    /// Tokens a second of the prompt, and of the answer after its first token.
    fn rates(&self, timing: &Timing) -> (f64, f64) {
        let rate = |n: usize, seconds: f64| if n == 0 || seconds <= 0.0 { 0.0 } else { n as f64 / seconds };
        let decoded = self.usage.completion_tokens.saturating_sub(self.choices.len());
        (
            rate(self.usage.prompt_tokens, timing.prefill.as_secs_f64()),
            rate(decoded, timing.decode.as_secs_f64()),
        )
    }

    fn summary(&self, timing: &Timing) -> String {
        let (prefill, decode) = self.rates(timing);
        let Usage { prompt_tokens, completion_tokens, .. } = self.usage;
        format!(
            "{prompt_tokens} tokens in ({prefill:.0} a second), {completion_tokens} tokens out ({decode:.0} a second)"
        )
    }
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        let ids: Vec<u32> = self.tokens.iter().filter_map(|token| token.id).collect();
        let mut value = json!({
            "text": self.text,
            "token_ids": ids,
            "finish_reason": self.reason.map(FinishReason::as_str),
        });
        if self.tokens.iter().any(|token| token.logprob.is_some()) {
            let one = |token: &TokenEvent| {
                let top: Vec<_> = token
                    .top
                    .iter()
                    .map(|other| json!({"id": other.id, "text": other.text, "logprob": other.logprob}))
                    .collect();
                json!({"id": token.id, "logprob": token.logprob, "top": top})
            };
            value["logprobs"] = self.tokens.iter().filter(|t| t.id.is_some()).map(one).collect();
        }
        value
    }
}
