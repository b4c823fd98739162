//! Ollama's API.
//!
//! Where:  a router of its own; errors get their shape in [`dialect`](crate::http::dialect).
//! Source: Ollama's `docs/api.md`, and what its Python client's types can express.

mod chat;
mod embed;
mod keep_alive;
mod models;
mod options;
mod wire;

use axum::Router;
use axum::routing::{get, post};

use crate::api_error::ApiResult;
use crate::app::App;
use crate::fields::{FieldTable, WireRequest, read};
use crate::limits::Limits;

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/api/chat", post(chat::chat))
        .route("/api/generate", post(chat::generate))
        .route("/api/embed", post(embed::embed))
        .route("/api/embeddings", post(embed::embeddings))
        .route("/api/tags", get(models::tags))
        .route("/api/ps", get(models::ps))
        .route("/api/show", post(models::show))
        .route("/api/pull", post(models::pull))
        .route("/api/version", get(models::version))
}

/// Reads a body as its handler does.
pub(crate) fn read_body(path: &str, body: &[u8], limits: &Limits) -> Option<ApiResult<()>> {
    Some(match path {
        "/api/chat" => read(body).and_then(|request: wire::ChatRequest| request.validate(limits)).map(drop),
        "/api/generate" => read(body).and_then(|request: wire::GenerateRequest| request.validate()).map(drop),
        "/api/embed" => read::<embed::EmbedRequest>(body).map(drop),
        "/api/embeddings" => read::<embed::EmbeddingsRequest>(body).map(drop),
        "/api/show" => read::<models::ShowRequest>(body).map(drop),
        "/api/pull" => read::<models::PullRequest>(body).map(drop),
        _ => return None,
    })
}

/// For the documentation.
pub(crate) fn field_tables() -> Vec<FieldTable> {
    vec![
        wire::ChatRequest::FIELDS,
        wire::GenerateRequest::FIELDS,
        options::Options::FIELDS,
        embed::EmbedRequest::FIELDS,
        embed::EmbeddingsRequest::FIELDS,
        models::ShowRequest::FIELDS,
        models::PullRequest::FIELDS,
    ]
}

/// The name of a model: Ollama's clients may say `name:latest` for `name`.
fn plain_name(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}
