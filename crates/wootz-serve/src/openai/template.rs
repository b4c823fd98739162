//! `POST /apply-template`: a conversation as the model reads it, as llama.cpp's server has it, with its tokens on demand.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wootz_text::{ChatInput, Prompt, TokenId};

use super::tokenize::named_or_only;
use super::wire::message::{WireMessage, WireTool};
use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::bridge::cannot;
use crate::catalog::ServedModel;
use crate::fields::{FieldTable, WireRequest};
use crate::http::body::WireBody;
use crate::http::json::Json;

/// The body.
#[derive(Debug, Deserialize)]
pub(super) struct TemplateRequest {
    model: Option<String>,
    messages: Vec<WireMessage>,
    #[serde(default)]
    tools: Vec<WireTool>,
    #[serde(default)]
    chat_template_kwargs: Map<String, Value>,
    #[serde(default)]
    with_pieces: bool,
}

impl WireRequest for TemplateRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /apply-template",
        honoured: &["model", "messages", "tools", "chat_template_kwargs", "with_pieces"],
        no_effect: &[],
        refused: &[],
    };
}

/// Its answer.
#[derive(Debug, Serialize)]
pub(super) struct Applied {
    prompt: String,
    max_model_len: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Vec<Piece>>,
    /// Tokens that end an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    end_token_ids: Option<Vec<TokenId>>,
}

#[derive(Debug, Serialize)]
struct Piece {
    id: TokenId,
    piece: Spelled,
    special: bool,
}

/// Text, or bytes that are no text by themselves.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Spelled {
    Text(String),
    Bytes(Vec<u8>),
}

/// The text that a conversation becomes.
pub(super) async fn apply_template(
    State(app): State<App>,
    WireBody(request): WireBody<TemplateRequest>,
) -> ApiResult<Json<Applied>> {
    let n_messages = request.messages.len();
    if n_messages > app.limits.texts {
        let message = format!("expected at most {} messages, got {n_messages}", app.limits.texts);
        return Err(ApiError::invalid("messages", message));
    }
    let model = named_or_only(&app, request.model.as_deref()).await?;
    app.blocking(move || request.apply(&model).map(Json)).await
}

impl TemplateRequest {
    fn apply(self, model: &ServedModel) -> ApiResult<Applied> {
        let template = model.template.as_ref().ok_or_else(|| cannot(model, "hold conversations"))?;
        let tool = |(i, tool): (usize, WireTool)| tool.validate(&format!("tools[{i}]"));
        let message = |(i, message): (usize, WireMessage)| message.validate(&format!("messages[{i}]"));
        let messages = self.messages.into_iter().enumerate().map(message).collect::<ApiResult<Vec<_>>>()?;
        let tools = self.tools.into_iter().enumerate().map(tool).collect::<ApiResult<Vec<_>>>()?;
        let input = ChatInput {
            messages: &messages,
            tools: &tools,
            variables: self.chat_template_kwargs.clone(),
            add_generation_prompt: true,
            ..ChatInput::default()
        };
        let rendered = template.render(&input);
        let prompt = rendered.map_err(|error| ApiError::invalid("messages", error.to_string()))?.text;
        let mut applied =
            Applied { prompt, max_model_len: model.card.max_seq_len, tokens: None, end_token_ids: None };
        if self.with_pieces {
            let (tokenizer, tokenize) = model
                .tokenizer
                .as_ref()
                .zip(model.tokenize.as_ref())
                .ok_or_else(|| cannot(model, "tell its tokens"))?;
            let variables = self.chat_template_kwargs;
            let token_ids = tokenize(Prompt::Chat { messages, tools, variables, continues: false })?;
            let piece = |id| {
                let bytes = tokenizer.token_bytes(id).unwrap_or_default();
                let piece = String::from_utf8(bytes)
                    .map_or_else(|error| Spelled::Bytes(error.into_bytes()), Spelled::Text);
                Piece { id, piece, special: tokenizer.is_special(id) }
            };
            applied.tokens = Some(token_ids.into_iter().map(piece).collect());
            applied.end_token_ids = Some(tokenizer.special().eos.clone());
        }
        Ok(applied)
    }
}
