//! A folder that appears under its name only when it is whole.
//!
//! Where:  conversions write models through it.
//! Idea:   files are made in a new folder beside the target, which is renamed at the end, or, over a folder that is there,
//!         each file of it is. What is dropped before that leaves nothing.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A folder in the making; removed when dropped unfinished.
pub(crate) struct NewFolder {
    /// Where its files go.
    pub path: PathBuf,
}

impl NewFolder {
    /// Makes an empty folder beside `target`.
    pub(crate) fn beside(target: &Path) -> Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        let io = |source| Error::Io { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        std::fs::create_dir(&path).map_err(io)?;
        Ok(Self { path })
    }

    /// Gives the folder its name. Over a folder that is there, its files replace those of the same names, and weight
    /// files of the older model go.
    pub(crate) fn finish(self, target: &Path) -> Result<()> {
        let io = |source| Error::Io { path: target.to_owned(), source };
        if !target.is_dir() {
            return std::fs::rename(&self.path, target).map_err(io);
        }
        let is_weights =
            |name: &str| name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
        for entry in target.read_dir().map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            if is_weights(&name.to_string_lossy()) && !self.path.join(&name).exists() {
                std::fs::remove_file(target.join(&name)).map_err(io)?;
            }
        }
        for entry in self.path.read_dir().map_err(io)? {
            let entry = entry.map_err(io)?;
            std::fs::rename(entry.path(), target.join(entry.file_name())).map_err(io)?;
        }
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // Gone already where it was renamed; and what cannot be removed is no error worth more than the first.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
