//! `POST /v1/tokenize` and `/v1/detokenize`, as vLLM has them.

use std::sync::Arc;

use axum::extract::State;

use super::wire::token::{DetokenizeRequest, Detokenized, TokenizeRequest, Tokenized};
use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::bridge::cannot;
use crate::catalog::ServedModel;
use crate::http::body::WireBody;
use crate::http::json::Json;

/// A prompt as tokens.
pub(super) async fn tokenize(
    State(app): State<App>,
    WireBody(request): WireBody<TokenizeRequest>,
) -> ApiResult<Json<Tokenized>> {
    let model = named_or_only(&app, request.model.as_deref()).await?;
    let (bare, spell) = (request.add_special_tokens == Some(false), request.return_token_strs);
    let prompt = request.validate()?;
    app.blocking(move || {
        let tokenizer = model.tokenizer.as_ref().ok_or_else(|| cannot(&model, "tell its tokens"))?;
        let tokens = match (&prompt, &model.tokenize) {
            (wootz_text::Prompt::Text(text), _) => tokenizer.encode(text, !bare, true),
            (_, Some(tokenize)) => tokenize(prompt)?,
            (_, None) => return Err(cannot(&model, "hold conversations")),
        };
        let spelled = |id: &u32| tokenizer.token_text(*id).unwrap_or_default().to_owned();
        let token_strs = spell.then(|| tokens.iter().map(spelled).collect());
        let max_model_len = model.card.max_seq_len;
        Ok(Json(Tokenized { count: tokens.len(), max_model_len, tokens, token_strs }))
    })
    .await
}

/// Tokens as text.
pub(super) async fn detokenize(
    State(app): State<App>,
    WireBody(request): WireBody<DetokenizeRequest>,
) -> ApiResult<Json<Detokenized>> {
    let model = named_or_only(&app, request.model.as_deref()).await?;
    app.blocking(move || {
        let tokenizer = model.tokenizer.as_ref().ok_or_else(|| cannot(&model, "tell its tokens"))?;
        let vocab_size = tokenizer.vocab_size();
        if let Some(id) = request.tokens.iter().find(|&&id| id as usize >= vocab_size) {
            let message = format!("expected ids below {vocab_size}, got {id}");
            return Err(ApiError::invalid("tokens", message));
        }
        Ok(Json(Detokenized { prompt: tokenizer.decode(&request.tokens, false) }))
    })
    .await
}

/// The model of that name, or the only one.
pub(super) async fn named_or_only(app: &App, name: Option<&str>) -> ApiResult<Arc<ServedModel>> {
    match (name, app.catalog.list().as_slice()) {
        (Some(name), _) => app.open(name).await,
        (None, [only]) => app.open(&only.name).await,
        (None, _) => Err(ApiError::invalid("model", "required and missing: there are several")),
    }
}
