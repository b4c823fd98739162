//! Anthropic's messages.
//!
//! Where:  a router of its own; errors get their shape in [`dialect`](crate::http::dialect).
//! Source: Anthropic's API reference, `/v1/messages`, its streaming events, and `/v1/messages/count_tokens`.

mod answer;
mod messages;
mod wire;

use axum::Router;
use axum::routing::post;

use crate::app::App;
use crate::fields::{FieldTable, WireRequest};

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/v1/messages", post(messages::messages))
        .route("/v1/messages/count_tokens", post(messages::count_tokens))
}

/// For the documentation.
pub(crate) fn field_tables() -> Vec<FieldTable> {
    vec![wire::MessagesRequest::FIELDS, wire::CountRequest::FIELDS]
}
