//! One request: redirects followed by hand, the token kept at home, failures sorted into passing and lasting ones.
//!
//! Where:  under [`Hub`](crate::Hub); `download` and the listing both go through [`Client::get`].
//! Idea:   a redirect may lead to any host, so every hop decides anew whether it may see the token; what the hops say
//!         about the file (`X-Linked-…`) is collected on the way.
//! Source: RFC 9110 (redirects, ranges, `Retry-After`); the headers of the Hub as `huggingface_hub` reads them.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ureq::http::header::{HeaderMap, LOCATION};
use ureq::http::{StatusCode, Uri};
use ureq::{Agent, BodyReader};

use crate::error::{Error, Result, printable};
use crate::wire::Refusal;

const MAX_REDIRECTS: usize = 10;
/// Failures in a row, without a byte gained between them, before we give up.
const MAX_ATTEMPTS: u32 = 6;
/// The longest wait that we let a server ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Sends requests. Shared by all threads of a [`Hub`](crate::Hub).
pub(crate) struct Client {
    pub agent: Agent,
    /// Where the token may go.
    pub home: Uri,
    pub authorization: Option<String>,
    pub cancelled: AtomicBool,
    /// Wait before the second attempt; doubles from there.
    pub first_backoff: Duration,
}

/// What is wanted besides the address.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range<'a> {
    /// First byte.
    pub start: u64,
    /// ETag of the version that the bytes before `start` are of.
    pub if_range: Option<&'a str>,
}

/// An answer with a body that is still to be read.
pub(crate) struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub url: String,
    /// What the Hub's hop said about the file before it redirected.
    pub linked: Linked,
    pub body: BodyReader<'static>,
}

/// The Hub's own words about a file, from the headers of its redirect.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linked {
    pub etag: Option<String>,
    pub size: Option<u64>,
}

/// A failed attempt, and whether another one makes sense.
#[derive(Debug)]
pub(crate) struct Failure {
    pub error: Error,
    pub is_passing: bool,
    pub retry_after: Option<Duration>,
}

impl Client {
    /// One attempt at `GET url`: 200, 206 and 416 are answers, anything else is a [`Failure`].
    pub fn get(&self, url: &str, range: Option<Range>) -> Result<Response, Failure> {
        let mut url: Uri = url.parse().map_err(|_| Failure::lasting(wire(url, "not an address")))?;
        let mut linked = Linked::default();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.hop(&url, range)?;
            let (parts, body) = response.into_parts();
            linked.etag = header(&parts.headers, "x-linked-etag").map(entity_tag).or(linked.etag);
            linked.size =
                header(&parts.headers, "x-linked-size").and_then(|s| s.parse().ok()).or(linked.size);
            let status = parts.status;
            if status.is_redirection() && parts.headers.contains_key(LOCATION) {
                url = redirected(&url, &parts.headers).map_err(Failure::lasting)?;
                continue;
            }
            let mut body = body.into_reader();
            if matches!(
                status,
                StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
            ) {
                let url = without_query(&url);
                return Ok(Response { status: status.as_u16(), headers: parts.headers, url, linked, body });
            }
            return Err(refusal(&url, status, &parts.headers, &mut body));
        }
        let why = format!("more than {MAX_REDIRECTS} in a row");
        Err(Failure::lasting(Error::Redirect { url: without_query(&url), why }))
    }

    /// A request without following where it leads.
    fn hop(&self, url: &Uri, range: Option<Range>) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        self.check_cancelled().map_err(Failure::lasting)?;
        let mut request = self.agent.get(url).header("Accept-Encoding", "identity");
        if let Some(authorization) = self.authorization.as_deref().filter(|_| same_origin(url, &self.home)) {
            request = request.header("Authorization", authorization);
        }
        if let Some(Range { start, if_range }) = range {
            request = request.header("Range", format!("bytes={start}-"));
            if let Some(etag) = if_range {
                request = request.header("If-Range", etag);
            }
        }
        request.call().map_err(|error| self.network_failure(&without_query(url), error))
    }

    /// A connection that broke; [`Error::Cancelled`] when we broke it ourselves.
    fn network_failure(&self, url: &str, error: ureq::Error) -> Failure {
        if self.check_cancelled().is_err() {
            return Failure::lasting(Error::Cancelled);
        }
        let is_passing = matches!(
            error,
            ureq::Error::Io(_)
                | ureq::Error::Timeout(_)
                | ureq::Error::HostNotFound
                | ureq::Error::ConnectionFailed
                | ureq::Error::Protocol(_)
        );
        // A certificate that is not trusted comes as an I/O error, too; another attempt would not help.
        let mut why = error.to_string();
        let is_untrusted = why.contains("certificate");
        if is_untrusted {
            why.push_str("\nhint: SSL_CERT_FILE names a file of certificates to trust");
        }
        let is_passing = is_passing && !is_untrusted;
        Failure { error: Error::Network { url: url.into(), why }, is_passing, retry_after: None }
    }

    /// Reads a body of at most `limit_bytes`.
    pub fn read_all(&self, response: &mut Response, limit_bytes: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let read = response.body.by_ref().take(limit_bytes + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.body_failure(&response.url, error))?;
        if bytes.len() as u64 > limit_bytes {
            let why = format!("expected at most {limit_bytes} bytes, got more");
            return Err(Failure::lasting(wire(&response.url, &why)));
        }
        Ok(bytes)
    }

    /// A body that broke off.
    pub fn body_failure(&self, url: &str, error: io::Error) -> Failure {
        if self.check_cancelled().is_err() {
            return Failure::lasting(Error::Cancelled);
        }
        let error = Error::Network { url: url.into(), why: error.to_string() };
        Failure { error, is_passing: true, retry_after: None }
    }

    pub fn check_cancelled(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Runs `attempt` until it succeeds or fails for good.
    pub fn retrying<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        let mut backoff = Backoff::new(self.first_backoff);
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(failure) => backoff.pause(failure, &|| self.check_cancelled())?,
            };
        }
    }
}

impl Failure {
    pub fn lasting(error: Error) -> Self {
        Self { error, is_passing: false, retry_after: None }
    }
}

/// Counts failures and waits between attempts, twice as long each time.
pub(crate) struct Backoff {
    first: Duration,
    attempts: u32,
}

impl Backoff {
    pub fn new(first: Duration) -> Self {
        Self { first, attempts: 0 }
    }

    /// Something was gained since the last failure: counting starts anew.
    pub fn gained(&mut self) {
        self.attempts = 0;
    }

    /// How many failures in a row there were.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Waits before another attempt, or gives the error when there should be none.
    pub fn pause(&mut self, failure: Failure, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
        self.attempts += 1;
        if !failure.is_passing || self.attempts >= MAX_ATTEMPTS {
            return Err(failure.error);
        }
        let backoff = self.first.saturating_mul(1 << (self.attempts - 1)).min(MAX_BACKOFF);
        let wait = failure.retry_after.unwrap_or(backoff);
        if wait > MAX_RETRY_AFTER {
            let url = if let Error::Status { url, .. } = failure.error { url } else { String::new() };
            return Err(Error::Busy { url, wait });
        }
        wait_for(wait, go_on)
    }
}

/// Sleeps in small steps, so that cancelling does not wait.
pub(crate) fn wait_for(wait: Duration, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
    let end = Instant::now() + wait;
    loop {
        go_on()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// A header's value as text.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `W/"abc"` and `"abc"` → `abc`.
pub(crate) fn entity_tag(value: &str) -> String {
    value.trim_start_matches("W/").trim_matches('"').to_owned()
}

/// The address as it may stand in a message: queries of redirects hold signatures.
pub(crate) fn without_query(url: &Uri) -> String {
    let text = url.to_string();
    text.split('?').next().unwrap_or("").to_owned()
}

pub(crate) fn wire(url: &str, why: &str) -> Error {
    Error::Wire { url: url.split('?').next().unwrap_or("").into(), why: why.into() }
}

/// Scheme, host and port, with the scheme's own port filled in.
fn origin(url: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let default_port = if url.scheme_str() == Some("https") { 443 } else { 80 };
    let host = url.host().map(str::to_ascii_lowercase);
    (url.scheme_str(), host, Some(url.port_u16().unwrap_or(default_port)))
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    origin(a) == origin(b)
}

/// Where a redirect leads.
fn redirected(from: &Uri, headers: &HeaderMap) -> Result<Uri> {
    let refuse = |why: String| Error::Redirect { url: without_query(from), why };
    let location = header(headers, "location").ok_or_else(|| refuse("its address is no text".into()))?;
    let (scheme, authority) =
        (from.scheme_str().unwrap_or("https"), from.authority().map_or("", |a| a.as_str()));
    let absolute = match location {
        _ if location.contains("://") => location.to_owned(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ => {
            let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        }
    };
    let to: Uri = absolute.parse().map_err(|_| refuse(format!("no address: {:?}", printable(location))))?;
    match (from.scheme_str(), to.scheme_str()) {
        (_, Some("https")) | (Some("http"), Some("http")) if to.host().is_some() => Ok(to),
        (Some("https"), Some("http")) => Err(refuse("it leads from https to http".into())),
        _ => Err(refuse(format!("expected http or https, got {:?}", printable(location)))),
    }
}

/// Turns an answer that is none into an error, with what the server says about it.
fn refusal(url: &Uri, status: StatusCode, headers: &HeaderMap, body: &mut dyn Read) -> Failure {
    let code = header(headers, "x-error-code").unwrap_or("");
    let message = header(headers, "x-error-message").map(printable).unwrap_or_else(|| message_in(body));
    let (url, what) = (without_query(url), url.path().to_owned());
    let is_hidden = status == StatusCode::UNAUTHORIZED && code == "RepoNotFound";
    let error = match status {
        StatusCode::NOT_FOUND => Error::NotFound { what, message },
        _ if is_hidden => Error::NotFound { what, message },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::AccessRefused { what, message },
        _ => Error::Status { url, status: status.as_u16(), message },
    };
    let is_passing = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    let retry_after =
        header(headers, "retry-after").and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
    Failure { error, is_passing, retry_after }
}

/// The `error` of a small JSON body, or its beginning.
fn message_in(body: &mut dyn Read) -> String {
    let mut bytes = Vec::new();
    // The message is a courtesy; the status says what matters.
    let _unreadable = body.take(4096).read_to_end(&mut bytes);
    let refusal: Option<Refusal> = serde_json::from_slice(&bytes).ok();
    printable(&refusal.and_then(|r| r.error).unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_the_standard_says() {
        let check = |from: &str, location: &str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location.parse().unwrap());
            let got = redirected(&from.parse().unwrap(), &headers).ok().map(|to| to.to_string());
            assert_eq!(got.as_deref(), expected, "{from} to {location}");
        };
        check("https://a/b/c?q", "https://x/y?z", Some("https://x/y?z"));
        check("https://a/b/c", "/y", Some("https://a/y"));
        check("https://a:1/b/c", "y", Some("https://a:1/b/y"));
        check("https://a/b", "//x/y", Some("https://x/y"));
        check("http://a/b", "http://x/y", Some("http://x/y"));
        check("https://a/b", "http://x/y", None);
        check("https://a/b", "file:///etc/passwd", None);
        check("https://a/b", "ftp://x/y", None);
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let check = |a: &str, b: &str, expected| {
            assert_eq!(same_origin(&a.parse().unwrap(), &b.parse().unwrap()), expected, "{a} and {b}");
        };
        check("https://hub.example", "https://HUB.example:443/x", true);
        check("https://hub.example", "http://hub.example", false);
        check("https://hub.example", "https://hub.example:444", false);
        check("https://hub.example", "https://cdn.hub.example", false);
        check("https://hub.example", "https://hub.example.evil", false);
        check("https://hub.example", "https://hub.example@evil/", false);
    }
}
