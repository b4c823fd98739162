//! What is learned and what is supervised, beside what other programs made of the same.
#![forbid(unsafe_code)]

mod encode;
mod parquet;
mod prepare;
mod vocabulary;

use std::path::{Path, PathBuf};

/// A file that other programs' results lie in.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(name)
}
