//! `POST /v1/chat/completions`, the answer: whole, or in chunks.

use serde::Serialize;
use wootz_text::{FinishReason, Reply, ReplyDelta, TokenEvent, TokenId, Usage};

use super::token::spelled;
use crate::answer::{Answer, AnswerChoice};
use crate::app::{Shared, now_s};
use crate::catalog::ServedModel;

/// What all answers of a request have in common.
pub(crate) struct Frame<'a> {
    pub id: String,
    pub created: u64,
    pub model: &'a ServedModel,
}

impl<'a> Frame<'a> {
    pub(crate) fn new(app: &Shared, model: &'a ServedModel) -> Self {
        Self { id: app.new_id("chatcmpl-"), created: now_s(), model }
    }
}

/// `chat.completion`
#[derive(Debug, Serialize)]
pub(crate) struct ChatCompletion {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    system_fingerprint: &'static str,
    choices: Vec<ChatChoice>,
    usage: WireUsage,
}

/// Which program answered.
pub(crate) const FINGERPRINT: &str = concat!("wootz-", env!("CARGO_PKG_VERSION"));

#[derive(Debug, Serialize)]
struct ChatChoice {
    index: usize,
    message: AnswerMessage,
    logprobs: Option<Logprobs>,
    finish_reason: &'static str,
}

#[derive(Debug, Serialize)]
struct AnswerMessage {
    role: &'static str,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<AnswerCall>,
}

#[derive(Debug, Serialize)]
struct AnswerCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: AnswerFunction,
}

#[derive(Debug, Serialize)]
struct AnswerFunction {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arguments: String,
}

/// `usage`
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct WireUsage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct PromptDetails {
    cached_tokens: usize,
}

impl From<Usage> for WireUsage {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached_tokens },
        }
    }
}

/// `logprobs`
#[derive(Debug, Serialize)]
struct Logprobs {
    content: Vec<TokenLogprobs>,
    refusal: Option<()>,
}

#[derive(Debug, Serialize)]
struct TokenLogprobs {
    #[serde(flatten)]
    token: OneLogprob,
    top_logprobs: Vec<OneLogprob>,
}

#[derive(Debug, Serialize)]
struct OneLogprob {
    /// As llama.cpp's server has it: two tokens may be spelled alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<TokenId>,
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl Logprobs {
    fn of<'a>(model: &ServedModel, tokens: impl IntoIterator<Item = &'a TokenEvent>) -> Self {
        Self {
            content: tokens.into_iter().filter_map(|token| TokenLogprobs::of(model, token)).collect(),
            refusal: None,
        }
    }
}

impl TokenLogprobs {
    /// `None` for the last piece of text, which is no token.
    fn of(model: &ServedModel, token: &TokenEvent) -> Option<Self> {
        let one = |id: Option<TokenId>, text: &str, logprob: f32| {
            let (token, bytes) = spelled(model, id, text);
            // JSON knows no infinity; OpenAI writes -9999.
            OneLogprob { id, token, logprob: logprob.max(-9999.0), bytes }
        };
        let id = token.id?;
        let top = token.top.iter().map(|top| one(top.id, &top.text, top.logprob)).collect();
        Some(Self { token: one(Some(id), &token.text, token.logprob?), top_logprobs: top })
    }
}

impl ChatCompletion {
    pub(crate) fn new(app: &Shared, frame: Frame, answer: Answer) -> Self {
        let choice = |(index, choice): (usize, AnswerChoice)| {
            let wants_logprobs = choice.tokens.iter().any(|token| token.logprob.is_some());
            ChatChoice {
                index,
                finish_reason: choice.reason.as_str(),
                logprobs: wants_logprobs.then(|| Logprobs::of(frame.model, &choice.tokens)),
                message: AnswerMessage::new(app, choice.reply),
            }
        };
        Self {
            choices: answer.choices.into_iter().enumerate().map(choice).collect(),
            id: frame.id,
            object: "chat.completion",
            created: frame.created,
            model: frame.model.card.name.clone(),
            system_fingerprint: FINGERPRINT,
            usage: answer.usage.into(),
        }
    }
}

impl AnswerMessage {
    fn new(app: &Shared, reply: Reply) -> Self {
        let call = |call: wootz_text::ReplyCall| AnswerCall {
            index: None,
            id: Some(call.id.unwrap_or_else(|| app.new_id("call_"))),
            kind: Some("function"),
            function: AnswerFunction { name: Some(call.name), arguments: call.arguments },
        };
        let is_silent = reply.text.is_empty() && !reply.calls.is_empty();
        Self {
            role: "assistant",
            content: (!is_silent).then_some(reply.text),
            refusal: None,
            reasoning_content: (!reply.reasoning.is_empty()).then_some(reply.reasoning),
            tool_calls: reply.calls.into_iter().map(call).collect(),
        }
    }
}

/// `chat.completion.chunk`
#[derive(Debug, Serialize)]
pub(crate) struct ChatChunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: Vec<ChunkChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<WireUsage>,
}

#[derive(Debug, Serialize)]
struct ChunkChoice {
    index: usize,
    delta: Delta,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<AnswerCall>,
}

/// Makes chunks; it counts the calls of each choice.
pub(crate) struct Chunker<'a> {
    frame: Frame<'a>,
    n_calls: Vec<usize>,
}

impl<'a> Chunker<'a> {
    pub(crate) fn new(frame: Frame<'a>, n_choices: usize) -> Self {
        Self { frame, n_calls: vec![0; n_choices] }
    }

    fn chunk(&self, choices: Vec<ChunkChoice>, usage: Option<WireUsage>) -> ChatChunk<'_> {
        ChatChunk {
            id: &self.frame.id,
            object: "chat.completion.chunk",
            created: self.frame.created,
            model: &self.frame.model.card.name,
            system_fingerprint: FINGERPRINT,
            choices,
            usage,
        }
    }

    /// The first chunk of a choice: who speaks.
    pub(crate) fn begin(&self, choice: usize) -> ChatChunk<'_> {
        let delta = Delta { role: Some("assistant"), content: Some(String::new()), ..Delta::default() };
        self.chunk(vec![ChunkChoice { index: choice, delta, logprobs: None, finish_reason: None }], None)
    }

    /// More of a choice; `None` if there is nothing to tell.
    pub(crate) fn more(
        &mut self,
        app: &Shared,
        choice: usize,
        deltas: Vec<ReplyDelta>,
        token: Option<TokenEvent>,
    ) -> Option<ChatChunk<'_>> {
        let logprobs = token.map(|token| Logprobs::of(self.frame.model, [&token]));
        if deltas.is_empty() && logprobs.is_none() {
            return None;
        }
        let mut delta = Delta::default();
        for piece in deltas {
            self.add(app, choice, &mut delta, piece);
        }
        Some(self.chunk(vec![ChunkChoice { index: choice, delta, logprobs, finish_reason: None }], None))
    }

    fn add(&mut self, app: &Shared, choice: usize, delta: &mut Delta, piece: ReplyDelta) {
        match piece {
            ReplyDelta::Text(text) => delta.content.get_or_insert_default().push_str(&text),
            ReplyDelta::Reasoning(text) => delta.reasoning_content.get_or_insert_default().push_str(&text),
            ReplyDelta::Call { id, name } => {
                let index = self.n_calls[choice];
                self.n_calls[choice] += 1;
                delta.tool_calls.push(AnswerCall {
                    index: Some(index),
                    id: Some(id.unwrap_or_else(|| app.new_id("call_"))),
                    kind: Some("function"),
                    function: AnswerFunction { name: Some(name), arguments: String::new() },
                });
            }
            ReplyDelta::Arguments(json) => {
                let index = Some(self.n_calls[choice] - 1);
                match delta.tool_calls.last_mut() {
                    Some(call) => call.function.arguments.push_str(&json),
                    None => delta.tool_calls.push(AnswerCall {
                        index,
                        id: None,
                        kind: None,
                        function: AnswerFunction { name: None, arguments: json },
                    }),
                }
            }
        }
    }

    /// The end of a choice.
    pub(crate) fn end(&self, choice: usize, reason: FinishReason) -> ChatChunk<'_> {
        let finish_reason = Some(reason.as_str());
        self.chunk(
            vec![ChunkChoice { index: choice, delta: Delta::default(), logprobs: None, finish_reason }],
            None,
        )
    }

    /// The last chunk.
    pub(crate) fn usage(&self, usage: Usage) -> ChatChunk<'_> {
        self.chunk(Vec::new(), Some(usage.into()))
    }
}
