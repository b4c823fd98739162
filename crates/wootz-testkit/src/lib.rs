//! Fixtures and scripted models that tests of several crates share.
//!
//! Where:  a development dependency only.
//! Idea:   a scripted model answers at once, the same way every time, and remembers what it was asked.
#![forbid(unsafe_code)]

mod hub;
mod scripted;
mod scripted_vectors;

pub use hub::{FakeRepo, Fault, Hop, Host, HubServer, Recorded, Request, git_blob_sha1_hex, sha256_hex};
pub use scripted::{ScriptedModel, ScriptedReply};
pub use scripted_vectors::{ScriptedEmbedder, ScriptedReranker};
