//! Anthropic's requests, and their way into a turn.
//!
//! Where:  read by the handlers beside this file.
//! Idea:   a message here is a list of blocks; results of tools stand in the user's message and become messages of their
//!         own, thoughts and calls stand in the assistant's and become its fields.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use wootz_text::{Constraint, Content, Message, Role, Sampling, ToolCall, ToolSpec};

use crate::answer::{ToolChoice, Turn};
use crate::api_error::{ApiError, ApiResult};
use crate::fields::{FieldTable, WireRequest, refused};
use crate::limits::Limits;
use crate::openai::wire::message::tool_spec;
use crate::openai::wire::sampling::{in_range, top_k};

/// `POST /v1/messages`
#[derive(Debug, Deserialize)]
pub(crate) struct MessagesRequest {
    pub model: String,
    pub max_tokens: usize,
    messages: Vec<WireMessage>,
    system: Option<WireText>,
    #[serde(default)]
    stop_sequences: Vec<String>,
    #[serde(default)]
    pub stream: bool,
    temperature: Option<f32>,
    top_k: Option<i64>,
    top_p: Option<f32>,
    #[serde(default)]
    tools: Vec<WireTool>,
    tool_choice: Option<WireToolChoice>,
    thinking: Option<Thinking>,
    output_config: Option<OutputConfig>,
}

impl WireRequest for MessagesRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /v1/messages",
        honoured: &[
            "model",
            "max_tokens",
            "messages",
            "system",
            "stop_sequences",
            "stream",
            "temperature",
            "top_k",
            "top_p",
            "tools",
            "tool_choice",
            "thinking",
            "output_config",
        ],
        no_effect: &["metadata", "service_tier", "cache_control", "inference_geo", "betas"],
        refused: REFUSED,
    };
}

const REFUSED: &[crate::fields::Refused] = &[
    refused("container", &[], "there are no containers"),
    refused("mcp_servers", &["[]"], "servers of tools are the client's business"),
    refused("context_management", &[], "nothing is removed from a conversation"),
    refused("output_format", &[], "replaced by `output_config.format`"),
];

/// `POST /v1/messages/count_tokens`
#[derive(Debug, Deserialize)]
pub(crate) struct CountRequest {
    pub model: String,
    messages: Vec<WireMessage>,
    system: Option<WireText>,
    #[serde(default)]
    tools: Vec<WireTool>,
    tool_choice: Option<WireToolChoice>,
    thinking: Option<Thinking>,
}

impl WireRequest for CountRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /v1/messages/count_tokens",
        honoured: &["model", "messages", "system", "tools", "tool_choice", "thinking"],
        no_effect: &["cache_control", "output_config", "betas"],
        refused: REFUSED,
    };
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireMessage {
    role: String,
    content: WireBlocks,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WireBlocks {
    Text(String),
    Blocks(Vec<Block>),
}

/// A text, or blocks of text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WireText {
    Text(String),
    Blocks(Vec<Block>),
}

/// A block; which fields count depends on its type.
#[derive(Debug, Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Value>,
    tool_use_id: Option<String>,
    content: Option<Box<WireBlocks>>,
    thinking: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTool {
    name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    description: Option<String>,
    input_schema: Option<Value>,
    #[serde(default)]
    strict: bool,
    #[serde(rename = "cache_control")]
    _cache_control: Option<IgnoredAny>,
    #[serde(rename = "eager_input_streaming")]
    _eager_input_streaming: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireToolChoice {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    #[serde(default)]
    disable_parallel_tool_use: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thinking {
    #[serde(rename = "type")]
    kind: String,
    /// Thoughts end when the model ends them.
    #[serde(rename = "budget_tokens")]
    _budget_tokens: Option<usize>,
    #[serde(rename = "display")]
    _display: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputConfig {
    #[serde(rename = "effort")]
    _effort: Option<String>,
    format: Option<OutputFormat>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum OutputFormat {
    JsonSchema { schema: Value },
}

impl MessagesRequest {
    pub(crate) fn validate(self, limits: &Limits) -> ApiResult<Turn> {
        let format = self.output_config.and_then(|config| config.format);
        let constraint = format.map(|OutputFormat::JsonSchema { schema }| Constraint::JsonSchema(schema));
        let sampling = Sampling {
            max_tokens: Some(self.max_tokens),
            stop: self.stop_sequences,
            temperature: in_range("temperature", self.temperature, 0.0..=2.0)?.unwrap_or(1.0),
            top_k: top_k(self.top_k)?,
            top_p: self.top_p.unwrap_or(1.0),
            constraint,
            ..Sampling::default()
        };
        sampling.validate()?;
        let said = Said {
            messages: self.messages,
            system: self.system,
            tools: self.tools,
            tool_choice: self.tool_choice,
            thinking: self.thinking,
        };
        said.validate(limits, sampling)
    }
}

impl CountRequest {
    pub(crate) fn validate(self, limits: &Limits) -> ApiResult<Turn> {
        let said = Said {
            messages: self.messages,
            system: self.system,
            tools: self.tools,
            tool_choice: self.tool_choice,
            thinking: self.thinking,
        };
        said.validate(limits, Sampling::default())
    }
}

/// What both requests say.
struct Said {
    messages: Vec<WireMessage>,
    system: Option<WireText>,
    tools: Vec<WireTool>,
    tool_choice: Option<WireToolChoice>,
    thinking: Option<Thinking>,
}

impl Said {
    fn validate(self, limits: &Limits, sampling: Sampling) -> ApiResult<Turn> {
        let n_messages = self.messages.len();
        if n_messages == 0 || n_messages > limits.texts {
            let message = format!("expected 1 to {} messages, got {n_messages}", limits.texts);
            return Err(ApiError::invalid("messages", message));
        }
        let mut messages = Vec::new();
        if let Some(system) = self.system {
            messages.push(Message::system(system.text()?));
        }
        // Some templates want a result's tool by name, which only the call tells.
        let mut names = BTreeMap::new();
        for (i, message) in self.messages.into_iter().enumerate() {
            message.add_to(&mut messages, &mut names, &format!("messages[{i}]"))?;
        }
        // The assistant's last message is the beginning of its answer.
        let continues = messages.last().is_some_and(|message| message.role == Role::Assistant);
        if continues && messages.last().is_some_and(|message| !message.tool_calls.is_empty()) {
            let message = "expected results of the tools that the last message calls";
            return Err(ApiError::invalid("messages", message));
        }
        let single_call = self.tool_choice.as_ref().is_some_and(|choice| choice.disable_parallel_tool_use);
        let tool_choice = self.tool_choice.map(WireToolChoice::validate).transpose()?.unwrap_or_default();
        let tool = |(i, tool): (usize, WireTool)| tool.validate(&format!("tools[{i}]"));
        let mut variables = Map::new();
        match self.thinking.as_ref().map(|thinking| thinking.kind.as_str()) {
            None => {}
            Some("enabled" | "adaptive") => drop(variables.insert("enable_thinking".into(), true.into())),
            Some("disabled") => drop(variables.insert("enable_thinking".into(), false.into())),
            Some(_) => {
                let message = "expected `enabled`, `adaptive` or `disabled`";
                return Err(ApiError::invalid("thinking.type", message));
            }
        }
        let tools = self.tools.into_iter().enumerate().map(tool).collect::<ApiResult<_>>()?;
        Ok(Turn { messages, tools, tool_choice, single_call, variables, continues, sampling })
    }
}

impl WireMessage {
    /// Adds what it says: results of tools first, each a message of its own.
    fn add_to(
        self,
        messages: &mut Vec<Message>,
        names: &mut BTreeMap<String, String>,
        at: &str,
    ) -> ApiResult<()> {
        let role = match self.role.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            _ => return Err(ApiError::invalid(format!("{at}.role"), "expected `user` or `assistant`")),
        };
        let blocks = match self.content {
            WireBlocks::Text(text) => {
                messages.push(Message::new(role, text));
                return Ok(());
            }
            WireBlocks::Blocks(blocks) => blocks,
        };
        let mut message = Message::new(role.clone(), "");
        let (mut texts, mut n_results) = (Vec::new(), 0);
        for (i, block) in blocks.into_iter().enumerate() {
            let at = format!("{at}.content[{i}]");
            let wanted = |field: Option<String>, name: &str| {
                field.ok_or_else(|| ApiError::invalid(format!("{at}.{name}"), "required and missing"))
            };
            match (block.kind.as_str(), &role) {
                ("text", _) => texts.push(wanted(block.text, "text")?),
                ("thinking", Role::Assistant) => {
                    message.reasoning = Some(wanted(block.thinking, "thinking")?)
                }
                ("redacted_thinking", Role::Assistant) => {}
                ("tool_use", Role::Assistant) => {
                    let (id, name) = (wanted(block.id, "id")?, wanted(block.name, "name")?);
                    names.insert(id.clone(), name.clone());
                    let arguments = block.input.unwrap_or_else(|| json!({}));
                    message.tool_calls.push(ToolCall { id, name, arguments });
                }
                ("tool_result", Role::User) => {
                    let id = wanted(block.tool_use_id, "tool_use_id")?;
                    let text = block.content.map_or(Ok(String::new()), |content| content.text(&at))?;
                    let name = names.get(&id).cloned();
                    messages.push(Message { name, ..Message::tool(id, text) });
                    n_results += 1;
                }
                (kind, _) => {
                    let kind: String = kind.chars().take(50).collect();
                    let message = format!("`{kind}` blocks are not supported in a message of this role");
                    return Err(ApiError::unsupported(format!("{at}.type"), message));
                }
            }
        }
        if n_results == 0 || !texts.is_empty() {
            message.content = Content::Text(texts.concat());
            messages.push(message);
        }
        Ok(())
    }
}

impl WireBlocks {
    /// The texts of its blocks.
    fn text(self, at: &str) -> ApiResult<String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Blocks(blocks) => texts(blocks, at),
        }
    }
}

impl WireText {
    fn text(self) -> ApiResult<String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Blocks(blocks) => texts(blocks, "system"),
        }
    }
}

fn texts(blocks: Vec<Block>, at: &str) -> ApiResult<String> {
    let one = |(i, block): (usize, Block)| match (block.kind.as_str(), block.text) {
        ("text", Some(text)) => Ok(text),
        _ => Err(ApiError::unsupported(format!("{at}[{i}].type"), "expected blocks of type `text`")),
    };
    blocks.into_iter().enumerate().map(one).collect()
}

impl WireTool {
    fn validate(self, at: &str) -> ApiResult<ToolSpec> {
        if self.kind.as_deref().is_some_and(|kind| kind != "custom") {
            let message = "tools that run on Anthropic's machines are not supported";
            return Err(ApiError::unsupported(format!("{at}.type"), message));
        }
        let tool = tool_spec(self.name, self.description, self.input_schema, at)?;
        Ok(ToolSpec { strict: self.strict, ..tool })
    }
}

impl WireToolChoice {
    fn validate(self) -> ApiResult<ToolChoice> {
        Ok(match (self.kind.as_str(), self.name) {
            ("auto", _) => ToolChoice::Auto,
            ("none", _) => ToolChoice::None,
            ("any", _) => ToolChoice::Required,
            ("tool", Some(name)) => ToolChoice::Named(name),
            ("tool", None) => return Err(ApiError::invalid("tool_choice.name", "required and missing")),
            _ => {
                return Err(ApiError::invalid(
                    "tool_choice.type",
                    "expected `auto`, `any`, `tool` or `none`",
                ));
            }
        })
    }
}
