//! Weight files as others write them, and as we write them.

mod golden;
mod round_trip;

use std::path::{Path, PathBuf};

/// A file that `golden/weights.py` made.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/weights").join(name)
}
