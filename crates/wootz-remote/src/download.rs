//! One file: from the Hub into place, going on where an earlier attempt stopped.
//!
//! Where:  called by [`pull`](crate::pull), several at a time.
//! Idea:   bytes gather in `.pull/NAME.incomplete` beside a note that says which content they are of. Every interruption
//!         is alike: ask again from the last byte. Only a whole file with the right digest gets its final name.
//! Source: RFC 9110, §14 (ranges) and §13.1.5 (`If-Range`).
//!
//! # Invariants
//! - Only the holder of `.pull/NAME.lock` touches `.pull/NAME.incomplete`.
//! - The hasher has seen exactly the bytes that lie in the unfinished file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result, printable};
use crate::http::{Backoff, Client, Failure, Range, Response, entity_tag, header, wait_for};
use crate::hub::{Hub, RemoteFile};
use crate::manifest::Manifest;
use crate::repo_path::{RepoPath, WORK_FOLDER};

const BUFFER_BYTES: usize = 256 << 10;
/// A file whose size the server does not tell may be this large, and no larger.
const MAX_UNKNOWN_BYTES: u64 = 64 << 20;

/// What happens to a file, for those who watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another process is fetching the same file; we wait for it.
    Waiting,
    /// Bytes of an earlier attempt, or of the file itself, are read again.
    Checking,
    /// So many bytes are there now, of so many where known.
    Progress {
        /// Bytes there.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: Option<u64>,
    },
    /// An attempt failed and another one follows.
    Retrying {
        /// Failures in a row.
        attempt: u32,
        /// Why it failed.
        why: String,
    },
    /// The file is in place.
    Finished {
        /// It was there before, and nothing was fetched.
        was_present: bool,
    },
}

/// Everything that one download needs.
pub(crate) struct Job<'a> {
    pub hub: &'a Hub,
    pub repo: &'a str,
    pub commit: &'a str,
    pub file: &'a RemoteFile,
    /// The model's folder.
    pub folder: &'a Path,
    pub manifest: &'a Manifest,
    /// Set when another file of the same pull has failed.
    pub stop: &'a AtomicBool,
    pub watch: &'a (dyn Fn(&RepoPath, Event) + Sync),
}

/// A file in place.
pub(crate) struct Fetched {
    pub size_bytes: u64,
    pub digest: Option<Digest>,
    pub fetched_bytes: u64,
    pub was_present: bool,
}

impl Job<'_> {
    /// Puts the file in place, unless it is there.
    pub fn run(&self) -> Result<Fetched> {
        let target = self.file.path.below(self.folder);
        let work = self.folder.join(WORK_FOLDER);
        for folder in [work.as_path(), target.parent().unwrap_or(self.folder)] {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        let base = self.file.path.as_str().replace('%', "%25").replace('/', "%2F");
        let _lock = self.lock(&work.join(shortened(&base, "lock")))?;
        if let Some(present) = self.present(&target)? {
            self.tell(Event::Finished { was_present: true });
            return Ok(present);
        }
        let mut partial =
            Partial::open(work.join(shortened(&base, "incomplete")), work.join(shortened(&base, "etag")))?;
        let mut fetched_bytes = 0;
        let mut may_restart = true;
        let (size_bytes, digest) = loop {
            let size_bytes = self.fetch(&mut partial, &mut fetched_bytes)?;
            match partial.finish()? {
                None => break (size_bytes, None),
                Some((got, expected)) if got == expected => break (size_bytes, Some(got)),
                Some((got, expected)) => {
                    // Bytes of several attempts, or of a server that errs once, may be healed by one clean attempt.
                    partial.clear()?;
                    if !std::mem::take(&mut may_restart) {
                        partial.delete();
                        return Err(Error::Digest { path: self.file.path.to_string(), expected, got });
                    }
                    self.tell(Event::Retrying { attempt: 1, why: format!("expected {expected}, got {got}") });
                }
            }
        };
        partial.put_in_place(&target)?;
        self.tell(Event::Finished { was_present: false });
        Ok(Fetched { size_bytes, digest, fetched_bytes, was_present: false })
    }

    fn tell(&self, event: Event) {
        (self.watch)(&self.file.path, event);
    }

    fn go_on(&self) -> Result<()> {
        self.hub.client.check_cancelled()?;
        if self.stop.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Waits until no other process fetches this file. The lock ends with the returned file.
    fn lock(&self, path: &Path) -> Result<File> {
        let file = File::create(path).map_err(Error::io("write", path))?;
        let mut has_told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut has_told, true) {
                        self.tell(Event::Waiting);
                    }
                    wait_for(Duration::from_millis(100), &|| self.go_on())?;
                }
                Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
            }
        }
    }

    /// The file itself, when it is in place already: known from the manifest, or by its digest.
    fn present(&self, target: &Path) -> Result<Option<Fetched>> {
        let Ok(metadata) = fs::metadata(target) else { return Ok(None) };
        let size_bytes = metadata.len();
        let (Some(expected), true) = (self.file.digest, metadata.is_file()) else { return Ok(None) };
        if self.file.size_bytes.is_some_and(|size| size != size_bytes) {
            return Ok(None);
        }
        let present = Fetched { size_bytes, digest: Some(expected), fetched_bytes: 0, was_present: true };
        let known = self.manifest.files.get(self.file.path.as_str());
        if known.is_some_and(|k| k.size_bytes == size_bytes && k.digest == Some(expected.to_string())) {
            return Ok(Some(present));
        }
        self.tell(Event::Checking);
        let mut hasher = Hasher::like(expected, size_bytes);
        let mut file = File::open(target).map_err(Error::io("read", target))?;
        self.read_into(&mut file, target, &mut hasher)?;
        Ok((hasher.finish() == expected).then_some(present))
    }

    /// Feeds a file to a hasher.
    fn read_into(&self, file: &mut File, path: &Path, hasher: &mut Hasher) -> Result<u64> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut n_bytes = 0;
        loop {
            self.go_on()?;
            let n = file.read(&mut buffer).map_err(Error::io("read", path))?;
            if n == 0 {
                return Ok(n_bytes);
            }
            hasher.update(&buffer[..n]);
            n_bytes += n as u64;
        }
    }

    /// Fetches until the unfinished file is whole. Gives its size.
    fn fetch(&self, partial: &mut Partial, fetched_bytes: &mut u64) -> Result<u64> {
        let client = &self.hub.client;
        let url = self.hub.resolve_url(self.repo, self.commit, &self.file.path);
        let mut backoff = Backoff::new(client.first_backoff);
        // ETag of the host that sends the bytes; it may differ from the Hub's.
        let mut body_etag: Option<String> = None;
        loop {
            let before = *fetched_bytes;
            match self.attempt(client, &url, partial, &mut body_etag, fetched_bytes) {
                Ok(size_bytes) => return Ok(size_bytes),
                Err(failure) => {
                    if *fetched_bytes > before {
                        backoff.gained();
                    }
                    if failure.is_passing {
                        let (attempt, why) = (backoff.attempts() + 1, failure.error.to_string());
                        self.tell(Event::Retrying { attempt, why });
                    }
                    backoff.pause(failure, &|| self.go_on())?;
                }
            }
        }
    }

    /// One request for what is missing.
    fn attempt(
        &self,
        client: &Client,
        url: &str,
        partial: &mut Partial,
        body_etag: &mut Option<String>,
        fetched_bytes: &mut u64,
    ) -> Result<u64, Failure> {
        let if_range = body_etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        let range = (partial.len > 0).then_some(Range { start: partial.len, if_range });
        let mut response = client.get(url, range)?;
        let identity = self.identity(&response).map_err(Failure::lasting)?;
        let is_same = partial.is_of(&identity);
        let total = match (response.status, range) {
            (416, _) if is_same && identity.size_bytes == Some(partial.len) => Some(partial.len),
            (416, _) => {
                partial.clear().map_err(Failure::lasting)?;
                let why = format!("no bytes from {} on", range.map_or(0, |r| r.start));
                return Err(passing(&response, &why));
            }
            (206, Some(range)) => {
                let (start, total) =
                    content_range(&response).ok_or_else(|| passing(&response, "206 without a range"))?;
                let is_other_size =
                    identity.size_bytes.is_some_and(|size| total.is_some_and(|total| size != total));
                if start != range.start || is_other_size || !is_same {
                    partial.clear().map_err(Failure::lasting)?;
                    return Err(passing(&response, "the range is not of the version that we have"));
                }
                total
            }
            (206, None) => return Err(passing(&response, "a range that was not asked for")),
            _ => {
                partial.clear().map_err(Failure::lasting)?;
                None
            }
        };
        *body_etag = header(&response.headers, "etag").map(str::to_owned);
        let length = header(&response.headers, "content-length").and_then(|n| n.parse::<u64>().ok());
        let announced = identity.size_bytes.or(total).or(length.filter(|_| response.status == 200));
        partial.begin(&identity, announced, self).map_err(Failure::lasting)?;
        self.tell(Event::Progress { done_bytes: partial.len, total_bytes: announced });
        if response.status != 416 {
            self.receive(client, &mut response, partial, announced, fetched_bytes)?;
        }
        match announced {
            Some(size) if partial.len < size => Err(passing(
                &response,
                &format!("the connection ended after {} of {size} bytes", partial.len),
            )),
            _ => Ok(partial.len),
        }
    }

    /// Reads a body into the unfinished file.
    fn receive(
        &self,
        client: &Client,
        response: &mut Response,
        partial: &mut Partial,
        announced: Option<u64>,
        fetched_bytes: &mut u64,
    ) -> Result<(), Failure> {
        let limit = announced.unwrap_or(MAX_UNKNOWN_BYTES);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            self.go_on().map_err(Failure::lasting)?;
            let n =
                response.body.read(&mut buffer).map_err(|error| client.body_failure(&response.url, error))?;
            if n == 0 {
                return Ok(());
            }
            if partial.len + n as u64 > limit {
                let (path, got) = (self.file.path.to_string(), partial.len + n as u64);
                partial.delete();
                return Err(Failure::lasting(Error::Size { path, expected: limit, got }));
            }
            partial.append(&buffer[..n]).map_err(Failure::lasting)?;
            *fetched_bytes += n as u64;
            self.tell(Event::Progress { done_bytes: partial.len, total_bytes: announced });
        }
    }

    /// Which content the server is about to send, and whether it is the one that the listing named.
    fn identity(&self, response: &Response) -> Result<Identity> {
        let etag = response.linked.etag.clone().or_else(|| header(&response.headers, "etag").map(entity_tag));
        let named = etag.as_deref().and_then(Digest::parse);
        let changed = |expected: String, got: String| {
            let path = self.file.path.to_string();
            Err(Error::Changed { path, expected, got: printable(&got) })
        };
        match (self.file.digest, named) {
            (Some(listed), Some(named)) if listed.is_comparable(named) && listed != named => {
                return changed(listed.to_string(), named.to_string());
            }
            _ => {}
        }
        match (self.file.size_bytes, response.linked.size) {
            (Some(listed), Some(linked)) if listed != linked => {
                return changed(format!("{listed} bytes"), format!("{linked} bytes"));
            }
            _ => {}
        }
        // What the Hub's redirect says is about the bytes themselves; a listing may speak of git's pointer to them.
        let digest = named.or(self.file.digest);
        let tag = digest.map(|digest| digest.to_string()).or(etag);
        Ok(Identity { tag, digest, size_bytes: response.linked.size.or(self.file.size_bytes) })
    }
}

/// Which content some bytes are of.
struct Identity {
    /// A digest, or whatever the server calls the version.
    tag: Option<String>,
    digest: Option<Digest>,
    size_bytes: Option<u64>,
}

/// The unfinished file, the note of what it is of, and a hasher that has seen its bytes.
struct Partial {
    path: PathBuf,
    note_path: PathBuf,
    file: File,
    len: u64,
    note: Option<String>,
    /// With the digest that it shall have; `None` before the first answer, and when the server names no digest.
    hasher: Option<(Hasher, Digest)>,
}

impl Partial {
    fn open(path: PathBuf, note_path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = file.map_err(Error::io("write", &path))?;
        let len = file.metadata().map_err(Error::io("read", &path))?.len();
        let note = fs::read_to_string(&note_path).ok().filter(|note| note.len() <= 1024);
        let mut partial = Self { path, note_path, file, len, note, hasher: None };
        if partial.note.is_none() {
            partial.clear()?;
        }
        Ok(partial)
    }

    /// Whether the bytes that are there are of this content. Without a name for the content nobody can tell.
    fn is_of(&self, identity: &Identity) -> bool {
        self.len == 0 || (identity.tag.is_some() && self.note == identity.tag)
    }

    /// Notes what is being fetched, and lets the hasher read what is there, once.
    fn begin(&mut self, identity: &Identity, size_bytes: Option<u64>, job: &Job) -> Result<()> {
        if self.note != identity.tag {
            fs::write(&self.note_path, identity.tag.as_deref().unwrap_or(""))
                .map_err(Error::io("write", &self.note_path))?;
            self.note.clone_from(&identity.tag);
        }
        let (None, Some(digest)) = (&self.hasher, identity.digest) else { return Ok(()) };
        let size_bytes = match (digest, size_bytes) {
            (Digest::Sha256(_), size) => size.unwrap_or(0),
            (Digest::GitBlob(_), Some(size)) => size,
            // git's name begins with the size, which nobody told: the size alone is checked then.
            (Digest::GitBlob(_), None) => return Ok(()),
        };
        let mut hasher = Hasher::like(digest, size_bytes);
        if self.len > 0 {
            job.tell(Event::Checking);
            self.file.rewind().map_err(Error::io("read", &self.path))?;
            self.len = job.read_into(&mut self.file, &self.path, &mut hasher)?;
        }
        self.hasher = Some((hasher, digest));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))?;
        if let Some((hasher, _)) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Starts over.
    fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(Error::io("write", &self.path))?;
        (self.len, self.hasher, self.note) = (0, None, None);
        Ok(())
    }

    /// The digest that the bytes have and the one that they should have.
    fn finish(&mut self) -> Result<Option<(Digest, Digest)>> {
        self.file.sync_all().map_err(Error::io("write", &self.path))?;
        Ok(self.hasher.take().map(|(hasher, expected)| (hasher.finish(), expected)))
    }

    /// Gives the file its final name.
    fn put_in_place(self, target: &Path) -> Result<()> {
        fs::rename(&self.path, target).map_err(Error::io("rename to", target))?;
        let _gone_already = fs::remove_file(&self.note_path);
        // The new name lasts only when the folder is synced. Where folders cannot be opened, there is nothing to do.
        match target.parent().map(File::open) {
            Some(Ok(folder)) => folder.sync_all().map_err(Error::io("sync", target)),
            _ => Ok(()),
        }
    }

    fn delete(&self) {
        let _gone_already = fs::remove_file(&self.path);
        let _gone_already = fs::remove_file(&self.note_path);
    }
}

/// A failure that another attempt may heal.
fn passing(response: &Response, why: &str) -> Failure {
    let error = Error::Wire { url: response.url.clone(), why: why.into() };
    Failure { error, is_passing: true, retry_after: None }
}

/// `bytes 5-9/10` → (5, `Some(10)`).
fn content_range(response: &Response) -> Option<(u64, Option<u64>)> {
    let (range, total) =
        header(&response.headers, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// A file name of at most 200 bytes that still differs where `base` differs.
fn shortened(base: &str, extension: &str) -> String {
    if base.len() <= 180 {
        return format!("{base}.{extension}");
    }
    let hash = ring::digest::digest(&ring::digest::SHA256, base.as_bytes());
    let hash: String = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hash}.{extension}")
}
