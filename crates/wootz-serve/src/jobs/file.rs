//! A file of the files API.

use serde::{Deserialize, Serialize};

/// What is known of it, as OpenAI's API shows it and as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredFile {
    pub id: String,
    pub object: String,
    pub bytes: u64,
    pub created_at: u64,
    pub filename: String,
    pub purpose: String,
    pub status: String,
}

impl StoredFile {
    /// The ending of its contents on disk.
    pub(crate) const CONTENT: &'static str = "bin";

    pub(crate) fn new(id: String, filename: String, purpose: String, bytes: u64, created_at: u64) -> Self {
        Self { id, object: "file".into(), bytes, created_at, filename, purpose, status: "processed".into() }
    }
}
