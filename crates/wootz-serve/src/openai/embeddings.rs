//! `POST /v1/embeddings`

use axum::extract::State;
use wootz_text::EmbedKind;

use super::wire::embedding::{EmbeddingCall, EmbeddingRequest, EmbeddingText, Embeddings, shorten};
use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::bridge::{Caller, cannot};
use crate::catalog::ServedModel;
use crate::http::body::WireBody;
use crate::http::json::Json;

/// Texts as vectors.
pub(super) async fn embeddings(
    State(app): State<App>,
    caller: Caller,
    WireBody(request): WireBody<EmbeddingRequest>,
) -> ApiResult<Json<Embeddings>> {
    let model = app.open(&request.model).await?;
    let call = request.validate(&app.limits)?;
    let embed = model.embed.clone().ok_or_else(|| cannot(&model, "embed texts"))?;
    let dimensions = checked_dimensions(&call, embed.dim())?;
    let texts = texts(&model, &call)?;
    let counter = model.clone();
    let (vectors, n_tokens) = app
        .batch(&caller, &model, move || {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let n_tokens = texts.iter().map(|text| count(&counter, text)).sum();
            Ok((embed.embed(&texts, EmbedKind::Plain)?, n_tokens))
        })
        .await?;
    let vectors = match dimensions {
        Some(dimensions) => vectors.into_iter().map(|vector| shorten(vector, dimensions)).collect(),
        None => vectors,
    };
    Ok(Json(Embeddings::new(&call, vectors, &model.card.name, n_tokens)))
}

fn checked_dimensions(call: &EmbeddingCall, dim: usize) -> ApiResult<Option<usize>> {
    match call.dimensions {
        Some(wanted) if wanted > dim => {
            Err(ApiError::invalid("dimensions", format!("expected at most {dim}, got {wanted}")))
        }
        wanted => Ok(wanted),
    }
}

/// Token ids become text again: the model puts its own special tokens around it.
fn texts(model: &ServedModel, call: &EmbeddingCall) -> ApiResult<Vec<String>> {
    let one = |text: &EmbeddingText| match (text, &model.tokenizer) {
        (EmbeddingText::Text(text), _) => Ok(text.clone()),
        (EmbeddingText::Tokens(ids), Some(tokenizer)) => Ok(tokenizer.decode(ids, true)),
        (EmbeddingText::Tokens(_), None) => {
            Err(ApiError::unsupported("input", "expected texts: this model has no tokenizer"))
        }
    };
    call.input.iter().map(one).collect()
}

/// Tokens of a text.
pub(crate) fn count(model: &ServedModel, text: &str) -> usize {
    model.tokenizer.as_ref().map_or(0, |tokenizer| tokenizer.encode(text, true, true).len())
}
