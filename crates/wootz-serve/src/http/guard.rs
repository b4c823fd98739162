//! Who may come in: holders of a key, and no page of a stranger's web site.
//!
//! Where:  layers around all handlers.
//! Idea:   a server on this machine is reachable by every page in its browser. A page is known by its `Origin`, and a
//!         name that was bent to this machine (DNS rebinding) by its `Host`; both must be ours or allowed.
//! Source: the Fetch standard's CORS protocol.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api_error::{ApiError, ApiResult, ErrorKind};
use crate::app::App;
use crate::keys::{Holder, Scope};

/// Lets requests through that carry a key, if there are keys.
pub(crate) async fn only_with_key(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> ApiResult<Response> {
    if app.is_draining() {
        return Err(ApiError::new(ErrorKind::Unavailable, "the server is about to stop"));
    }
    let mut request = request;
    if !app.keys.is_empty() {
        let holder = holder(&app, &request)?;
        request.extensions_mut().insert(holder);
    }
    Ok(next.run(request).await)
}

/// Whose request it is, if they may make it now.
fn holder(app: &App, request: &Request) -> ApiResult<Arc<Holder>> {
    let expected = "no API key: expected `Authorization: Bearer KEY`";
    let key = key_of(request.headers()).ok_or_else(|| ApiError::new(ErrorKind::Unauthorized, expected))?;
    let holder = app.keys.iter().find(|holder| holder.is(key));
    let holder =
        holder.ok_or_else(|| ApiError::new(ErrorKind::Unauthorized, "this API key is not known here"))?;
    if let Some(scope) = Scope::of(request.uri().path()).filter(|&scope| !holder.opens(scope)) {
        let message = format!("this API key has no scope `{}`", scope.as_str());
        return Err(ApiError::new(ErrorKind::Forbidden, message));
    }
    match holder.take_request(Instant::now()) {
        Ok(()) => Ok(holder.clone()),
        Err(wait) => {
            let message = format!("this API key has used up its {} per minute", wait.what);
            let error = ApiError::new(ErrorKind::RateLimited, message);
            Err(ApiError { retry_after_s: Some(wait.seconds), ..error })
        }
    }
}

/// OpenAI's header, or Anthropic's.
fn key_of(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.split_once(' '));
    match bearer {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Some(key.trim()),
        _ => headers.get("x-api-key").and_then(|value| value.to_str().ok()),
    }
}

/// Keeps pages of other origins out, and answers for those that are allowed.
pub(crate) async fn only_own_pages(State(app): State<App>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
    if app.is_loopback && !names_this_machine(host) {
        return ApiError::new(
            ErrorKind::Forbidden,
            format!("`Host: {}` does not name this machine", shorten(host)),
        )
        .into_response();
    }
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else { return next.run(request).await };
    let said = origin.to_str().unwrap_or("");
    let is_own = said.split_once("://").is_some_and(|(_, authority)| authority == host);
    let is_allowed = app.origins.iter().any(|allowed| allowed == said || allowed == "*");
    if !is_own && !is_allowed {
        return ApiError::new(
            ErrorKind::Forbidden,
            format!("pages of `{}` may not ask this server", shorten(said)),
        )
        .into_response();
    }
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response =
        if is_preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    if is_allowed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*, authorization"));
    }
    response
}

/// `localhost`, an address, or nothing, each with or without a port.
fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok()
}

fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bent_name_is_not_this_machine() {
        let check = |host: &str, expected: bool| assert_eq!(names_this_machine(host), expected, "{host}");
        check("localhost:8080", true);
        check("127.0.0.1:8080", true);
        check("[::1]:8080", true);
        check("[::1]", true);
        check("", true);
        check("evil.example:8080", false);
        check("localhost.evil.example", false);
    }

    #[test]
    fn keys_come_in_two_headers() {
        let key = |name: &'static str, value: &'static str| {
            let headers = HeaderMap::from_iter([(
                header::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]);
            key_of(&headers).map(String::from)
        };
        assert_eq!(key("authorization", "Bearer abc").as_deref(), Some("abc"));
        assert_eq!(key("authorization", "bearer  abc").as_deref(), Some("abc"));
        assert_eq!(key("x-api-key", "abc").as_deref(), Some("abc"));
        assert_eq!(key("authorization", "Basic abc"), None);
    }
}
