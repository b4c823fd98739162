//! Weight files as others write them, as we write them, and as an enemy writes them.

mod archive;
mod golden;
mod hostile;
mod round_trip;

use std::path::{Path, PathBuf};

/// A file that `golden/weights.py` made.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/weights").join(name)
}
