//! `POST /api/embed`, and `/api/embeddings` before it.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use wootz_text::EmbedKind;

use super::keep_alive::{KeepAlive, stay};
use super::plain_name;
use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::bridge::{Caller, cannot};
use crate::catalog::ServedModel;
use crate::fields::{FieldTable, WireRequest, refused};
use crate::http::body::WireBody;
use crate::http::json::Json;
use crate::openai::count_tokens;
use crate::openai::wire::embedding::shorten;
use crate::openai::wire::sampling::OneOrMany;

/// The body.
#[derive(Debug, Deserialize)]
pub(super) struct EmbedRequest {
    model: String,
    input: OneOrMany,
    dimensions: Option<usize>,
    keep_alive: Option<KeepAlive>,
}

impl WireRequest for EmbedRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /api/embed",
        honoured: &["model", "input", "dimensions", "keep_alive"],
        no_effect: &["options"],
        refused: &[refused("truncate", &["true"], "texts are cut at the model's own length")],
    };
}

/// The older body.
#[derive(Debug, Deserialize)]
pub(super) struct EmbeddingsRequest {
    model: String,
    prompt: String,
    keep_alive: Option<KeepAlive>,
}

impl WireRequest for EmbeddingsRequest {
    const FIELDS: FieldTable = FieldTable {
        request: "POST /api/embeddings",
        honoured: &["model", "prompt", "keep_alive"],
        no_effect: &["options"],
        refused: &[],
    };
}

/// Texts as vectors.
pub(super) async fn embed(
    State(app): State<App>,
    caller: Caller,
    WireBody(request): WireBody<EmbedRequest>,
) -> ApiResult<Json<Value>> {
    let start = Instant::now();
    let model = app.open_for(plain_name(&request.model), stay(request.keep_alive.as_ref())?).await?;
    let load = start.elapsed();
    let texts = request.input.into_vec();
    if texts.len() > app.limits.texts {
        return Err(ApiError::invalid("input", format!("expected at most {} texts", app.limits.texts)));
    }
    let (vectors, n_tokens) = vectors(&app, &caller, &model, texts).await?;
    let dim = vectors.first().map_or(0, Vec::len);
    let vectors: Vec<Vec<f32>> = match request.dimensions {
        Some(wanted) if wanted == 0 || wanted > dim => {
            return Err(ApiError::invalid("dimensions", format!("expected 1 to {dim}, got {wanted}")));
        }
        Some(wanted) => vectors.into_iter().map(|vector| shorten(vector, wanted)).collect(),
        None => vectors,
    };
    Ok(Json(json!({
        "model": request.model,
        "embeddings": vectors,
        "total_duration": u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        "load_duration": u64::try_from(load.as_nanos()).unwrap_or(u64::MAX),
        "prompt_eval_count": n_tokens,
    })))
}

/// One text as a vector.
pub(super) async fn embeddings(
    State(app): State<App>,
    caller: Caller,
    WireBody(request): WireBody<EmbeddingsRequest>,
) -> ApiResult<Json<Value>> {
    let model = app.open_for(plain_name(&request.model), stay(request.keep_alive.as_ref())?).await?;
    let (mut vectors, _) = vectors(&app, &caller, &model, vec![request.prompt]).await?;
    Ok(Json(json!({"embedding": vectors.pop()})))
}

async fn vectors(
    app: &App,
    caller: &Caller,
    model: &Arc<ServedModel>,
    texts: Vec<String>,
) -> ApiResult<(Vec<Vec<f32>>, usize)> {
    let embed = model.embed.clone().ok_or_else(|| cannot(model, "embed texts"))?;
    let counter = model.clone();
    app.batch(caller, model, move || {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let n_tokens = texts.iter().map(|text| count_tokens(&counter, text)).sum();
        Ok((embed.embed(&texts, EmbedKind::Plain)?, n_tokens))
    })
    .await
}
