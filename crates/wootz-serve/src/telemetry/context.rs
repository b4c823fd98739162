//! Where a request comes from: the caller's trace, and the address that was asked.
//!
//! Source: W3C Trace Context, level 1, §3.2 `traceparent`.

use axum::extract::MatchedPath;
use axum::http::request::Parts;

/// What a request says of its trace.
#[derive(Debug, Clone, Default)]
pub(crate) struct TraceContext {
    route: String,
    /// Ids of the trace and of the caller's span, in hexadecimal.
    parent: Option<(String, String)>,
}

impl TraceContext {
    /// Reads the head of a request.
    pub(crate) fn of(parts: &Parts) -> Self {
        let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
        let header = parts.headers.get("traceparent").and_then(|value| value.to_str().ok());
        Self { route, parent: header.and_then(parse) }
    }

    pub(super) fn trace_id(&self) -> Option<String> {
        self.parent.as_ref().map(|(trace, _)| trace.clone())
    }

    pub(super) fn parent(&self) -> Option<String> {
        self.parent.as_ref().map(|(_, span)| span.clone())
    }

    pub(super) fn route(&self) -> &str {
        &self.route
    }

    /// As the conventions call it; they have no names for rankings and scores.
    pub(super) fn operation(&self) -> &'static str {
        match self.route.as_str() {
            "/v1/completions" | "/api/generate" => "text_completion",
            "/v1/embeddings" | "/api/embed" | "/api/embeddings" => "embeddings",
            route if route.ends_with("/rerank") => "rerank",
            route if route.ends_with("/score") => "score",
            _ => "chat",
        }
    }
}

/// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`; what is not understood counts as absent.
fn parse(header: &str) -> Option<(String, String)> {
    let mut parts = header.trim().split('-');
    let is_hex = |text: &&str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let is_id = |text: &&str| is_hex(text) && text.bytes().any(|b| b != b'0');
    let version = parts.next().filter(|version| version.len() == 2 && is_hex(version) && *version != "ff")?;
    let trace = parts.next().filter(|id| id.len() == 32 && is_id(id))?;
    let span = parts.next().filter(|id| id.len() == 16 && is_id(id))?;
    parts.next().filter(|flags| flags.len() == 2 && is_hex(flags))?;
    // The first version has four parts; later ones may have more.
    (version != "00" || parts.next().is_none()).then(|| (trace.to_owned(), span.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_s_trace_is_read_or_ignored() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(parse(good), Some(("4bf92f3577b34da6a3ce929d0e0e4736".into(), "00f067aa0ba902b7".into())));
        assert!(parse(&good.replacen("00-", "01-", 1)).is_some());
        for wrong in [
            "",
            "00",
            "00-0-0-0",
            &good.to_uppercase(),
            &good.replacen("00-", "ff-", 1),
            &format!("{good}-x"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
