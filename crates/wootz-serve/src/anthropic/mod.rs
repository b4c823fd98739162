//! Anthropic's messages.
//!
//! Where:  a router of its own; errors get their shape in [`dialect`](crate::http::dialect).
//! Source: Anthropic's API reference, `/v1/messages`, its streaming events, and `/v1/messages/count_tokens`.

mod answer;
mod messages;
mod wire;

use axum::Router;
use axum::routing::post;

use crate::api_error::ApiResult;
use crate::app::App;
use crate::fields::{FieldTable, WireRequest, read};
use crate::limits::Limits;

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/v1/messages", post(messages::messages))
        .route("/v1/messages/count_tokens", post(messages::count_tokens))
}

/// Reads a body as its handler does.
pub(crate) fn read_body(path: &str, body: &[u8], limits: &Limits) -> Option<ApiResult<()>> {
    Some(match path {
        "/v1/messages" => {
            read(body).and_then(|request: wire::MessagesRequest| request.validate(limits)).map(drop)
        }
        "/v1/messages/count_tokens" => {
            read(body).and_then(|request: wire::CountRequest| request.validate(limits)).map(drop)
        }
        _ => return None,
    })
}

/// For the documentation.
pub(crate) fn field_tables() -> Vec<FieldTable> {
    vec![wire::MessagesRequest::FIELDS, wire::CountRequest::FIELDS]
}
