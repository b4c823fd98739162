//! `POST /v1/responses`, the request.
//!
//! Idea:   the input is a list of items; calls that follow each other, and the words before them, are one turn of the
//!         assistant, as templates want it.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use wootz_text::{Constraint, Content, ContextFull, Message, Role, Sampling, ToolCall, ToolSpec};

use super::chat::NO_EFFECT;
use super::message::{WireContent, tool_spec};
use super::sampling::{any_object, in_range};
use crate::answer::{ToolChoice, Turn};
use crate::api_error::{ApiError, ApiResult};
use crate::fields::{FieldTable, WireRequest, refused};
use crate::limits::Limits;

/// The body.
#[derive(Debug, Deserialize)]
pub(crate) struct ResponseRequest {
    pub model: String,
    input: WireInput,
    pub instructions: Option<String>,
    #[serde(default)]
    pub stream: bool,
    pub max_output_tokens: Option<usize>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    #[serde(default)]
    tools: Vec<WireTool>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    text: Option<TextOptions>,
    reasoning: Option<ReasoningOptions>,
    truncation: Option<Truncation>,
}

impl WireRequest for ResponseRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /v1/responses",
        honoured: &[
            "model",
            "input",
            "instructions",
            "stream",
            "max_output_tokens",
            "temperature",
            "top_p",
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "text",
            "reasoning",
            "truncation",
        ],
        no_effect: NO_EFFECT_HERE,
        refused: &[
            refused("store", &["false"], "answers are not stored"),
            refused("previous_response_id", &[], "answers are not stored: send the conversation"),
            refused("conversation", &[], "answers are not stored: send the conversation"),
            refused("prompt", &[], "there are no stored prompts"),
            refused("background", &["false"], "use a batch"),
            refused("max_tool_calls", &[], "tools are the client's business"),
            refused("top_logprobs", &["0"], "`/v1/chat/completions` has log-probabilities"),
            refused("context_management", &["[]"], "nothing is removed from a conversation"),
            refused("moderation", &[], "there is no moderation"),
        ],
    };
}

/// As for chat, and what is about encrypted or padded parts of answers, which have none.
const NO_EFFECT_HERE: &[&str] = &[
    NO_EFFECT[0],
    NO_EFFECT[1],
    NO_EFFECT[2],
    NO_EFFECT[3],
    NO_EFFECT[4],
    NO_EFFECT[5],
    "include",
    "stream_options",
];

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WireInput {
    Text(String),
    Items(Vec<Item>),
}

/// An item; which fields count depends on its type.
#[derive(Debug, Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    content: Option<Value>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    output: Option<WireContent>,
}

#[derive(Debug, Deserialize)]
struct WireTool {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextOptions {
    format: Option<TextFormat>,
    #[serde(rename = "verbosity")]
    _verbosity: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum TextFormat {
    Text,
    JsonObject,
    JsonSchema { schema: Value },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasoningOptions {
    effort: Option<String>,
    #[serde(rename = "summary")]
    _summary: Option<IgnoredAny>,
    #[serde(rename = "generate_summary")]
    _generate_summary: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Truncation {
    Auto,
    Disabled,
}

impl ResponseRequest {
    pub(crate) fn validate(self, limits: &Limits) -> ApiResult<Turn> {
        let tool_choice = tool_choice(self.tool_choice)?;
        let single_call = self.parallel_tool_calls == Some(false);
        let system = self.instructions.map(Message::system);
        let messages: Vec<Message> = system.into_iter().chain(self.input.messages(limits)?).collect();
        let tool = |(i, tool): (usize, WireTool)| tool.validate(&format!("tools[{i}]"));
        let constraint = match self.text.and_then(|text| text.format) {
            None | Some(TextFormat::Text) => None,
            Some(TextFormat::JsonObject) => Some(any_object()),
            Some(TextFormat::JsonSchema { schema }) => Some(Constraint::JsonSchema(schema)),
        };
        let mut variables = Map::new();
        if let Some(effort) = self.reasoning.and_then(|reasoning| reasoning.effort) {
            variables.insert("reasoning_effort".into(), effort.into());
        }
        let sampling = Sampling {
            max_tokens: self.max_output_tokens,
            temperature: in_range("temperature", self.temperature, 0.0..=100.0)?.unwrap_or(1.0),
            top_p: self.top_p.unwrap_or(1.0),
            constraint,
            context_full: match self.truncation {
                Some(Truncation::Auto) => ContextFull::TruncateLeft,
                Some(Truncation::Disabled) | None => ContextFull::Error,
            },
            ..Sampling::default()
        };
        sampling.validate()?;
        let tools = self.tools.into_iter().enumerate().map(tool).collect::<ApiResult<_>>()?;
        Ok(Turn { messages, tools, tool_choice, single_call, variables, continues: false, sampling })
    }
}

fn tool_choice(choice: Option<Value>) -> ApiResult<ToolChoice> {
    let wrong = || ApiError::invalid("tool_choice", "expected `auto`, `none`, `required` or a function");
    match choice {
        None => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Required),
            _ => Err(wrong()),
        },
        Some(object) if object["type"] == "function" => {
            object["name"].as_str().map(|name| ToolChoice::Named(name.to_owned())).ok_or_else(wrong)
        }
        Some(_) => Err(wrong()),
    }
}

impl WireInput {
    fn messages(self, limits: &Limits) -> ApiResult<Vec<Message>> {
        let items = match self {
            Self::Text(text) => return Ok(vec![Message::user(text)]),
            Self::Items(items) => items,
        };
        let n = items.len();
        if n == 0 || n > limits.texts {
            return Err(ApiError::invalid("input", format!("expected 1 to {} items, got {n}", limits.texts)));
        }
        let mut messages = Vec::new();
        for (i, item) in items.into_iter().enumerate() {
            item.add_to(&mut messages, &format!("input[{i}]"))?;
        }
        Ok(messages)
    }
}

impl Item {
    fn add_to(self, messages: &mut Vec<Message>, at: &str) -> ApiResult<()> {
        let missing = |field: &str| ApiError::invalid(format!("{at}.{field}"), "required and missing");
        match self.kind.as_deref() {
            None | Some("message") => {
                let role = match Role::from(self.role.ok_or_else(|| missing("role"))?.as_str()) {
                    Role::Other(_) | Role::Tool => {
                        let message = "expected `system`, `developer`, `user` or `assistant`";
                        return Err(ApiError::invalid(format!("{at}.role"), message));
                    }
                    role => role,
                };
                let content = self.content.ok_or_else(|| missing("content"))?;
                let content: WireContent = serde_json::from_value(content)
                    .map_err(|error| ApiError::invalid(format!("{at}.content"), error.to_string()))?;
                let content = content.validate(&format!("{at}.content"))?;
                match messages.last_mut().filter(|last| role == Role::Assistant && is_open(last)) {
                    Some(last) => last.content = content,
                    None => messages.push(Message { content, ..Message::new(role, "") }),
                }
            }
            Some("reasoning") => {
                let text: String = self
                    .content
                    .iter()
                    .flat_map(|parts| parts.as_array())
                    .flatten()
                    .filter_map(|part| part["text"].as_str())
                    .collect();
                messages.push(Message { reasoning: Some(text), ..Message::assistant("") });
            }
            Some("function_call") => {
                let text = self.arguments.unwrap_or_default();
                let arguments = match text.is_empty() {
                    true => json!({}),
                    false => serde_json::from_str(&text).map_err(|error| {
                        ApiError::invalid(
                            format!("{at}.arguments"),
                            format!("expected JSON in a string: {error}"),
                        )
                    })?,
                };
                let call = ToolCall {
                    id: self.call_id.ok_or_else(|| missing("call_id"))?,
                    name: self.name.ok_or_else(|| missing("name"))?,
                    arguments,
                };
                match messages.last_mut().filter(|last| last.role == Role::Assistant) {
                    Some(last) => last.tool_calls.push(call),
                    None => messages.push(Message { tool_calls: vec![call], ..Message::assistant("") }),
                }
            }
            Some("function_call_output") => {
                let id = self.call_id.ok_or_else(|| missing("call_id"))?;
                let output = self.output.ok_or_else(|| missing("output"))?;
                let content = output.validate(&format!("{at}.output"))?;
                let calls = messages.iter().flat_map(|message| &message.tool_calls);
                let name = calls.rev().find(|call| call.id == id).map(|call| call.name.clone());
                messages.push(Message { content, name, ..Message::tool(id, "") });
            }
            Some(kind) => {
                let kind: String = kind.chars().take(50).collect();
                let message = format!("items of type `{kind}` are not supported");
                return Err(ApiError::unsupported(format!("{at}.type"), message));
            }
        }
        Ok(())
    }
}

/// An assistant's turn that has only thoughts so far.
fn is_open(message: &Message) -> bool {
    message.role == Role::Assistant
        && message.reasoning.is_some()
        && message.tool_calls.is_empty()
        && message.content == Content::Text(String::new())
}

impl WireTool {
    fn validate(self, at: &str) -> ApiResult<ToolSpec> {
        if self.kind != "function" {
            let kind: String = self.kind.chars().take(50).collect();
            let message = format!("expected `function`, got `{kind}`: tools are the client's business");
            return Err(ApiError::unsupported(format!("{at}.type"), message));
        }
        let name =
            self.name.ok_or_else(|| ApiError::invalid(format!("{at}.name"), "required and missing"))?;
        let tool = tool_spec(name, self.description, self.parameters, at)?;
        Ok(ToolSpec { strict: self.strict == Some(true), ..tool })
    }
}
