//! The Hub's JSON, as far as we read it.
//!
//! Where:  parsed by [`hub`](crate::hub), turned into a [`RepoListing`](crate::RepoListing) there and nowhere else.
//! Source: `GET /api/models/{repo}/revision/{revision}?blobs=true`.

use serde::Deserialize;

/// A repository at a revision.
#[derive(Debug, Deserialize)]
pub(crate) struct ModelInfo {
    /// The commit that the revision led to.
    pub sha: Option<String>,
    #[serde(default)]
    pub siblings: Vec<Sibling>,
}

/// One file of it. Mirrors leave out everything but the name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sibling {
    pub rfilename: String,
    pub size: Option<u64>,
    /// git's name of the file, or of the pointer that stands for a large one.
    pub blob_id: Option<String>,
    pub lfs: Option<Lfs>,
}

/// Present when the file is a large one.
#[derive(Debug, Deserialize)]
pub(crate) struct Lfs {
    pub sha256: Option<String>,
    pub size: Option<u64>,
}

/// What an error answer says.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    pub error: Option<String>,
}
