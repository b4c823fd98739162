//! What a client is told when a request fails.
//!
//! Where:  returned by every handler; becomes a response here and nowhere else.
//! Idea:   a kind decides status, `type` and `code`; each API has its own envelope around the same four facts.
//! Source: the error objects of OpenAI's, Anthropic's and Ollama's API references.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wootz_text::{ModelError, SamplingError};

use crate::catalog::CatalogError;

/// What a handler returns.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// A failed request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    pub kind: ErrorKind,
    pub message: String,
    /// The field that is to blame.
    pub param: Option<String>,
    /// When to come again, in seconds.
    pub retry_after_s: Option<u64>,
}

/// What went wrong, which decides status and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// The body cannot be read, or a value is out of range.
    Invalid,
    /// A field that nobody here knows.
    UnknownField,
    /// A field or value that is known and not supported.
    Unsupported,
    /// The prompt leaves no room.
    ContextFull,
    /// No key, or a wrong one.
    Unauthorized,
    /// A key without the right, or a page of another origin.
    Forbidden,
    /// No such model.
    ModelNotFound,
    /// No such address or object.
    NotFound,
    /// The address exists, the method does not.
    Method,
    /// The client was too slow to send, or the generation took too long.
    Timeout,
    /// The body is too large.
    TooLarge,
    /// The server's queue is full.
    Busy,
    /// The key's rate or budget is used up.
    RateLimited,
    /// The server is about to stop, or a model is not loaded yet.
    Unavailable,
    /// Our fault.
    Internal,
}

impl ErrorKind {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Invalid | Self::UnknownField | Self::Unsupported | Self::ContextFull => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::ModelNotFound | Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy | Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A word for it, for those who count errors.
    pub(crate) fn as_str(self) -> &'static str {
        self.openai_code().unwrap_or(self.openai_type())
    }

    fn openai_type(self) -> &'static str {
        match self {
            Self::Unauthorized => "authentication_error",
            Self::Forbidden => "permission_error",
            Self::Busy | Self::RateLimited => "rate_limit_error",
            Self::Unavailable | Self::Internal => "server_error",
            _ => "invalid_request_error",
        }
    }

    fn openai_code(self) -> Option<&'static str> {
        match self {
            Self::UnknownField => Some("unknown_parameter"),
            Self::Unsupported => Some("unsupported_parameter"),
            Self::ContextFull => Some("context_length_exceeded"),
            Self::Unauthorized => Some("invalid_api_key"),
            Self::ModelNotFound => Some("model_not_found"),
            Self::Timeout => Some("timeout"),
            Self::TooLarge => Some("request_too_large"),
            Self::Busy => Some("server_busy"),
            Self::RateLimited => Some("rate_limit_exceeded"),
            _ => None,
        }
    }
}

impl ApiError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retry_after_s = matches!(kind, ErrorKind::Busy | ErrorKind::Unavailable).then_some(1);
        Self { kind, message: message.into(), param: None, retry_after_s }
    }

    /// A value of `param` that cannot be.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message).about(param)
    }

    /// A value of `param` that others support and this server does not.
    pub(crate) fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message).about(param)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    fn about(self, param: impl Into<String>) -> Self {
        let param = param.into();
        let is_named = self.message.contains(&format!("`{param}`"));
        let message = if is_named { self.message } else { format!("`{param}`: {}", self.message) };
        Self { message, param: Some(param), ..self }
    }

    /// OpenAI's envelope, which is also that of everything that has none of its own.
    pub(crate) fn openai(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind.openai_type(),
            "param": self.param,
            "code": self.kind.openai_code(),
        }})
    }

    /// A response with status and headers around any envelope.
    pub(crate) fn respond(&self, body: &Value) -> Response {
        let mut response = (self.kind.status(), body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == ErrorKind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for ApiError {
    /// In OpenAI's shape; the error itself goes along, so that a router of another API can say it in its own words.
    fn into_response(self) -> Response {
        let mut response = self.respond(&self.openai());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        match &error {
            ModelError::InvalidRequest { field, message } => Self::invalid(wire_name(field), message.clone()),
            ModelError::ContextFull { prompt_tokens, max_tokens } => Self::new(
                ErrorKind::ContextFull,
                format!(
                    "the prompt has {prompt_tokens} tokens, and the model's context is {max_tokens} tokens"
                ),
            )
            .about("messages"),
            ModelError::Busy { .. } => Self::new(ErrorKind::Busy, error.to_string()),
            ModelError::Unsupported { .. } => Self::new(ErrorKind::Unsupported, error.to_string()),
            ModelError::TimedOut => Self::new(ErrorKind::Timeout, "the generation took too long"),
            ModelError::Cancelled => Self::new(ErrorKind::Unavailable, "the generation was cancelled"),
            ModelError::Failed(source) => Self::internal(format!("the model failed: {source}")),
        }
    }
}

impl From<SamplingError> for ApiError {
    fn from(error: SamplingError) -> Self {
        ModelError::from(error).into()
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        let kind = match error {
            CatalogError::NotFound { .. } => ErrorKind::ModelNotFound,
            CatalogError::Unsupported { .. } => ErrorKind::Unsupported,
            CatalogError::Forbidden { .. } => ErrorKind::Forbidden,
            CatalogError::Busy { .. } => ErrorKind::Unavailable,
            CatalogError::Adapter { .. } => ErrorKind::Invalid,
            CatalogError::Failed { .. } => ErrorKind::Internal,
        };
        let message = error.to_string();
        match kind {
            ErrorKind::ModelNotFound => Self { param: Some("model".into()), ..Self::new(kind, message) },
            _ => Self::new(kind, message),
        }
    }
}

/// A domain field as wires spell it: `sampling.penalties.presence` → `presence_penalty`.
fn wire_name(field: &str) -> String {
    let field = field.strip_prefix("sampling.").unwrap_or(field);
    match field {
        "penalties.presence" => "presence_penalty".into(),
        "penalties.frequency" => "frequency_penalty".into(),
        "penalties.repetition" => "repetition_penalty".into(),
        "penalties.last_n" => "repeat_last_n".into(),
        "constraint" => "response_format".into(),
        other => other.replace('.', "_"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_s_error_names_the_wire_s_field() {
        let error = ApiError::from(ModelError::invalid("sampling.penalties.presence", "expected x, got y"));
        assert_eq!(error.param.as_deref(), Some("presence_penalty"));
        assert_eq!(error.message, "`presence_penalty`: expected x, got y");
        assert_eq!(error.kind.status(), StatusCode::BAD_REQUEST);
        let full = ApiError::from(ModelError::ContextFull { prompt_tokens: 9, max_tokens: 4 });
        assert_eq!(full.openai()["error"]["code"], "context_length_exceeded");
    }

    #[test]
    fn busy_says_when_to_come_again() {
        let response = ApiError::from(ModelError::Busy { queued: 3 }).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
