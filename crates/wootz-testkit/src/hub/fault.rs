//! What can go wrong on the way, on demand.
//!
//! Where:  given to [`HubServer::fault`](super::HubServer::fault) by a test, obeyed by [`server`](super::server).

use std::time::Duration;

/// Which kind of request a fault waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// The list of files, `/api/models/…`.
    Api,
    /// The Hub's answer to `…/resolve/…`, usually a redirect.
    Resolve,
    /// The bytes themselves, on either host.
    Body,
}

/// A fault, which happens once.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error instead of an answer.
    Status {
        /// Its number.
        status: u16,
        /// `Retry-After`, in seconds.
        retry_after_s: Option<u64>,
    },
    /// The full length is announced; the connection closes after so many bytes of the body.
    DropAfter(usize),
    /// As many bytes as announced, but other ones.
    WrongBytes,
    /// The body ends early, and its announced length agrees.
    Truncated(usize),
    /// So many bytes at a time, with a pause after each.
    Slow {
        /// Bytes between pauses.
        chunk_bytes: usize,
        /// The pause.
        pause: Duration,
    },
    /// The head and so many bytes, then silence until the client gives up.
    StallAfter(usize),
    /// The whole file with status 200, although a range was asked for.
    IgnoreRange,
    /// A body in chunks that does not end before the client hangs up.
    Endless,
    /// A redirect to this address.
    RedirectTo(String),
    /// This body with status 200.
    Answer(String),
}
