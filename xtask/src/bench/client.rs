//! A small HTTP client for loopback: whole answers, and streams whose events are counted as they come.
//!
//! Where:  `bench serve` and `bench load`.
//! Idea:   one request a connection, blocking; nothing of a stream is parsed but where its events begin, so that the
//!         client takes little of the cores that are measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Nothing that is asked here takes longer without a byte.
const SILENCE: Duration = Duration::from_secs(180);
/// No answer that is read whole is longer.
const MAX_ANSWER: u64 = 64 << 20;

/// A whole answer.
pub(crate) struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The body as JSON, of an answer that went well.
    pub fn json(&self) -> Result<Value> {
        ensure!(
            self.status == 200,
            "status {}: {}",
            self.status,
            self.body.chars().take(300).collect::<String>()
        );
        serde_json::from_str(&self.body).context("reading an answer")
    }
}

/// Opens a connection.
pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(20))?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a request; the connection is closed by the server after its answer.
pub(crate) fn send(stream: &mut TcpStream, method: &str, path: &str, body: &[u8]) -> std::io::Result<()> {
    send_as(stream, method, path, "application/json", body)
}

/// The same with a body of another type.
pub(crate) fn send_as(
    stream: &mut TcpStream,
    method: &str,
    path: &str,
    content_type: &str,
    body: &[u8],
) -> std::io::Result<()> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request)
}

/// Reads an answer to its end.
pub(crate) fn receive(stream: &TcpStream) -> Result<Answer> {
    let mut bytes = Vec::new();
    let _closed_early = stream.take(MAX_ANSWER).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let head = head.to_ascii_lowercase();
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    Ok(Answer { status, head, body })
}

/// Asks and reads the answer.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<Answer> {
    let mut stream = connect(address)?;
    // A server that refuses a body may close before all of it was sent, and still has answered.
    let _refused = send(&mut stream, method, path, body.as_bytes());
    receive(&stream)
}

/// Asks for a stream and calls `seen` at every event, until it returns false or the stream ends. Gives the time until the
/// first event.
pub(crate) fn events(
    address: SocketAddr,
    path: &str,
    body: &Value,
    mut seen: impl FnMut() -> bool,
) -> Result<Duration> {
    let mut stream = connect(address)?;
    let start = Instant::now();
    send(&mut stream, "POST", path, body.to_string().as_bytes())?;
    let mut reader = BufReader::with_capacity(4096, stream);
    let (mut line, mut first) = (Vec::new(), None);
    reader.read_until(b'\n', &mut line)?;
    ensure!(line.windows(5).any(|word| word == b" 200 "), "{}", String::from_utf8_lossy(&line).trim());
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        // The end tells no token, nor does a chunk of usage alone.
        if line.starts_with(b"data: {") && !line.windows(12).any(|part| part == b"\"choices\":[]") {
            first.get_or_insert_with(|| start.elapsed());
            if !seen() {
                break;
            }
        }
    }
    first.context("a stream without events")
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        let Some(piece) = rest.get(..size).filter(|_| size > 0) else { break };
        whole += piece;
        body = rest[size..].strip_prefix("\r\n").unwrap_or("");
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn answers_are_read_whole_and_events_are_counted() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n";
        let answer = ask(answering(chunked), "GET", "/", "").unwrap();
        assert_eq!((answer.status, answer.json().unwrap()), (200, serde_json::json!([1, 2])));
        let refused = ask(answering("HTTP/1.1 429 Too Many\r\n\r\nlater"), "GET", "/", "").unwrap();
        assert!(refused.json().unwrap_err().to_string().contains("429"));
        let stream = "HTTP/1.1 200 OK\r\n\r\ndata: {\"a\":1}\n\ndata: {\"a\":2}\n\ndata: {\"choices\":[]}\n\ndata: [DONE]\n\n";
        let mut n = 0;
        events(answering(stream), "/", &Value::Null, || {
            n += 1;
            true
        })
        .unwrap();
        assert_eq!(n, 2);
        assert!(events(answering("HTTP/1.1 500 No\r\n\r\n"), "/", &Value::Null, || true).is_err());
    }
}
