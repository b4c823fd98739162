//! `POST /v1/chat/completions`, the request.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use wootz_text::TokenId;

use super::message::{WireMessage, WireTool};
use super::sampling::{Guides, OneOrMany, ResponseFormat, Settings, WireContextFull};
use crate::answer::{ToolChoice, Turn};
use crate::api_error::{ApiError, ApiResult};
use crate::fields::{FieldTable, WireRequest, refused};
use crate::limits::Limits;

/// The body.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    pub model: String,
    messages: Vec<WireMessage>,
    #[serde(default)]
    pub stream: bool,
    #[serde(default)]
    pub stream_options: StreamOptions,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    min_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    n: Option<usize>,
    stop: Option<OneOrMany>,
    seed: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    #[serde(default)]
    logprobs: bool,
    top_logprobs: Option<usize>,
    #[serde(default)]
    tools: Vec<WireTool>,
    tool_choice: Option<WireToolChoice>,
    parallel_tool_calls: Option<bool>,
    response_format: Option<ResponseFormat>,
    reasoning_effort: Option<String>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    repetition_penalty: Option<f32>,
    ignore_eos: Option<bool>,
    context_full: Option<WireContextFull>,
    #[serde(default)]
    pub answer_token_ids: Vec<TokenId>,
    #[serde(default)]
    chat_template_kwargs: Map<String, Value>,
    guided_json: Option<Value>,
    guided_regex: Option<String>,
    guided_choice: Option<Vec<String>>,
    guided_grammar: Option<String>,
    grammar: Option<String>,
    speculation: Option<bool>,
    #[serde(default)]
    continue_final_message: bool,
    add_generation_prompt: Option<bool>,
}

impl WireRequest for ChatRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /v1/chat/completions",
        honoured: &[
            "model",
            "messages",
            "stream",
            "stream_options",
            "max_tokens",
            "max_completion_tokens",
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
            "top_logprobs",
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "response_format",
            "reasoning_effort",
            "top_k",
            "min_p",
            "typical_p",
            "repetition_penalty",
            "ignore_eos",
            "context_full",
            "answer_token_ids",
            "chat_template_kwargs",
            "guided_json",
            "guided_regex",
            "guided_choice",
            "guided_grammar",
            "grammar",
            "speculation",
            "continue_final_message",
            "add_generation_prompt",
        ],
        no_effect: NO_EFFECT,
        refused: &[
            refused("store", &["false"], "answers are not stored"),
            refused("audio", &[], "models here write text"),
            refused("modalities", &["[\"text\"]"], "models here write text"),
            refused("prediction", &[], "predicted output is not supported"),
            refused("web_search_options", &[], "there is no web search"),
            refused("functions", &["[]"], "replaced by `tools`"),
            refused("function_call", &["\"none\"", "\"auto\""], "replaced by `tool_choice`"),
            refused("moderation", &[], "there is no moderation"),
        ],
    };
}

/// Fields about the caller, the bill or somebody else's machines.
pub(crate) const NO_EFFECT: &[&str] = &[
    "user",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "verbosity",
];

/// `stream_options`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamOptions {
    #[serde(default)]
    pub include_usage: bool,
    /// Padding against eavesdroppers; there is none.
    #[serde(default, rename = "include_obfuscation")]
    _include_obfuscation: bool,
}

/// `tool_choice`
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WireToolChoice {
    Word(String),
    Named(NamedTool),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedTool {
    #[serde(rename = "type")]
    kind: String,
    function: NamedFunction,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedFunction {
    name: String,
}

impl WireToolChoice {
    fn validate(self) -> ApiResult<ToolChoice> {
        match self {
            Self::Word(word) => match word.as_str() {
                "auto" => Ok(ToolChoice::Auto),
                "none" => Ok(ToolChoice::None),
                "required" | "any" => Ok(ToolChoice::Required),
                _ => {
                    Err(ApiError::invalid("tool_choice", "expected `auto`, `none`, `required` or a function"))
                }
            },
            Self::Named(named) if named.kind == "function" => Ok(ToolChoice::Named(named.function.name)),
            Self::Named(_) => Err(ApiError::unsupported("tool_choice.type", "expected `function`")),
        }
    }
}

impl ChatRequest {
    /// The turn to answer.
    pub(crate) fn validate(self, limits: &Limits) -> ApiResult<Turn> {
        self.check(limits)?;
        let tool_choice = self.tool_choice.map(WireToolChoice::validate).transpose()?.unwrap_or_default();
        let tool = |(i, tool): (usize, WireTool)| tool.validate(&format!("tools[{i}]"));
        let message = |(i, message): (usize, WireMessage)| message.validate(&format!("messages[{i}]"));
        let mut variables = self.chat_template_kwargs;
        if let Some(effort) = self.reasoning_effort {
            variables.entry("reasoning_effort").or_insert(effort.into());
        }
        let guides = Guides {
            json: self.guided_json,
            regex: self.guided_regex,
            choice: self.guided_choice,
            lark: self.guided_grammar,
            gbnf: self.grammar,
        };
        let settings = Settings {
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
            min_tokens: self.min_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            n: self.n,
            stop: self.stop,
            seed: self.seed,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias,
            logprobs: self.logprobs.then(|| self.top_logprobs.unwrap_or(0)),
            top_k: self.top_k,
            min_p: self.min_p,
            typical_p: self.typical_p,
            repetition_penalty: self.repetition_penalty,
            ignore_eos: self.ignore_eos,
            context_full: self.context_full,
            constraint: guides.constraint(self.response_format)?,
            speculation: self.speculation,
        };
        Ok(Turn {
            continues: self.continue_final_message,
            messages: self.messages.into_iter().enumerate().map(message).collect::<ApiResult<_>>()?,
            tools: self.tools.into_iter().enumerate().map(tool).collect::<ApiResult<_>>()?,
            tool_choice,
            single_call: self.parallel_tool_calls == Some(false),
            variables,
            sampling: settings.validate()?,
        })
    }

    /// What fields say together.
    fn check(&self, limits: &Limits) -> ApiResult<()> {
        let n_messages = self.messages.len();
        if n_messages == 0 || n_messages > limits.texts {
            let message = format!("expected 1 to {} messages, got {n_messages}", limits.texts);
            return Err(ApiError::invalid("messages", message));
        }
        if self.tools.len() > limits.texts {
            return Err(ApiError::invalid("tools", format!("expected at most {} tools", limits.texts)));
        }
        if self.top_logprobs.is_some() && !self.logprobs {
            return Err(ApiError::invalid("top_logprobs", "expected `logprobs` true beside it"));
        }
        // vLLM's two switches; a turn is either opened or continued.
        if self.add_generation_prompt.is_some_and(|opens| opens == self.continue_final_message) {
            let message = "expected the opposite of `continue_final_message`";
            return Err(ApiError::invalid("add_generation_prompt", message));
        }
        if self.continue_final_message && !self.messages.last().is_some_and(WireMessage::is_assistant) {
            let message = "expected the last of `messages` to be the assistant's";
            return Err(ApiError::invalid("continue_final_message", message));
        }
        if self.max_tokens.is_some() && self.max_completion_tokens.is_some() {
            return Err(ApiError::invalid("max_tokens", "expected it or `max_completion_tokens`, got both"));
        }
        Ok(())
    }
}
