//! A server on this machine that speaks the Hugging Face Hub's protocol, with faults on demand.
//!
//! Where:  tests of `wootz-remote` and of the command line's `pull`; `examples/hub_server.rs` runs it alone.
//! Idea:   two ports stand for the Hub and for the other host that large files live on; every request is written down.
//! Elsewhere: `check_hub_server.py` holds it against the `huggingface_hub` client, so that the fake itself is truthful.

mod digest;
mod fault;
mod http;
mod repo;
mod server;

pub use digest::{git_blob_sha1_hex, sha256_hex};
pub use fault::{Fault, Hop};
pub use http::Request;
pub use repo::FakeRepo;
pub use server::{Host, HubServer, Recorded};
