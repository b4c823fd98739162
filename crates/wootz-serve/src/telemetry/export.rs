//! Sends batches of spans, one POST after the other.
//!
//! Idea:   a collector stands on the same machine or network, so HTTP is spoken in the plain, by hand: one request a
//!         connection. What cannot be sent is lost; tries are few and bounded in time.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{Exporting, Span, TelemetryOptions, span};

/// Spans of one request.
const BATCH: usize = 512;
/// Until a collector must have answered.
const LIMIT: Duration = Duration::from_secs(10);

/// An address in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// With a port.
    authority: String,
    path: String,
}

impl Endpoint {
    /// `http://host:port/path`
    pub(super) fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_odd = |c: char| c.is_control() || c.is_whitespace();
        if authority.is_empty() || authority.contains('@') || url.contains(is_odd) {
            return None;
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        Some(Self { authority, path: if path.is_empty() { "/".to_owned() } else { path.to_owned() } })
    }
}

impl TelemetryOptions {
    /// Whether spans can be sent there: over plain HTTP, with headers that are lines.
    pub(crate) fn is_valid(&self) -> bool {
        let is_line = |text: &String| !text.contains(|c: char| c.is_control());
        Endpoint::parse(&self.endpoint).is_some()
            && self.headers.iter().all(|(name, value)| is_line(name) && is_line(value))
    }
}

impl Exporting {
    /// Gathers and sends; once `over` says that all is over, what is left goes out at once.
    pub(crate) async fn run(mut self, mut over: watch::Receiver<bool>) {
        let endpoint = Endpoint::parse(&self.options.endpoint).expect("checked when the server was bound");
        let mut is_over = false;
        loop {
            let mut batch = Vec::new();
            let mut deadline = None;
            while batch.len() < BATCH && !is_over {
                let until = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
                tokio::select! {
                    span = timeout_at(until, self.spans.recv()) => match span {
                        Ok(Some(span)) => batch.push(span),
                        Ok(None) => is_over = true,
                        Err(_) => break,
                    },
                    _ = over.wait_for(|&over| over) => is_over = true,
                }
                deadline.get_or_insert_with(|| Instant::now() + self.options.interval);
            }
            while let Ok(span) = self.spans.try_recv() {
                batch.push(span);
            }
            if !batch.is_empty() {
                let (endpoint, options) = (endpoint.clone(), self.options.clone());
                // A collector that is away costs these spans.
                let sent = move || batch.chunks(BATCH).try_for_each(|part| send(&endpoint, &options, part));
                let _ = tokio::task::spawn_blocking(sent).await;
            }
            if is_over {
                return;
            }
        }
    }
}

/// Blocks.
fn send(endpoint: &Endpoint, options: &TelemetryOptions, batch: &[Span]) -> std::io::Result<()> {
    let body = span::export(&options.resource, batch).to_string();
    let mut head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        endpoint.path,
        endpoint.authority,
        body.len()
    );
    for (name, value) in &options.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let address = endpoint.authority.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all((head + "\r\n" + &body).as_bytes())?;
    // Its answer says nothing that could be acted on; it is waited for, so that the next batch does not overtake.
    stream.take(4096).read_to_end(&mut Vec::new())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_plain_http() {
        let check = |url: &str, expected: Option<(&str, &str)>| {
            let parsed = Endpoint::parse(url);
            let parts = parsed.as_ref().map(|parsed| (parsed.authority.as_str(), parsed.path.as_str()));
            assert_eq!(parts, expected, "{url}");
        };
        check("http://127.0.0.1:4318/v1/traces", Some(("127.0.0.1:4318", "/v1/traces")));
        check("http://collector", Some(("collector:80", "/")));
        check("http://[::1]:4318/x", Some(("[::1]:4318", "/x")));
        for wrong in [
            "https://collector/v1/traces",
            "http://",
            "http:///x",
            "http://a b/",
            "http://u:p@h/",
            "collector:4318",
        ] {
            check(wrong, None);
        }
    }
}
