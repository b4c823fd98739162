//! What can go wrong between a name and a file on disk.
//!
//! Where:  every function of this crate that can fail.
//! Idea:   text that came from a server is bounded and free of control characters before it enters a message.

use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Digest;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model name that cannot be one.
    #[error(
        "model name `{name}`: {why}\nhint: expected hf:org/name, hf:org/name@revision, hf:org/name:FILE or hf:org/name:QUANT"
    )]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An endpoint, token, proxy or certificate that cannot be used.
    #[error("{what}: {why}")]
    Option {
        /// The option.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A server sent a file name that could lead outside the model's folder.
    #[error("`{repo}`: refused file name {name:?} from the server: {why}")]
    HostileName {
        /// The repository.
        repo: String,
        /// The name as it was sent.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The network was needed but is forbidden.
    #[error(
        "offline: {what} needs the network\nhint: run without --offline, or use a model that is already here (`wootz list`)"
    )]
    Offline {
        /// What would have been fetched.
        what: String,
    },
    /// The repository, revision or file does not exist, or is hidden.
    #[error(
        "{what} not found: {message}\nhint: check the spelling; private and gated models also need HF_TOKEN"
    )]
    NotFound {
        /// What was asked for.
        what: String,
        /// What the server says.
        message: String,
    },
    /// The server wants a token, or another one.
    #[error(
        "{what}: access refused: {message}\nhint: accept the model's terms on its page and set HF_TOKEN to a token that may read it"
    )]
    AccessRefused {
        /// What was asked for.
        what: String,
        /// What the server says.
        message: String,
    },
    /// An HTTP status that is no answer, after all retries.
    #[error("{url}: expected an answer, got HTTP status {status}: {message}")]
    Status {
        /// The address, without its query.
        url: String,
        /// The status.
        status: u16,
        /// What the server says.
        message: String,
    },
    /// The server asks to wait longer than we are willing to.
    #[error("{url}: the server asks to wait {} s before trying again", wait.as_secs())]
    Busy {
        /// The address, without its query.
        url: String,
        /// How long it asks to wait.
        wait: Duration,
    },
    /// The connection failed, after all retries.
    #[error("{url}: {why}")]
    Network {
        /// The address, without its query.
        url: String,
        /// What happened.
        why: String,
    },
    /// A redirect that is not followed.
    #[error("{url}: redirect refused: {why}")]
    Redirect {
        /// The address that redirected, without its query.
        url: String,
        /// Why it is not followed.
        why: String,
    },
    /// An answer that does not say what it should.
    #[error("{url}: {why}")]
    Wire {
        /// The address, without its query.
        url: String,
        /// What was expected and what came.
        why: String,
    },
    /// The content is not what the Hub says it is.
    #[error("`{path}`: expected {expected}, got {got}: the download is damaged and was deleted")]
    Digest {
        /// The file, within its repository.
        path: String,
        /// The digest that the Hub names.
        expected: Digest,
        /// The digest of what came.
        got: Digest,
    },
    /// More or fewer bytes than announced.
    #[error("`{path}`: expected {expected} bytes, got {got}")]
    Size {
        /// The file, within its repository.
        path: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// The file on the server is another one than the listing named.
    #[error(
        "`{path}` changed on the server while it was fetched: expected {expected}, got {got}\nhint: run the same command again"
    )]
    Changed {
        /// The file, within its repository.
        path: String,
        /// What the listing said.
        expected: String,
        /// What the server says now.
        got: String,
    },
    /// Nothing in the repository fits what was asked for.
    #[error("`{repo}`: {why}\nit has: {}", available.join(", "))]
    Selection {
        /// The repository or folder.
        repo: String,
        /// What was looked for.
        why: String,
        /// Names that could be meant, at most 40.
        available: Vec<String>,
    },
    /// [`Hub::cancel`](crate::Hub::cancel) was called.
    #[error("cancelled; what was fetched so far is kept and the next pull goes on from there")]
    Cancelled,
    /// A file or folder of this machine.
    #[error("could not {what} {}", path.display())]
    Io {
        /// `read`, `write`, …
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

/// Text from a server, fit for a message: one line, at most 300 characters, nothing that a terminal obeys.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
