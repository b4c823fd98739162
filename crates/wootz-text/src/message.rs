//! A conversation: messages, the tools a model may call, and its calls.
//!
//! Where:  part of a [`Prompt`](crate::Prompt), rendered by [`ChatTemplate`](crate::ChatTemplate), kept in traces.
//! Idea:   one domain type for all providers; their wire formats are converted at the edges.
//! Source: the shape that `transformers.apply_chat_template` hands to templates ([`Message::to_json`]).

use serde_json::{Map, Value, json};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; empty for an assistant that only calls tools.
    pub content: Content,
    /// Calls an assistant makes in this turn.
    pub tool_calls: Vec<ToolCall>,
    /// What a reasoning model thought before it answered.
    pub reasoning: Option<String>,
    /// The speaker's name, or the tool's in a tool's answer.
    pub name: Option<String>,
    /// In a tool's answer: which [`ToolCall::id`] it answers.
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message that is only text.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Content::Text(text.into()),
            tool_calls: Vec::new(),
            reasoning: None,
            name: None,
            tool_call_id: None,
        }
    }

    /// A system message.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(Role::System, text)
    }

    /// A user's message.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, text)
    }

    /// An assistant's answer.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, text)
    }

    /// A tool's answer to the call `tool_call_id`.
    pub fn tool(tool_call_id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { tool_call_id: Some(tool_call_id.into()), ..Self::new(Role::Tool, text) }
    }

    /// All text parts, joined without a separator.
    pub fn text(&self) -> String {
        self.content.text()
    }

    /// Reads the dictionary that [`to_json`](Message::to_json) writes, and what data sets and OpenAI's API have in its place:
    /// `content` may be null, reasoning may be called `reasoning` or `thinking`, arguments may be JSON in a string.
    ///
    /// # Errors
    /// The first field that is missing, unknown or of the wrong type, by name.
    pub fn from_json(json: &Value) -> Result<Self, String> {
        let fields = json.as_object().ok_or_else(|| format!("message: expected an object, got {json}"))?;
        let text = |key: &str| match fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(format!("message.{key}: expected a string, got {other}")),
        };
        let mut message = Self::new(Role::from(text("role")?.ok_or("message.role: missing")?.as_str()), "");
        for (key, value) in fields {
            match key.as_str() {
                "role" => {}
                "content" => message.content = Content::from_json(value)?,
                "tool_calls" => {
                    let calls = value.as_array().map(Vec::as_slice).unwrap_or_default();
                    message.tool_calls = calls.iter().map(ToolCall::from_json).collect::<Result<_, _>>()?;
                }
                "reasoning_content" | "reasoning" | "thinking" => message.reasoning = text(key)?,
                "name" => message.name = text(key)?,
                "tool_call_id" => message.tool_call_id = text(key)?,
                other => return Err(format!("message.{other}: unknown field")),
            }
        }
        Ok(message)
    }

    /// The dictionary that chat templates read: `role`, `content`, and only those of the other keys that are set.
    ///
    /// Reasoning appears as `reasoning_content`, a call as `{"id", "type": "function", "function": {"name", "arguments"}}`
    /// with `arguments` as an object, which is how `transformers` wants them.
    pub fn to_json(&self) -> Value {
        let mut message = Map::new();
        message.insert("role".into(), self.role.as_str().into());
        message.insert("content".into(), self.content.to_json());
        if !self.tool_calls.is_empty() {
            message.insert("tool_calls".into(), self.tool_calls.iter().map(ToolCall::to_json).collect());
        }
        let named = [
            ("reasoning_content", &self.reasoning),
            ("name", &self.name),
            ("tool_call_id", &self.tool_call_id),
        ];
        for (key, value) in named {
            if let Some(value) = value {
                message.insert(key.into(), value.as_str().into());
            }
        }
        Value::Object(message)
    }
}

/// Who speaks in a [`Message`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// OpenAI's newer word for instructions by the application's author.
    Developer,
    /// The human, or whoever asks.
    User,
    /// The model.
    Assistant,
    /// A tool's answer.
    Tool,
    /// A role that only some template knows (`ipython`, `document`, `critic` …).
    Other(String),
}

impl Role {
    /// The role as templates and wire formats spell it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
            Self::Other(role) => role,
        }
    }
}

impl From<&str> for Role {
    fn from(role: &str) -> Self {
        match role {
            "system" => Self::System,
            "developer" => Self::Developer,
            "user" => Self::User,
            "assistant" => Self::Assistant,
            "tool" => Self::Tool,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Text and images in order.
    Parts(Vec<ContentPart>),
}

impl Content {
    /// All text, joined without a separator.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => parts.iter().filter_map(ContentPart::text).collect(),
        }
    }

    fn from_json(json: &Value) -> Result<Self, String> {
        match json {
            Value::Null => Ok(Self::Text(String::new())),
            Value::String(text) => Ok(Self::Text(text.clone())),
            Value::Array(parts) => {
                parts.iter().map(ContentPart::from_json).collect::<Result<_, _>>().map(Self::Parts)
            }
            other => Err(format!("message.content: expected a string or a list of parts, got {other}")),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Parts(parts) => parts.iter().map(ContentPart::to_json).collect(),
        }
    }
}

/// One part of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum ContentPart {
    /// Text.
    Text(String),
    /// An encoded image (PNG, JPEG …).
    Image {
        /// The media type, `image/png`.
        media_type: String,
        /// The file's bytes.
        data: Vec<u8>,
    },
}

impl ContentPart {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Image { .. } => None,
        }
    }

    fn from_json(json: &Value) -> Result<Self, String> {
        match (json.get("type").and_then(Value::as_str), json.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(text)) => Ok(Self::Text(text.to_owned())),
            // A bare marker: whoever holds the pixels puts them in.
            (Some("image"), None) => Ok(Self::Image { media_type: String::new(), data: Vec::new() }),
            _ => Err(format!("message.content: expected a part of type `text` or `image`, got {json}")),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => json!({"type": "text", "text": text}),
            Self::Image { .. } => json!({"type": "image"}), // templates place a marker; pixels go elsewhere
        }
    }
}

/// A call that a model wants made.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Ties the answer to the call; may be empty where a model gives none.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// Its arguments, usually an object.
    pub arguments: Value,
}

impl ToolCall {
    fn from_json(json: &Value) -> Result<Self, String> {
        let function = json.get("function").unwrap_or(json);
        let name = function
            .get("name")
            .and_then(Value::as_str)
            .ok_or("message.tool_calls: a call without `name`")?;
        let arguments = match function.get("arguments") {
            Some(Value::String(text)) => serde_json::from_str(text).map_err(|error| {
                format!("message.tool_calls: arguments of `{name}` are not JSON: {error}")
            })?,
            arguments => arguments.cloned().unwrap_or_else(|| json!({})),
        };
        let id = json.get("id").and_then(Value::as_str).unwrap_or("");
        Ok(Self { id: id.to_owned(), name: name.to_owned(), arguments })
    }

    fn to_json(&self) -> Value {
        let function = json!({"name": self.name, "arguments": self.arguments});
        json!({"id": self.id, "type": "function", "function": function})
    }
}

/// A tool that a model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does, for the model to read.
    pub description: String,
    /// JSON schema of its arguments, an object.
    pub parameters: Value,
    /// Whether arguments must follow the schema to the letter, even where the model chooses whether to call.
    pub strict: bool,
}

impl ToolSpec {
    /// Reads the dictionary that [`to_json`](ToolSpec::to_json) writes, with or without its `function` around.
    ///
    /// # Errors
    /// A missing name.
    pub fn from_json(json: &Value) -> Result<Self, String> {
        let function = json.get("function").unwrap_or(json);
        let text = |key: &str| function.get(key).and_then(Value::as_str).map(String::from);
        Ok(Self {
            name: text("name").ok_or("tool.name: missing")?,
            description: text("description").unwrap_or_default(),
            parameters: function
                .get("parameters")
                .cloned()
                .unwrap_or_else(|| json!({"type": "object", "properties": {}})),
            strict: false,
        })
    }

    /// The dictionary that chat templates read: `{"type": "function", "function": {"name", "description", "parameters"}}`.
    pub fn to_json(&self) -> Value {
        let function =
            json!({"name": self.name, "description": self.description, "parameters": self.parameters});
        json!({"type": "function", "function": function})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_templates_only_the_keys_that_are_set() {
        let plain = Message::user("hi").to_json();
        assert_eq!(plain, json!({"role": "user", "content": "hi"}));

        let call = ToolCall { id: "c1".into(), name: "add".into(), arguments: json!({"a": 1}) };
        let message = Message { tool_calls: vec![call], ..Message::assistant("") }.to_json();
        assert_eq!(message["tool_calls"][0]["function"]["arguments"]["a"], 1);
        assert!(message.get("tool_call_id").is_none());
        assert_eq!(Message::tool("c1", "3").to_json()["tool_call_id"], "c1");
    }

    #[test]
    fn messages_are_read_back() {
        let call = ToolCall { id: "c1".into(), name: "add".into(), arguments: json!({"a": 1}) };
        let message =
            Message { tool_calls: vec![call], reasoning: Some("r".into()), ..Message::assistant("x") };
        assert_eq!(Message::from_json(&message.to_json()), Ok(message));
        let from_api = json!({"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]});
        assert_eq!(Message::from_json(&from_api).unwrap().tool_calls[0].arguments, json!({}));
        let check = |json: Value, field: &str| {
            assert!(Message::from_json(&json).unwrap_err().contains(field));
        };
        check(json!({"content": "x"}), "message.role");
        check(json!({"role": "user", "content": 1}), "message.content");
        check(json!({"role": "user", "colour": "x"}), "message.colour");
    }

    #[test]
    fn text_skips_images() {
        let image = ContentPart::Image { media_type: "image/png".into(), data: vec![1] };
        let parts = vec![ContentPart::Text("a".into()), image, ContentPart::Text("b".into())];
        assert_eq!(Content::Parts(parts).text(), "ab");
    }
}
