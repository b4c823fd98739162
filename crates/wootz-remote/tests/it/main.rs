//! Pulls from a server on this machine that speaks the Hub's protocol, with everything that goes wrong in between.
#![forbid(unsafe_code)]

mod access;
mod faults;
mod pulls;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;
use wootz_remote::{Event, Hub, HubOptions, ModelName, PullRequest, Pulled, RepoPath, Result, Token};
use wootz_testkit::{FakeRepo, Host, HubServer, Recorded};

/// A server, a folder to pull into, and everything that happened.
struct Scene {
    server: HubServer,
    folder: TempDir,
    events: Mutex<Vec<(String, Event)>>,
}

const TOKEN: &str = "hf_secret";

impl Scene {
    fn new(repo: FakeRepo) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { server: HubServer::start(repo), folder, events: Mutex::default() }
    }

    fn options(&self) -> HubOptions {
        HubOptions {
            endpoint: self.server.endpoint(),
            token: Some(Token::parse(TOKEN).unwrap()),
            timeout: Duration::from_millis(1500),
            first_backoff: Duration::from_millis(2),
            ..HubOptions::default()
        }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.options()).unwrap()
    }

    fn request(&self, name: &str) -> PullRequest {
        let name = ModelName::parse(name).unwrap();
        PullRequest { name, include: Vec::new(), folder: self.folder().to_owned() }
    }

    fn pull(&self, name: &str) -> Result<Pulled> {
        self.pull_with(&self.hub(), &self.request(name))
    }

    fn pull_with(&self, hub: &Hub, request: &PullRequest) -> Result<Pulled> {
        let watch = |path: &RepoPath, event| self.events.lock().unwrap().push((path.to_string(), event));
        let pulled = hub.pull(request, &watch);
        let leaked = |r: &Recorded| r.host == Host::Cdn && r.request.header("authorization").is_some();
        assert!(!self.server.recorded().iter().any(leaked), "the token reached the other host");
        pulled
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.folder().join(path)).unwrap()
    }

    /// Requests that asked for bytes of large files: where they began.
    fn ranges(&self) -> Vec<Option<String>> {
        let requests = self.server.recorded();
        let bytes = requests.iter().filter(|r| r.host == Host::Cdn);
        bytes.map(|r| r.request.header("range").map(str::to_owned)).collect()
    }

    fn n_requests(&self) -> usize {
        self.server.recorded().len()
    }

    /// Files that are unfinished or notes to one.
    fn unfinished(&self) -> Vec<PathBuf> {
        let work = std::fs::read_dir(self.folder().join(".pull")).into_iter().flatten();
        let paths = work.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|e| e == "incomplete" || e == "etag")).collect()
    }

    fn happened(&self, is_it: impl Fn(&Event) -> bool) -> bool {
        self.events.lock().unwrap().iter().any(|(_, event)| is_it(event))
    }
}

/// Bytes that differ from place to place.
fn weights(n_bytes: usize) -> Vec<u8> {
    (0..n_bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A small model: two files of git's, one large file.
fn tiny() -> FakeRepo {
    FakeRepo::new("org/tiny")
        .file(".gitattributes", "* text")
        .file("config.json", "{}")
        .file("1_Pooling/config.json", "{\"pooling\": true}")
        .file("README.md", "# Tiny")
        .lfs("model.safetensors", weights(1_000_000))
}
