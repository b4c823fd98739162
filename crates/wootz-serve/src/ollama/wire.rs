//! Ollama's chat and generate requests, and their way into a turn.
//!
//! Where:  read by the handlers beside this file.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use wootz_text::{Constraint, Message, Role, Sampling, ToolCall};

use super::keep_alive::KeepAlive;
use super::options::Options;
use crate::answer::{ToolChoice, Turn};
use crate::api_error::{ApiError, ApiResult};
use crate::fields::{self, FieldTable, WireRequest, refused};
use crate::limits::Limits;
use crate::openai::wire::message::WireTool;
use crate::openai::wire::sampling::any_object;

/// `POST /api/chat`
#[derive(Debug, Deserialize)]
pub(super) struct ChatRequest {
    pub model: String,
    #[serde(default)]
    messages: Vec<WireMessage>,
    #[serde(default)]
    tools: Vec<WireTool>,
    #[serde(default = "yes")]
    pub stream: bool,
    format: Option<Value>,
    #[serde(default)]
    options: Map<String, Value>,
    think: Option<Value>,
    pub keep_alive: Option<KeepAlive>,
}

/// `POST /api/generate`
#[derive(Debug, Deserialize)]
pub(super) struct GenerateRequest {
    pub model: String,
    #[serde(default)]
    prompt: String,
    system: Option<String>,
    #[serde(default)]
    raw: bool,
    #[serde(default = "yes")]
    pub stream: bool,
    format: Option<Value>,
    #[serde(default)]
    options: Map<String, Value>,
    think: Option<Value>,
    pub keep_alive: Option<KeepAlive>,
}

fn yes() -> bool {
    true
}

impl WireRequest for ChatRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /api/chat",
        honoured: &["model", "messages", "tools", "stream", "format", "options", "think", "keep_alive"],
        no_effect: &[],
        refused: &[
            refused("logprobs", &["false"], "OpenAI's API has log-probabilities"),
            refused("top_logprobs", &["0"], "OpenAI's API has log-probabilities"),
            refused("truncate", &["false"], "a conversation that does not fit is refused, never cut"),
            refused("shift", &["false"], "a context that is full ends the answer"),
        ],
    };
}

impl WireRequest for GenerateRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /api/generate",
        honoured: &["model", "prompt", "system", "raw", "stream", "format", "options", "think", "keep_alive"],
        no_effect: &[],
        refused: &[
            refused("images", &["[]"], "models here read text"),
            refused("suffix", &["\"\""], "`/v1/completions` fills in"),
            refused("template", &["\"\""], "the model's own template is used; `raw` uses none"),
            refused("context", &["[]"], "`/api/chat` takes a conversation"),
            refused("logprobs", &["false"], "OpenAI's API has log-probabilities"),
            refused("top_logprobs", &["0"], "OpenAI's API has log-probabilities"),
            refused("truncate", &["false"], "a prompt that does not fit is refused, never cut"),
            refused("shift", &["false"], "a context that is full ends the answer"),
            refused("width", &[], "models here write text"),
            refused("height", &[], "models here write text"),
            refused("steps", &[], "models here write text"),
        ],
    };
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireMessage {
    role: String,
    #[serde(default)]
    content: Option<String>,
    thinking: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<WireToolCall>>,
    #[serde(alias = "name")]
    tool_name: Option<String>,
    tool_call_id: Option<String>,
    images: Option<Vec<IgnoredAny>>,
}

#[derive(Debug, Deserialize)]
struct WireToolCall {
    #[serde(default)]
    id: String,
    function: WireFunctionCall,
}

#[derive(Debug, Deserialize)]
struct WireFunctionCall {
    name: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

impl ChatRequest {
    /// The turn to answer; `None` where there are no messages, which only loads the model.
    pub(super) fn validate(self, limits: &Limits) -> ApiResult<Option<Turn>> {
        if self.messages.len() > limits.texts {
            return Err(ApiError::invalid("messages", format!("expected at most {} messages", limits.texts)));
        }
        let sampling = sampling(self.options, self.format)?;
        let variables = variables(self.think)?;
        if self.messages.is_empty() {
            return Ok(None);
        }
        let message = |(i, message): (usize, WireMessage)| message.validate(&format!("messages[{i}]"));
        let tool = |(i, tool): (usize, WireTool)| tool.validate(&format!("tools[{i}]"));
        let messages = self.messages.into_iter().enumerate().map(message).collect::<ApiResult<Vec<_>>>()?;
        Ok(Some(Turn {
            // As Ollama does it: what the assistant began is continued.
            continues: messages
                .last()
                .is_some_and(|last| last.role == Role::Assistant && last.tool_calls.is_empty()),
            messages,
            tools: self.tools.into_iter().enumerate().map(tool).collect::<ApiResult<_>>()?,
            tool_choice: ToolChoice::Auto,
            single_call: false,
            variables,
            sampling,
        }))
    }
}

/// What `POST /api/generate` asks for.
pub(super) enum Generate {
    /// Only that the model be loaded.
    Load,
    /// The text as it is, without a template.
    Raw(String, Sampling),
    /// One message.
    Turn(Turn),
}

impl GenerateRequest {
    pub(super) fn validate(self) -> ApiResult<Generate> {
        let sampling = sampling(self.options, self.format)?;
        let variables = variables(self.think)?;
        if self.prompt.is_empty() {
            return Ok(Generate::Load);
        }
        if self.raw {
            return Ok(Generate::Raw(self.prompt, sampling));
        }
        let system = self.system.map(Message::system);
        let messages = system.into_iter().chain([Message::user(self.prompt)]).collect();
        Ok(Generate::Turn(Turn {
            messages,
            continues: false,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            single_call: false,
            variables,
            sampling,
        }))
    }
}

fn sampling(options: Map<String, Value>, format: Option<Value>) -> ApiResult<Sampling> {
    let options: Options = fields::from_fields(options).map_err(|error| {
        let Some(field) = &error.param else { return error };
        let (param, said) = (format!("options.{field}"), format!("`{field}`"));
        let message = error.message.replacen(&said, &format!("`{param}`"), 1);
        ApiError { param: Some(param), message, ..error }
    })?;
    let mut sampling = options.validate()?;
    sampling.constraint = match format {
        None => None,
        Some(Value::String(word)) if word.is_empty() => None,
        Some(Value::String(word)) if word == "json" => Some(any_object()),
        Some(schema @ Value::Object(_)) => Some(Constraint::JsonSchema(schema)),
        Some(_) => return Err(ApiError::invalid("format", "expected `json` or a JSON schema")),
    };
    Ok(sampling)
}

fn variables(think: Option<Value>) -> ApiResult<Map<String, Value>> {
    match think {
        None => Ok(Map::new()),
        Some(Value::Bool(think)) => Ok(Map::from_iter([("enable_thinking".to_owned(), think.into())])),
        Some(Value::String(effort)) if ["low", "medium", "high"].contains(&effort.as_str()) => {
            Ok(Map::from_iter([
                ("enable_thinking".to_owned(), true.into()),
                ("reasoning_effort".to_owned(), effort.into()),
            ]))
        }
        Some(_) => Err(ApiError::invalid("think", "expected true, false, `low`, `medium` or `high`")),
    }
}

impl WireMessage {
    fn validate(self, at: &str) -> ApiResult<Message> {
        if self.images.is_some_and(|images| !images.is_empty()) {
            return Err(ApiError::unsupported(format!("{at}.images"), "models here read text"));
        }
        let role = match Role::from(self.role.as_str()) {
            Role::Other(_) => {
                let message = "expected `system`, `user`, `assistant` or `tool`";
                return Err(ApiError::invalid(format!("{at}.role"), message));
            }
            role => role,
        };
        let call = |call: WireToolCall| ToolCall {
            id: call.id,
            name: call.function.name,
            arguments: Value::Object(call.function.arguments),
        };
        Ok(Message {
            reasoning: self.thinking,
            tool_calls: self.tool_calls.unwrap_or_default().into_iter().map(call).collect(),
            name: self.tool_name,
            tool_call_id: self.tool_call_id,
            ..Message::new(role, self.content.unwrap_or_default())
        })
    }
}
