//! OpenAI's API, and what its servers have in common beside it (`tokenize`, `rerank`, `score`).
//!
//! Where:  a router of its own; one file per address, its structs in `wire/`.
//! Source: OpenAI's API reference; vLLM's and llama.cpp's servers for the extensions that their users know.

mod adapters;
mod batches;
mod chat;
mod completions;
mod embeddings;
mod files;
mod models;
mod multipart;
mod rerank;
mod responses;
mod template;
mod tokenize;
pub(crate) mod wire;

use axum::Router;
use axum::routing::{get, post};

use crate::api_error::ApiResult;
use crate::app::App;
use crate::fields::{FieldTable, WireRequest, read};
use crate::limits::Limits;

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/v1/chat/completions", post(chat::chat_completions))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/files", get(files::list).post(files::create))
        .route("/v1/files/{id}", get(files::one).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .route("/v1/batches", get(batches::list).post(batches::create))
        .route("/v1/batches/{id}", get(batches::one))
        .route("/v1/batches/{id}/cancel", post(batches::cancel))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/load_lora_adapter", post(adapters::load))
        .route("/v1/unload_lora_adapter", post(adapters::unload))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*name}", get(models::one))
        .route("/v1/rerank", post(rerank::rerank))
        .route("/v2/rerank", post(rerank::rerank))
        .route("/rerank", post(rerank::rerank))
        .route("/v1/score", post(rerank::score))
        .route("/score", post(rerank::score))
        .route("/v1/tokenize", post(tokenize::tokenize))
        .route("/v1/detokenize", post(tokenize::detokenize))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/apply-template", post(template::apply_template))
}

/// Tokens of a text.
pub(crate) fn count_tokens(model: &crate::catalog::ServedModel, text: &str) -> usize {
    embeddings::count(model, text)
}

/// Reads a body as its handler does.
pub(crate) fn read_body(path: &str, body: &[u8], limits: &Limits) -> Option<ApiResult<()>> {
    Some(match path {
        "/v1/chat/completions" => {
            read(body).and_then(|request: wire::chat::ChatRequest| request.validate(limits)).map(drop)
        }
        "/v1/responses" => {
            read(body).and_then(|request: wire::response::ResponseRequest| request.validate(limits)).map(drop)
        }
        "/v1/completions" => read(body)
            .and_then(|request: wire::completion::CompletionRequest| request.validate(limits))
            .map(drop),
        "/v1/embeddings" => read(body)
            .and_then(|request: wire::embedding::EmbeddingRequest| request.validate(limits))
            .map(drop),
        "/v1/tokenize" => {
            read(body).and_then(|request: wire::token::TokenizeRequest| request.validate()).map(drop)
        }
        "/v1/detokenize" => read::<wire::token::DetokenizeRequest>(body).map(drop),
        "/apply-template" => read::<template::TemplateRequest>(body).map(drop),
        "/v1/batches" => read::<batches::BatchRequest>(body).map(drop),
        "/v1/rerank" => read::<rerank::RerankRequest>(body).map(drop),
        "/v1/score" => read::<rerank::ScoreRequest>(body).map(drop),
        "/v1/load_lora_adapter" => read::<adapters::LoadRequest>(body).map(drop),
        "/v1/unload_lora_adapter" => read::<adapters::UnloadRequest>(body).map(drop),
        _ => return None,
    })
}

/// For the documentation.
pub(crate) fn field_tables() -> Vec<FieldTable> {
    vec![
        wire::chat::ChatRequest::FIELDS,
        wire::response::ResponseRequest::FIELDS,
        wire::completion::CompletionRequest::FIELDS,
        wire::embedding::EmbeddingRequest::FIELDS,
        batches::BatchRequest::FIELDS,
        rerank::RerankRequest::FIELDS,
        rerank::ScoreRequest::FIELDS,
        wire::token::TokenizeRequest::FIELDS,
        wire::token::DetokenizeRequest::FIELDS,
        template::TemplateRequest::FIELDS,
        adapters::LoadRequest::FIELDS,
        adapters::UnloadRequest::FIELDS,
    ]
}
