//! Asking a model for text: the request, the events that come back, and the trait.
//!
//! Where:  implemented by `wootz-engine`, `wootz-remote` and `wootz-testkit`; used by everything that talks to a model.
//! Idea:   `generate` returns at once and events go to a sink that never blocks; whoever wants to wait calls [`collect`].
//! Elsewhere: how tokens are chosen ([`Sampling`]); streaming over HTTP (`wootz-serve`).
//!
//! # Invariants
//! - Of each choice: any number of [`GenerateEvent::Token`], then exactly one [`GenerateEvent::Finished`].
//! - The last event is [`GenerateEvent::Usage`] when all went well, [`GenerateEvent::Error`] otherwise, and nothing follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use crate::{Message, ModelError, Sampling, TokenId, ToolSpec};

/// A model that continues a prompt.
pub trait Generate: Send + Sync {
    /// Starts a generation and returns at once; events arrive at `sink`, from any thread, in order.
    ///
    /// The sink must not block: it hands events on (a channel, a buffer) and returns. Dropping the handle cancels; events
    /// that were under way may still arrive, the last one being [`ModelError::Cancelled`].
    ///
    /// # Errors
    /// What can be said without computing: an invalid request, a full queue, something unsupported.
    fn generate(&self, request: GenerateRequest, sink: Sink) -> Result<Handle, ModelError>;
}

/// Where a generation's events go.
pub type Sink = Box<dyn FnMut(GenerateEvent) + Send>;

/// What to continue, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// What to continue.
    pub prompt: Prompt,
    /// How tokens are chosen and when to end.
    pub sampling: Sampling,
    /// Higher ones are served first. Default 0.
    pub priority: i32,
    /// When the answer is of no use any more: it ends with [`ModelError::TimedOut`] then. Of two requests of one priority
    /// the one with the earlier deadline is served first. Default `None`.
    pub deadline: Option<Instant>,
}

impl GenerateRequest {
    /// A request for `prompt` with `sampling`.
    pub fn new(prompt: impl Into<Prompt>, sampling: Sampling) -> Self {
        Self { prompt: prompt.into(), sampling, priority: 0, deadline: None }
    }
}

/// What a model continues.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Text, encoded with the special tokens that the tokenizer adds; spelled special tokens inside are recognised.
    Text(String),
    /// Tokens as they are; nothing is added.
    TokenIds(Vec<TokenId>),
    /// A conversation, rendered by the model's chat template with the assistant's turn opened.
    Chat {
        /// The turns so far.
        messages: Vec<Message>,
        /// Tools the model may call.
        tools: Vec<ToolSpec>,
        /// Further variables of the template (`enable_thinking`).
        variables: serde_json::Map<String, serde_json::Value>,
        /// Whether the last message is continued instead of answered.
        continues: bool,
    },
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<TokenId>> for Prompt {
    fn from(token_ids: Vec<TokenId>) -> Self {
        Self::TokenIds(token_ids)
    }
}

impl From<Vec<Message>> for Prompt {
    fn from(messages: Vec<Message>) -> Self {
        Self::Chat { messages, tools: Vec::new(), variables: serde_json::Map::new(), continues: false }
    }
}

/// What happens during a generation; the order is in the module's invariants.
#[derive(Debug, Clone)]
pub enum GenerateEvent {
    /// One more token of a choice.
    Token(TokenEvent),
    /// A choice is complete.
    Finished {
        /// Which of the `n` choices, from 0.
        choice: usize,
        /// Why it ended.
        reason: FinishReason,
    },
    /// All choices are complete; the last event.
    Usage(Usage),
    /// The generation failed or was cancelled; the last event.
    Error(ModelError),
}

/// One token of one choice.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenEvent {
    /// Which of the `n` choices, from 0.
    pub choice: usize,
    /// The token; `None` where a remote model does not say.
    pub id: Option<TokenId>,
    /// The text that is certain now: empty while a UTF-8 character or a possible stop string is incomplete.
    pub text: String,
    /// Natural logarithm of the token's probability, if asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens at this place, likeliest first, if asked for.
    pub top: Vec<TokenLogprob>,
}

impl TokenEvent {
    /// A token without log-probabilities.
    pub fn new(choice: usize, id: TokenId, text: impl Into<String>) -> Self {
        Self { choice, id: Some(id), text: text.into(), logprob: None, top: Vec::new() }
    }
}

/// An alternative token with its log-probability.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token; `None` where a remote model does not say.
    pub id: Option<TokenId>,
    /// Its text.
    pub text: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// Why a choice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// An end token.
    Stop,
    /// The stop string of that number in [`Sampling::stop`].
    StopString(u8),
    /// `max_tokens` or the end of the context.
    Length,
    /// The model calls tools.
    ToolCalls,
    /// A filter cut it off.
    ContentFilter,
}

impl FinishReason {
    /// As OpenAI's API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop | Self::StopString(_) => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// Tokens counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were in a cache.
    pub cached_tokens: usize,
    /// New tokens of all choices, without end tokens.
    pub completion_tokens: usize,
    /// Tokens that were left out or forgotten because the context was full, as [`Sampling::context_full`] asked.
    pub dropped_tokens: usize,
    /// Tokens that were guessed and run along with others.
    pub guessed_tokens: usize,
    /// Those of them that turned out right.
    pub right_tokens: usize,
}

/// Keeps a generation alive: dropping it cancels.
#[derive(Debug)]
#[must_use = "dropping the handle cancels the generation"]
pub struct Handle {
    cancelled: Option<Arc<AtomicBool>>,
}

impl Handle {
    /// A handle for the caller and its other end for the implementation, which looks at it between tokens.
    pub fn new() -> (Self, Cancelled) {
        let flag = Arc::new(AtomicBool::new(false));
        (Self { cancelled: Some(flag.clone()) }, Cancelled(flag))
    }

    /// Cancels; the same as dropping.
    pub fn cancel(self) {}

    /// Lets the generation run to its end without a handle.
    pub fn detach(mut self) {
        self.cancelled = None;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(flag) = &self.cancelled {
            flag.store(true, Ordering::Release);
        }
    }
}

/// The implementation's end of a [`Handle`].
#[derive(Debug, Clone)]
pub struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    /// Whether the handle was dropped.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Cancels from this end: nobody takes the events any more.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A finished generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// One per `n`.
    pub choices: Vec<Choice>,
    /// Tokens counted.
    pub usage: Usage,
}

impl Generation {
    /// The first choice's text.
    pub fn text(&self) -> &str {
        self.choices.first().map_or("", |choice| &choice.text)
    }
}

/// One finished answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// All text.
    pub text: String,
    /// The tokens as they came, with their log-probabilities if asked for.
    pub tokens: Vec<TokenEvent>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

impl Choice {
    /// The token ids, as far as the model told them.
    pub fn token_ids(&self) -> Vec<TokenId> {
        self.tokens.iter().filter_map(|token| token.id).collect()
    }
}

/// Runs a generation and waits for all of it.
///
/// # Errors
/// What [`Generate::generate`] returns, the error event, or [`ModelError::Failed`] if the events stop before the end.
pub fn collect(model: &dyn Generate, request: GenerateRequest) -> Result<Generation, ModelError> {
    let (sender, events) = mpsc::channel();
    let handle = model.generate(request, Box::new(move |event| drop(sender.send(event))))?;
    let mut drafts: Vec<Draft> = Vec::new();
    for event in events {
        match event {
            GenerateEvent::Token(token) => {
                let draft = draft_at(&mut drafts, token.choice)?;
                draft.text.push_str(&token.text);
                draft.tokens.push(token);
            }
            GenerateEvent::Finished { choice, reason } => {
                draft_at(&mut drafts, choice)?.finish_reason = Some(reason);
            }
            GenerateEvent::Usage(usage) => {
                handle.detach();
                let choices = drafts.into_iter().map(Draft::finished).collect::<Result<_, _>>()?;
                return Ok(Generation { choices, usage });
            }
            GenerateEvent::Error(error) => return Err(error),
        }
    }
    Err(ModelError::failed("the events stopped before the end"))
}

#[derive(Default)]
struct Draft {
    text: String,
    tokens: Vec<TokenEvent>,
    finish_reason: Option<FinishReason>,
}

impl Draft {
    fn finished(self) -> Result<Choice, ModelError> {
        let finish_reason =
            self.finish_reason.ok_or_else(|| ModelError::failed("a choice ended without a reason"))?;
        Ok(Choice { text: self.text, tokens: self.tokens, finish_reason })
    }
}

fn draft_at(drafts: &mut Vec<Draft>, choice: usize) -> Result<&mut Draft, ModelError> {
    if choice >= Sampling::MAX_N {
        return Err(ModelError::failed(format!("choice {choice} is beyond the largest `n`")));
    }
    if drafts.len() <= choice {
        drafts.resize_with(choice + 1, Draft::default);
    }
    Ok(&mut drafts[choice])
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Events(Vec<GenerateEvent>);

    impl Generate for Events {
        fn generate(&self, _request: GenerateRequest, mut sink: Sink) -> Result<Handle, ModelError> {
            self.0.iter().cloned().for_each(&mut sink);
            Ok(Handle::new().0)
        }
    }

    fn run(events: Vec<GenerateEvent>) -> Result<Generation, ModelError> {
        collect(&Events(events), GenerateRequest::new("hi", Sampling::greedy()))
    }

    #[test]
    fn collect_sorts_tokens_by_choice() {
        let token = |choice, id, text| GenerateEvent::Token(TokenEvent::new(choice, id, text));
        let finished = |choice| GenerateEvent::Finished { choice, reason: FinishReason::Stop };
        let usage = Usage { prompt_tokens: 1, completion_tokens: 3, ..Usage::default() };
        let events = vec![
            token(0, 1, "a"),
            token(1, 2, "x"),
            token(0, 3, "b"),
            finished(1),
            finished(0),
            GenerateEvent::Usage(usage),
        ];
        let generation = run(events).unwrap();
        assert_eq!(generation.text(), "ab");
        assert_eq!(generation.choices[0].token_ids(), [1, 3]);
        assert_eq!(generation.choices[1].text, "x");
        assert_eq!(generation.usage, usage);
    }

    #[test]
    fn collect_reports_errors_and_missing_ends() {
        assert!(matches!(run(vec![GenerateEvent::Error(ModelError::Cancelled)]), Err(ModelError::Cancelled)));
        assert!(matches!(run(vec![]), Err(ModelError::Failed(_))));
        let unfinished =
            vec![GenerateEvent::Token(TokenEvent::new(0, 1, "a")), GenerateEvent::Usage(Usage::default())];
        assert!(matches!(run(unfinished), Err(ModelError::Failed(_))));
    }

    #[test]
    fn dropping_a_handle_cancels_and_detaching_does_not() {
        let (handle, cancelled) = Handle::new();
        assert!(!cancelled.get());
        drop(handle);
        assert!(cancelled.get());
        let (handle, cancelled) = Handle::new();
        handle.detach();
        assert!(!cancelled.get());
    }
}
