//! Messages and tools of chat requests.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use wootz_text::{Content, ContentPart, Message, Role, ToolCall, ToolSpec};

use crate::api_error::{ApiError, ApiResult};

/// One message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireMessage {
    role: String,
    content: Option<WireContent>,
    name: Option<String>,
    tool_calls: Option<Vec<WireToolCall>>,
    tool_call_id: Option<String>,
    #[serde(alias = "reasoning", alias = "thinking")]
    reasoning_content: Option<String>,
    // What an assistant's message brings back when it is sent again.
    refusal: Option<String>,
    audio: Option<Value>,
    function_call: Option<Value>,
    #[serde(rename = "annotations")]
    _annotations: Option<IgnoredAny>,
}

/// `content`: text, or parts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum WireContent {
    Text(String),
    Parts(Vec<WirePart>),
}

/// One part of a content.
#[derive(Debug, Deserialize)]
pub(crate) struct WirePart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
}

/// A call that the assistant made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireToolCall {
    #[serde(default)]
    id: String,
    #[serde(rename = "type")]
    _kind: Option<String>,
    #[serde(rename = "index")]
    _index: Option<u32>,
    function: WireFunctionCall,
}

/// Its function.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireFunctionCall {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// A tool that may be called.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireTool {
    #[serde(rename = "type")]
    kind: String,
    function: Option<WireFunction>,
    #[serde(rename = "custom")]
    _custom: Option<IgnoredAny>,
}

/// Its function.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireFunction {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
}

impl WireMessage {
    /// Whether the assistant said it, and called no tools.
    pub(crate) fn is_assistant(&self) -> bool {
        self.role == "assistant" && self.tool_calls.as_ref().is_none_or(|calls| calls.is_empty())
    }

    /// A domain message; `at` is where it stands, `messages[2]`.
    pub(crate) fn validate(self, at: &str) -> ApiResult<Message> {
        let role = role(&self.role, at)?;
        for (field, value) in [("audio", &self.audio), ("function_call", &self.function_call)] {
            if value.is_some() {
                return Err(ApiError::unsupported(format!("{at}.{field}"), "not supported here"));
            }
        }
        let calls = self.tool_calls.unwrap_or_default();
        if !calls.is_empty() && role != Role::Assistant {
            return Err(ApiError::invalid(format!("{at}.tool_calls"), "only an assistant calls tools"));
        }
        let content = match (self.content, self.refusal) {
            (Some(content), _) => content.validate(&format!("{at}.content"))?,
            (None, Some(refusal)) => Content::Text(refusal),
            (None, None) if role == Role::Assistant => Content::Text(String::new()),
            (None, None) => return Err(ApiError::invalid(format!("{at}.content"), "required and missing")),
        };
        let call = |(i, call): (usize, WireToolCall)| call.validate(&format!("{at}.tool_calls[{i}]"));
        Ok(Message {
            content,
            tool_calls: calls.into_iter().enumerate().map(call).collect::<ApiResult<_>>()?,
            reasoning: self.reasoning_content,
            name: self.name,
            tool_call_id: self.tool_call_id,
            ..Message::new(role, "")
        })
    }
}

/// One of the roles that OpenAI's API knows.
fn role(role: &str, at: &str) -> ApiResult<Role> {
    match Role::from(role) {
        Role::Other(role) if role == "function" => {
            Err(ApiError::unsupported(format!("{at}.role"), "the role `function` is replaced by `tool`"))
        }
        Role::Other(role) => {
            let role: String = role.chars().take(50).collect();
            let expected = "expected `system`, `developer`, `user`, `assistant` or `tool`";
            Err(ApiError::invalid(format!("{at}.role"), format!("{expected}, got `{role}`")))
        }
        role => Ok(role),
    }
}

impl WireContent {
    /// Text parts; others are refused by their type.
    pub(crate) fn validate(self, at: &str) -> ApiResult<Content> {
        let parts = match self {
            Self::Text(text) => return Ok(Content::Text(text)),
            Self::Parts(parts) => parts,
        };
        let part = |(i, part): (usize, WirePart)| part.validate(&format!("{at}[{i}]"));
        let parts: Vec<ContentPart> = parts.into_iter().enumerate().map(part).collect::<ApiResult<_>>()?;
        // Many templates know texts only.
        match parts.as_slice() {
            [ContentPart::Text(text)] => Ok(Content::Text(text.clone())),
            _ => Ok(Content::Parts(parts)),
        }
    }
}

impl WirePart {
    fn validate(self, at: &str) -> ApiResult<ContentPart> {
        match (self.kind.as_str(), self.text, self.refusal) {
            ("text" | "input_text" | "output_text", Some(text), _) | ("refusal", _, Some(text)) => {
                Ok(ContentPart::Text(text))
            }
            ("text" | "input_text" | "output_text", ..) => {
                Err(ApiError::invalid(format!("{at}.text"), "required and missing"))
            }
            (kind, ..) => {
                let kind: String = kind.chars().take(50).collect();
                let message = format!("expected `text`, got `{kind}`: models here read text");
                Err(ApiError::unsupported(format!("{at}.type"), message))
            }
        }
    }
}

impl WireToolCall {
    fn validate(self, at: &str) -> ApiResult<ToolCall> {
        let arguments = match self.function.arguments {
            Value::String(text) if text.is_empty() => Value::Object(Map::new()),
            Value::String(text) => serde_json::from_str(&text).map_err(|error| {
                let at = format!("{at}.function.arguments");
                ApiError::invalid(at, format!("expected JSON in a string: {error}"))
            })?,
            Value::Null => Value::Object(Map::new()),
            object => object,
        };
        Ok(ToolCall { id: self.id, name: self.function.name, arguments })
    }
}

impl WireTool {
    /// A domain tool.
    pub(crate) fn validate(self, at: &str) -> ApiResult<ToolSpec> {
        let Some(function) = self.function.filter(|_| self.kind == "function") else {
            let kind: String = self.kind.chars().take(50).collect();
            let message = format!("expected `function` with its definition, got `{kind}`");
            return Err(ApiError::unsupported(format!("{at}.type"), message));
        };
        let at = format!("{at}.function");
        let tool = tool_spec(function.name, function.description, function.parameters, &at)?;
        Ok(ToolSpec { strict: function.strict == Some(true), ..tool })
    }
}

/// A domain tool from its parts, not strict.
pub(crate) fn tool_spec(
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
    at: &str,
) -> ApiResult<ToolSpec> {
    let is_odd = |c: char| c.is_control() || c.is_whitespace();
    if name.is_empty() || name.len() > 256 || name.contains(is_odd) {
        let message = "expected 1 to 256 characters without white space";
        return Err(ApiError::invalid(format!("{at}.name"), message));
    }
    let parameters = parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    if !parameters.is_object() {
        return Err(ApiError::invalid(format!("{at}.parameters"), "expected a JSON schema, an object"));
    }
    Ok(ToolSpec { name, description: description.unwrap_or_default(), parameters, strict: false })
}
