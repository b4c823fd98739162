//! The Hugging Face Hub, blocking: what a repository holds, fetching it, and finding what is already here.
//!
//! Where:  an edge; used by the command line (`pull`, `list`, every model argument), the only crate below it that knows
//!         HTTP. Reads no environment: endpoint, token, proxy and folders are arguments.
//! Idea:   a download is identified by what the Hub says its content is (SHA-256 or git's name), so that it can stop
//!         anywhere, go on anywhere, and is put in place only when every byte is the right one.
//! Elsewhere: what the files mean (`wootz-weights`, `wootz-model`).
//!
//! # Invariants
//! - The token goes to the endpoint's own origin and nowhere else.
//! - No name that a server sends leads outside the folder that was asked for.
//! - A file under its final name is complete and, where the Hub gives a digest, verified.
#![forbid(unsafe_code)]

mod error;
mod name;
mod repo_path;

mod digest;
mod http;
mod hub;
mod wire;

mod select;

mod download;
mod manifest;
mod pull;

mod local;

pub use digest::Digest;
pub use download::Event;
pub use error::{Error, Result};
pub use hub::{Hub, HubOptions, OFFICIAL_ENDPOINT, Proxy, RemoteFile, RepoListing, Token};
pub use local::{LocalModel, Origin, Places};
pub use manifest::{Manifest, ManifestFile};
pub use name::ModelName;
pub use pull::{PullRequest, Pulled, PulledFile};
pub use repo_path::RepoPath;
pub use select::{Selection, WeightFormat, select, select_matching};
