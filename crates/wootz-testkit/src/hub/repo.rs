//! A repository of files with a history, as the fake Hub holds it.
//!
//! Where:  filled by a test, served by [`HubServer`](super::HubServer).
//! Idea:   a commit is a full map of files; its name is a digest of that map, so equal contents have equal names.

use std::collections::BTreeMap;

use super::digest::{git_blob_sha1_hex, sha1_hex, sha256_hex};

/// A repository to serve. Files are added by [`file`](Self::file) and [`lfs`](Self::lfs).
#[derive(Clone, Debug)]
pub struct FakeRepo {
    pub(super) id: String,
    /// From the oldest to the newest; `main` is the last.
    pub(super) commits: Vec<Commit>,
    pub(super) branches: BTreeMap<String, usize>,
    pub(super) required_token: Option<String>,
    pub(super) lists_blobs: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Commit {
    pub files: BTreeMap<String, FakeFile>,
}

#[derive(Clone, Debug)]
pub(super) struct FakeFile {
    pub bytes: Vec<u8>,
    pub is_lfs: bool,
}

impl FakeRepo {
    /// An empty repository called `org/name`.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.into(),
            commits: vec![Commit::default()],
            branches: BTreeMap::new(),
            required_token: None,
            lists_blobs: true,
        }
    }

    /// Adds a file that git itself holds: its ETag is git's blob name, and the Hub serves it.
    pub fn file(self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(path, bytes.into(), false)
    }

    /// Adds a large file: its ETag is the SHA-256, and the Hub redirects to the other host.
    pub fn lfs(self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(path, bytes.into(), true)
    }

    /// Lets the branch `name` stand at the files added so far.
    pub fn branch(mut self, name: &str) -> Self {
        self.branches.insert(name.into(), self.commits.len() - 1);
        self.commits.push(self.head().clone());
        self
    }

    /// Refuses everyone without this token.
    pub fn gated(mut self, token: &str) -> Self {
        self.required_token = Some(token.into());
        self
    }

    /// Lists names alone, without sizes and digests, as mirrors and older servers do.
    pub fn names_only(mut self) -> Self {
        self.lists_blobs = false;
        self
    }

    fn with(mut self, path: &str, bytes: Vec<u8>, is_lfs: bool) -> Self {
        let head = self.commits.last_mut().expect("a repository has a commit");
        head.files.insert(path.into(), FakeFile { bytes, is_lfs });
        self
    }

    pub(super) fn head(&self) -> &Commit {
        self.commits.last().expect("a repository has a commit")
    }

    /// Replaces a file in a new commit on `main`.
    pub(super) fn replace(&mut self, path: &str, bytes: Vec<u8>) {
        let mut commit = self.head().clone();
        let is_lfs = commit.files.get(path).is_some_and(|file| file.is_lfs);
        commit.files.insert(path.into(), FakeFile { bytes, is_lfs });
        self.commits.push(commit);
    }

    /// The commit that a branch, a tag or a commit's own name leads to.
    pub(super) fn resolve(&self, revision: &str) -> Option<&Commit> {
        if revision == "main" {
            return Some(self.head());
        }
        let branch = self.branches.get(revision).map(|&index| &self.commits[index]);
        branch.or_else(|| self.commits.iter().rev().find(|commit| commit.sha() == revision))
    }

    /// A file with this digest in any commit.
    pub(super) fn by_sha256(&self, sha256: &str) -> Option<&FakeFile> {
        self.commits.iter().flat_map(|c| c.files.values()).find(|file| sha256_hex(&file.bytes) == sha256)
    }
}

impl Commit {
    /// 40 hexadecimal digits, as git's.
    pub fn sha(&self) -> String {
        let lines = self.files.iter().map(|(path, file)| format!("{path} {}\n", file.etag()));
        sha1_hex(lines.collect::<String>().as_bytes())
    }
}

impl FakeFile {
    /// SHA-256 of a large file, git's blob name of any other.
    pub fn etag(&self) -> String {
        if self.is_lfs { sha256_hex(&self.bytes) } else { git_blob_sha1_hex(&self.bytes) }
    }

    /// What git holds in place of a large file.
    pub fn lfs_pointer(&self) -> String {
        let (sha256, size) = (sha256_hex(&self.bytes), self.bytes.len());
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n")
    }

    /// git's name of what git holds.
    pub fn git_oid(&self) -> String {
        if self.is_lfs { git_blob_sha1_hex(self.lfs_pointer().as_bytes()) } else { self.etag() }
    }
}
