//! `POST /v1/completions`

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wootz_text::{FinishReason, Prompt, Sampling, TokenEvent};

use super::chat::{NO_EFFECT, StreamOptions};
use super::chat_answer::WireUsage;
use super::sampling::{Guides, OneOrMany, ResponseFormat, Settings, WireContextFull};
use super::token::spelled;
use crate::api_error::{ApiError, ApiResult};
use crate::catalog::ServedModel;
use crate::fields::{FieldTable, WireRequest, refused};
use crate::limits::Limits;

/// The body.
#[derive(Debug, Deserialize)]
pub(crate) struct CompletionRequest {
    pub model: String,
    prompt: WirePrompt,
    #[serde(default)]
    pub stream: bool,
    #[serde(default)]
    pub stream_options: StreamOptions,
    #[serde(default)]
    echo: bool,
    suffix: Option<String>,
    best_of: Option<usize>,
    max_tokens: Option<usize>,
    min_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    n: Option<usize>,
    stop: Option<OneOrMany>,
    seed: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    logprobs: Option<usize>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    repetition_penalty: Option<f32>,
    ignore_eos: Option<bool>,
    context_full: Option<WireContextFull>,
    response_format: Option<ResponseFormat>,
    guided_json: Option<Value>,
    guided_regex: Option<String>,
    guided_choice: Option<Vec<String>>,
    guided_grammar: Option<String>,
    grammar: Option<String>,
    speculation: Option<bool>,
}

/// One prompt or several, as text or token ids.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WirePrompt {
    Texts(OneOrMany),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

impl WireRequest for CompletionRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /v1/completions",
        honoured: &[
            "model",
            "prompt",
            "stream",
            "stream_options",
            "echo",
            "suffix",
            "best_of",
            "max_tokens",
            "min_tokens",
            "temperature",
            "top_p",
            "n",
            "stop",
            "seed",
            "presence_penalty",
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "top_k",
            "min_p",
            "typical_p",
            "repetition_penalty",
            "ignore_eos",
            "context_full",
            "response_format",
            "guided_json",
            "guided_regex",
            "guided_choice",
            "guided_grammar",
            "grammar",
            "speculation",
        ],
        no_effect: NO_EFFECT,
        refused: &[refused("store", &["false"], "answers are not stored")],
    };
}

/// What to complete.
pub(crate) struct CompletionCall {
    pub prompts: Vec<Prompt>,
    pub suffix: Option<String>,
    pub echo: bool,
    /// No new tokens at all, only the prompt's.
    pub is_silent: bool,
    pub sampling: Sampling,
}

/// OpenAI's default for this address.
const DEFAULT_MAX_TOKENS: usize = 16;

impl CompletionRequest {
    pub(crate) fn validate(self, limits: &Limits) -> ApiResult<CompletionCall> {
        let prompts: Vec<Prompt> = match self.prompt {
            WirePrompt::Texts(texts) => texts.into_vec().into_iter().map(Prompt::Text).collect(),
            WirePrompt::Tokens(ids) => vec![Prompt::TokenIds(ids)],
            WirePrompt::ManyTokens(lists) => lists.into_iter().map(Prompt::TokenIds).collect(),
        };
        let n_prompts = prompts.len();
        if n_prompts == 0 || n_prompts > limits.texts {
            let message = format!("expected 1 to {} prompts, got {n_prompts}", limits.texts);
            return Err(ApiError::invalid("prompt", message));
        }
        let n = self.n.unwrap_or(1);
        if self.best_of.is_some_and(|best_of| best_of != n) {
            return Err(ApiError::unsupported(
                "best_of",
                "expected the same as `n`: answers are not ranked here",
            ));
        }
        let is_silent = self.max_tokens == Some(0);
        if is_silent && !self.echo {
            return Err(ApiError::invalid("max_tokens", "expected at least 1 without `echo`, got 0"));
        }
        if self.echo && self.suffix.is_some() {
            return Err(ApiError::invalid("suffix", "expected `echo` false beside it"));
        }
        if self.echo && self.stream && self.logprobs.is_some() {
            return Err(ApiError::unsupported("echo", "not supported with both `stream` and `logprobs`"));
        }
        let guides = Guides {
            json: self.guided_json,
            regex: self.guided_regex,
            choice: self.guided_choice,
            lark: self.guided_grammar,
            gbnf: self.grammar,
        };
        let settings = Settings {
            max_tokens: Some(self.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS).max(1)),
            min_tokens: self.min_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            n: self.n,
            stop: self.stop,
            seed: self.seed,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias,
            logprobs: self.logprobs,
            top_k: self.top_k,
            min_p: self.min_p,
            typical_p: self.typical_p,
            repetition_penalty: self.repetition_penalty,
            ignore_eos: self.ignore_eos,
            context_full: self.context_full,
            constraint: guides.constraint(self.response_format)?,
            speculation: self.speculation,
        };
        let sampling = settings.validate()?;
        let suffix = self.suffix.filter(|suffix| !suffix.is_empty());
        Ok(CompletionCall { prompts, suffix, echo: self.echo, is_silent, sampling })
    }
}

/// `text_completion`, whole or a chunk of a stream.
#[derive(Debug, Serialize)]
pub(crate) struct Completion {
    pub id: String,
    pub object: &'static str,
    pub created: u64,
    pub model: String,
    pub system_fingerprint: &'static str,
    pub choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<WireUsage>,
}

/// One of its choices.
#[derive(Debug, Serialize)]
pub(crate) struct CompletionChoice {
    pub index: usize,
    pub text: String,
    pub logprobs: Option<TextLogprobs>,
    pub finish_reason: Option<&'static str>,
}

impl CompletionChoice {
    pub(crate) fn ended(reason: FinishReason) -> Option<&'static str> {
        Some(reason.as_str())
    }
}

/// The older shape of log-probabilities: lists side by side.
#[derive(Debug, Default, Serialize)]
pub(crate) struct TextLogprobs {
    pub tokens: Vec<String>,
    pub token_logprobs: Vec<Option<f32>>,
    pub top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    pub text_offset: Vec<usize>,
}

impl TextLogprobs {
    /// Adds a token; `offset` is where its text begins, in characters.
    pub(crate) fn push(&mut self, model: &ServedModel, token: &TokenEvent, offset: usize) {
        let (Some(id), Some(logprob)) = (token.id, token.logprob) else { return };
        self.tokens.push(spelled(model, Some(id), &token.text).0);
        self.token_logprobs.push(Some(logprob.max(-9999.0)));
        let top = token.top.iter().map(|top| (spelled(model, top.id, &top.text).0, top.logprob.max(-9999.0)));
        self.top_logprobs.push(Some(top.collect()));
        self.text_offset.push(offset);
    }

    /// Adds a token of the prompt.
    pub(crate) fn push_prompt(&mut self, token: String, logprob: Option<f32>, offset: usize) {
        self.tokens.push(token);
        self.token_logprobs.push(logprob.map(|logprob| logprob.max(-9999.0)));
        self.top_logprobs.push(None);
        self.text_offset.push(offset);
    }
}
