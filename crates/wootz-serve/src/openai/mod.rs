//! OpenAI's API, and what its servers have in common beside it (`tokenize`, `rerank`, `score`).
//!
//! Where:  a router of its own; one file per address, its structs in `wire/`.
//! Source: OpenAI's API reference; vLLM's and llama.cpp's servers for the extensions that their users know.

mod chat;
mod completions;
mod embeddings;
mod models;
mod tokenize;
mod wire;

use axum::Router;
use axum::routing::{get, post};

use crate::app::App;
use crate::fields::{FieldTable, WireRequest};

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/v1/chat/completions", post(chat::chat_completions))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*name}", get(models::one))
        .route("/v1/tokenize", post(tokenize::tokenize))
        .route("/v1/detokenize", post(tokenize::detokenize))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
}

/// For the documentation.
pub(crate) fn field_tables() -> Vec<FieldTable> {
    vec![
        wire::chat::ChatRequest::FIELDS,
        wire::completion::CompletionRequest::FIELDS,
        wire::embedding::EmbeddingRequest::FIELDS,
        wire::token::TokenizeRequest::FIELDS,
        wire::token::DetokenizeRequest::FIELDS,
    ]
}
