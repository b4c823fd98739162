//! Two listening ports, one thread per connection, and the routes of the Hub that a download touches.
//!
//! Where:  started by tests and by the example `hub_server`.
//! Idea:   a route gives an [`Answer`]; faults act on answers in one place, as the last thing before the wire.
//! Source: the Hub's HTTP API and the requests that the `huggingface_hub` client makes.

use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use super::fault::{Fault, Hop};
use super::http::{Head, Request, unescape};
use super::repo::{Commit, FakeFile, FakeRepo};

/// How often a waiting thread looks whether the server has ended.
const TICK: Duration = Duration::from_millis(50);

/// A running fake Hub. It ends when dropped.
pub struct HubServer {
    shared: Arc<Shared>,
    listeners: Vec<JoinHandle<()>>,
}

/// Which of the two ports a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The Hub, which may see the token.
    Hub,
    /// The host of large files, which may not.
    Cdn,
}

/// A request and where it came to.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The port.
    pub host: Host,
    /// The request.
    pub request: Request,
}

struct Shared {
    repo: Mutex<FakeRepo>,
    faults: Mutex<Vec<(Hop, String, Fault)>>,
    recorded: Mutex<Vec<Recorded>>,
    ended: AtomicBool,
    hub: SocketAddr,
    cdn: SocketAddr,
}

/// A response before faults: a head, and the bytes that a range may cut.
struct Answer {
    head: Head,
    body: Vec<u8>,
    hop: Hop,
    /// The file that it is about, for finding its faults.
    path: String,
}

impl HubServer {
    /// Serves `repo` on two free ports of this machine.
    pub fn start(repo: FakeRepo) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port on this machine");
        let (hub, cdn) = (bind(), bind());
        let address = |listener: &TcpListener| listener.local_addr().expect("a bound port has an address");
        let shared = Arc::new(Shared {
            repo: Mutex::new(repo),
            faults: Mutex::default(),
            recorded: Mutex::default(),
            ended: AtomicBool::new(false),
            hub: address(&hub),
            cdn: address(&cdn),
        });
        let listen = |listener: TcpListener, host: Host| {
            let shared = shared.clone();
            thread::spawn(move || accept(&listener, host, &shared))
        };
        let listeners = vec![listen(hub, Host::Hub), listen(cdn, Host::Cdn)];
        Self { shared, listeners }
    }

    /// What to give as `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.hub)
    }

    /// Address of the host of large files.
    pub fn cdn(&self) -> String {
        format!("http://{}", self.shared.cdn)
    }

    /// Lets `fault` happen at the next request of this kind whose file is `path` (any, where empty).
    pub fn fault(&self, hop: Hop, path: &str, fault: Fault) {
        self.shared.faults.lock().expect("no thread panics").push((hop, path.into(), fault));
    }

    /// Replaces a file in a new commit on `main`.
    pub fn replace(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.shared.repo.lock().expect("no thread panics").replace(path, bytes.into());
    }

    /// The newest commit's name.
    pub fn commit(&self) -> String {
        self.shared.repo.lock().expect("no thread panics").head().sha()
    }

    /// All requests so far.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.shared.recorded.lock().expect("no thread panics").clone()
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for address in [self.shared.hub, self.shared.cdn] {
            // A connection wakes the thread that waits for one; a failure means that it has ended already.
            let _woken = TcpStream::connect(address);
        }
        for listener in self.listeners.drain(..) {
            let _ended = listener.join();
        }
    }
}

fn accept(listener: &TcpListener, host: Host, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = shared.clone();
        // A client that hangs up is no error of the server.
        thread::spawn(move || serve(stream, host, &shared).ok());
    }
}

/// Answers the requests of one connection until either side closes.
fn serve(mut stream: TcpStream, host: Host, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = Request::read(&mut reader)? {
        shared.recorded.lock().expect("no thread panics").push(Recorded { host, request: request.clone() });
        let answer = match host {
            Host::Hub => hub_answer(&request, shared),
            Host::Cdn => cdn_answer(&request, shared),
        };
        let fault = shared.take_fault(&answer);
        if !send(&mut stream, &request, answer, fault, shared)? {
            return Ok(());
        }
    }
    Ok(())
}

impl Shared {
    fn take_fault(&self, answer: &Answer) -> Option<Fault> {
        let mut faults = self.faults.lock().expect("no thread panics");
        let fits = |(hop, path, _): &(Hop, String, Fault)| {
            *hop == answer.hop && (path.is_empty() || *path == answer.path)
        };
        let index = faults.iter().position(fits)?;
        Some(faults.remove(index).2)
    }
}

// --- the Hub's port ---------------------------------------------------------------------------------------------

fn hub_answer(request: &Request, shared: &Shared) -> Answer {
    let repo = shared.repo.lock().expect("no thread panics");
    let hop = if request.path.contains("/resolve/") { Hop::Resolve } else { Hop::Api };
    let refuse = |status, code: &'static str| {
        let message = format!("{code}: {}", request.path);
        let head = Head::new(status).with("X-Error-Code", code).with("X-Error-Message", &message);
        Answer { head, body: json!({ "error": message }).to_string().into(), hop, path: String::new() }
    };
    if let Some(token) = &repo.required_token
        && request.header("authorization") != Some(&format!("Bearer {token}"))
    {
        return refuse(401, "GatedRepo");
    }
    let api = format!("/api/models/{}", repo.id);
    let cache = format!("/api/resolve-cache/models/{}/", repo.id);
    let resolve = format!("/{}/resolve/", repo.id);
    if let Some(rest) = request.path.strip_prefix(&cache) {
        let Some((commit, path)) = repo.split_revision(rest) else { return refuse(404, "EntryNotFound") };
        let Some(file) = commit.files.get(path) else { return refuse(404, "EntryNotFound") };
        return small_file(file, commit, path);
    }
    if let Some(rest) = request.path.strip_prefix(&resolve) {
        let Some((commit, path)) = repo.split_revision(rest) else { return refuse(404, "RevisionNotFound") };
        let Some(file) = commit.files.get(path) else { return refuse(404, "EntryNotFound") };
        return redirect(file, commit, path, &repo.id, shared.cdn);
    }
    let Some(rest) = request.path.strip_prefix(&api) else { return refuse(404, "RepoNotFound") };
    if let Some(revision) = rest.strip_prefix("/tree/") {
        return match repo.resolve(revision.trim_end_matches('/')) {
            Some(commit) => json_answer(tree(commit)),
            None => refuse(404, "RevisionNotFound"),
        };
    }
    match repo.resolve(rest.strip_prefix("/revision/").unwrap_or("main")) {
        Some(commit) => json_answer(info(&repo, commit, request.query.contains("blobs=true"))),
        None => refuse(404, "RevisionNotFound"),
    }
}

impl FakeRepo {
    /// `main/a/b.json` → the commit and `a/b.json`; a revision may hold slashes itself.
    fn split_revision<'a>(&self, rest: &'a str) -> Option<(&Commit, &'a str)> {
        let splits = rest.match_indices('/').map(|(at, _)| (&rest[..at], &rest[at + 1..]));
        splits.filter_map(|(revision, path)| Some((self.resolve(revision)?, path))).next()
    }
}

fn json_answer(value: Value) -> Answer {
    let head = Head::new(200).with("Content-Type", "application/json; charset=utf-8");
    Answer { head, body: value.to_string().into(), hop: Hop::Api, path: String::new() }
}

/// What `/api/models/ID/revision/REV` says.
fn info(repo: &FakeRepo, commit: &Commit, wants_blobs: bool) -> Value {
    let sibling = |(path, file): (&String, &FakeFile)| {
        let mut sibling = json!({ "rfilename": path });
        if wants_blobs && repo.lists_blobs {
            sibling["blobId"] = json!(file.git_oid());
            sibling["size"] = json!(file.bytes.len());
            if file.is_lfs {
                sibling["lfs"] = lfs(file, "sha256");
            }
        }
        sibling
    };
    json!({
        "_id": "0123456789abcdef01234567", "id": repo.id, "modelId": repo.id, "sha": commit.sha(),
        "private": false, "gated": repo.required_token.is_some(), "disabled": false, "tags": [], "downloads": 0,
        "likes": 0, "createdAt": "2024-01-01T00:00:00.000Z", "lastModified": "2024-01-01T00:00:00.000Z",
        "siblings": commit.files.iter().map(sibling).collect::<Vec<_>>(),
    })
}

/// What `/api/models/ID/tree/REV` says.
fn tree(commit: &Commit) -> Value {
    let entry = |(path, file): (&String, &FakeFile)| {
        let mut entry =
            json!({ "type": "file", "oid": file.git_oid(), "size": file.bytes.len(), "path": path });
        if file.is_lfs {
            entry["lfs"] = lfs(file, "oid");
        }
        entry
    };
    Value::Array(commit.files.iter().map(entry).collect())
}

fn lfs(file: &FakeFile, digest_key: &str) -> Value {
    json!({ digest_key: file.etag(), "size": file.bytes.len(), "pointerSize": file.lfs_pointer().len() })
}

/// Large files live on the other host; small ones behind a relative redirect on this one.
fn redirect(file: &FakeFile, commit: &Commit, path: &str, id: &str, cdn: SocketAddr) -> Answer {
    let (status, location) = if file.is_lfs {
        (302, format!("http://{cdn}/files/{}?signature=for-this-file&name={}", file.etag(), escape(path)))
    } else {
        (307, format!("/api/resolve-cache/models/{id}/{}/{}", commit.sha(), escape(path)))
    };
    let head = Head::new(status)
        .with("Location", location)
        .with("X-Repo-Commit", commit.sha())
        .with("X-Linked-Size", file.bytes.len())
        .with("X-Linked-ETag", format!("\"{}\"", file.etag()))
        .with("Accept-Ranges", "bytes");
    Answer { head, body: Vec::new(), hop: Hop::Resolve, path: path.into() }
}

/// Percent-escapes what may not stand in an address.
fn escape(path: &str) -> String {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~/".contains(b);
    path.bytes().map(|b| if is_plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn small_file(file: &FakeFile, commit: &Commit, path: &str) -> Answer {
    let head = Head::new(200)
        .with("X-Repo-Commit", commit.sha())
        .with("ETag", format!("\"{}\"", file.etag()))
        .with("Accept-Ranges", "bytes");
    Answer { head, body: file.bytes.clone(), hop: Hop::Body, path: path.into() }
}

// --- the port of large files ------------------------------------------------------------------------------------

/// Its ETag is its own, not the Hub's, as with real object stores.
fn cdn_answer(request: &Request, shared: &Shared) -> Answer {
    let repo = shared.repo.lock().expect("no thread panics");
    let sha256 = request.path.strip_prefix("/files/").unwrap_or("");
    let Some(file) = repo.by_sha256(sha256).filter(|_| request.query.contains("signature=for-this-file"))
    else {
        return Answer { head: Head::new(403), body: Vec::new(), hop: Hop::Body, path: String::new() };
    };
    let path = request.query.split_once("name=").map_or(String::new(), |(_, name)| unescape(name));
    let head = Head::new(200)
        .with("Content-Type", "binary/octet-stream")
        .with("ETag", format!("\"store-{}\"", &sha256[..16]))
        .with("Accept-Ranges", "bytes");
    Answer { head, body: file.bytes.clone(), hop: Hop::Body, path }
}

// --- onto the wire ----------------------------------------------------------------------------------------------

/// Sends an answer, spoiled by `fault`. Gives whether the connection may go on.
fn send(
    stream: &mut TcpStream,
    request: &Request,
    mut answer: Answer,
    fault: Option<Fault>,
    shared: &Shared,
) -> io::Result<bool> {
    match &fault {
        Some(Fault::Status { status, retry_after_s }) => {
            answer.head = Head::new(*status);
            answer.body = b"a fault on demand".to_vec();
            if let Some(seconds) = retry_after_s {
                answer.head = answer.head.with("Retry-After", seconds);
            }
        }
        Some(Fault::RedirectTo(url)) => {
            answer.head = Head::new(302).with("Location", url);
            answer.body.clear();
        }
        Some(Fault::Answer(body)) => {
            answer.head = Head::new(200).with("Content-Type", "application/json");
            answer.body = body.clone().into();
        }
        Some(Fault::WrongBytes) => answer.body.iter_mut().for_each(|byte| *byte ^= 0x55),
        Some(Fault::Truncated(n_bytes)) => answer.body.truncate(*n_bytes),
        Some(Fault::Endless) => return endless(stream, &answer.head, shared),
        _ => {}
    }
    if answer.hop == Hop::Body && answer.head.status == 200 && !matches!(fault, Some(Fault::IgnoreRange)) {
        cut_to_range(request, &mut answer);
    }
    answer.head = answer.head.with("Content-Length", answer.body.len());
    answer.head.write(stream)?;
    if request.method == "HEAD" {
        return Ok(true);
    }
    send_body(stream, &answer.body, fault, shared)
}

/// Honours `Range` unless `If-Range` names another version.
fn cut_to_range(request: &Request, answer: &mut Answer) {
    let etag = answer.head.headers.iter().find(|(name, _)| *name == "ETag").map(|(_, value)| value.as_str());
    let Some((start, end)) = request.range() else { return };
    if request.header("if-range").is_some_and(|wanted| Some(wanted) != etag) {
        return;
    }
    let total = answer.body.len();
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    if start >= total {
        answer.head = Head::new(416).with("Content-Range", format!("bytes */{total}"));
        answer.body.clear();
        return;
    }
    let end =
        end.and_then(|end| usize::try_from(end).ok()).map_or(total, |end| end.saturating_add(1).min(total));
    answer.body = answer.body[start..end.max(start)].to_vec();
    answer.head.status = 206;
    let last = start + answer.body.len().saturating_sub(1);
    answer.head.headers.push(("Content-Range", format!("bytes {start}-{last}/{total}")));
}

fn send_body(stream: &mut TcpStream, body: &[u8], fault: Option<Fault>, shared: &Shared) -> io::Result<bool> {
    match fault {
        Some(Fault::DropAfter(n_bytes)) => {
            stream.write_all(&body[..n_bytes.min(body.len())])?;
            stream.shutdown(std::net::Shutdown::Both)?;
            Ok(false)
        }
        Some(Fault::StallAfter(n_bytes)) => {
            stream.write_all(&body[..n_bytes.min(body.len())])?;
            while !shared.ended.load(Ordering::SeqCst) {
                thread::sleep(TICK);
            }
            Ok(false)
        }
        Some(Fault::Slow { chunk_bytes, pause }) => {
            for chunk in body.chunks(chunk_bytes.max(1)) {
                stream.write_all(chunk)?;
                thread::sleep(pause);
            }
            Ok(true)
        }
        _ => stream.write_all(body).map(|()| true),
    }
}

/// Chunks of zeros until the client hangs up or the server ends.
fn endless(stream: &mut TcpStream, head: &Head, shared: &Shared) -> io::Result<bool> {
    head.clone().with("Transfer-Encoding", "chunked").write(stream)?;
    let zeros = [0_u8; 4096];
    while !shared.ended.load(Ordering::SeqCst) {
        stream.write_all(b"1000\r\n")?;
        stream.write_all(&zeros)?;
        stream.write_all(b"\r\n")?;
    }
    Ok(false)
}
