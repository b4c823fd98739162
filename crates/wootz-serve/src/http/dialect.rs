//! Errors in the words of the API that was called.
//!
//! Where:  the outermost layer: whatever failed, and wherever, passes here on its way out.
//! Source: the error objects of Anthropic's and Ollama's API references; everything else speaks OpenAI's.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ErrorKind};

/// Says an error again in the caller's API.
pub(crate) async fn speak(request: Request, next: Next) -> Response {
    let say = words_of(request.uri().path());
    let response = next.run(request).await;
    match (say, response.extensions().get::<ApiError>()) {
        (Some(say), Some(error)) => error.respond(&say(error)),
        _ => response,
    }
}

fn words_of(path: &str) -> Option<fn(&ApiError) -> Value> {
    match path {
        path if path.starts_with("/v1/messages") => Some(anthropic),
        path if path.starts_with("/api/") => Some(ollama),
        _ => None,
    }
}

/// `{"type": "error", "error": {"type", "message"}}`
pub(crate) fn anthropic(error: &ApiError) -> Value {
    let kind = match error.kind {
        ErrorKind::Unauthorized => "authentication_error",
        ErrorKind::Forbidden => "permission_error",
        ErrorKind::ModelNotFound | ErrorKind::NotFound => "not_found_error",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::Busy | ErrorKind::RateLimited => "rate_limit_error",
        ErrorKind::Unavailable => "overloaded_error",
        ErrorKind::Timeout => "timeout_error",
        ErrorKind::Internal => "api_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": error.message}})
}

/// `{"error": "…"}`
pub(crate) fn ollama(error: &ApiError) -> Value {
    json!({"error": error.message})
}
