//! Tokens and texts: `tokenize`, `detokenize`, and how single tokens are spelled.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wootz_text::{Prompt, TokenId};

use super::message::{WireMessage, WireTool};
use crate::api_error::{ApiError, ApiResult};
use crate::catalog::ServedModel;
use crate::fields::{FieldTable, WireRequest};

/// `POST /v1/tokenize`, as vLLM has it: a `prompt` or `messages`.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenizeRequest {
    pub model: Option<String>,
    prompt: Option<String>,
    messages: Option<Vec<WireMessage>>,
    #[serde(default)]
    tools: Vec<WireTool>,
    #[serde(default)]
    chat_template_kwargs: Map<String, Value>,
    pub add_special_tokens: Option<bool>,
    #[serde(default)]
    pub return_token_strs: bool,
}

impl WireRequest for TokenizeRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /v1/tokenize",
        honoured: &[
            "model",
            "prompt",
            "messages",
            "tools",
            "chat_template_kwargs",
            "add_special_tokens",
            "return_token_strs",
        ],
        no_effect: &[],
        refused: &[],
    };
}

impl TokenizeRequest {
    /// What to encode.
    pub(crate) fn validate(self) -> ApiResult<Prompt> {
        match (self.prompt, self.messages) {
            (Some(text), None) => Ok(Prompt::Text(text)),
            (None, Some(messages)) => {
                let tool = |(i, tool): (usize, WireTool)| tool.validate(&format!("tools[{i}]"));
                let message =
                    |(i, message): (usize, WireMessage)| message.validate(&format!("messages[{i}]"));
                Ok(Prompt::Chat {
                    messages: messages.into_iter().enumerate().map(message).collect::<ApiResult<_>>()?,
                    tools: self.tools.into_iter().enumerate().map(tool).collect::<ApiResult<_>>()?,
                    variables: self.chat_template_kwargs,
                    continues: false,
                })
            }
            _ => Err(ApiError::invalid("prompt", "expected `prompt` or `messages`, one of them")),
        }
    }
}

/// Its answer.
#[derive(Debug, Serialize)]
pub(crate) struct Tokenized {
    pub count: usize,
    pub max_model_len: usize,
    pub tokens: Vec<TokenId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_strs: Option<Vec<String>>,
}

/// `POST /v1/detokenize`
#[derive(Debug, Deserialize)]
pub(crate) struct DetokenizeRequest {
    pub model: Option<String>,
    pub tokens: Vec<TokenId>,
}

impl WireRequest for DetokenizeRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /v1/detokenize",
        honoured: &["model", "tokens"],
        no_effect: &[],
        refused: &[],
    };
}

/// Its answer.
#[derive(Debug, Serialize)]
pub(crate) struct Detokenized {
    pub prompt: String,
}

/// A token's own text and bytes; `text` where there is no tokenizer to ask.
pub(crate) fn spelled(model: &ServedModel, id: Option<TokenId>, text: &str) -> (String, Vec<u8>) {
    let known = id.zip(model.tokenizer.as_ref());
    let bytes = known.and_then(|(id, tokenizer)| tokenizer.token_bytes(id));
    let bytes = bytes.unwrap_or_else(|| text.as_bytes().to_vec());
    (String::from_utf8_lossy(&bytes).into_owned(), bytes)
}
