//! The folder of files and batches.
//!
//! Idea:   metadata is JSON that is replaced as a whole (temporary file, sync, rename); contents are written once;
//!         results are lines that are appended and synced one by one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A folder, made when something is first kept.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    folder: PathBuf,
}

/// Why something could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("could not read or write {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is damaged: {source}")]
    Damaged { path: PathBuf, source: serde_json::Error },
}

/// What kind of thing an id names; each has its own subfolder.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shelf {
    Files,
    Batches,
}

impl Shelf {
    fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Batches => "batches",
        }
    }
}

impl Disk {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The path of an id with an ending. Ids are our own, and checked by [`is_id`] where they come from outside.
    pub(crate) fn path(&self, shelf: Shelf, id: &str, ending: &str) -> PathBuf {
        assert!(is_id(id), "an id of ours has letters, digits, `-` and `_` alone");
        self.folder.join(shelf.name()).join(format!("{id}.{ending}"))
    }

    /// Keeps metadata, replacing what was there.
    pub(crate) fn keep(&self, shelf: Shelf, id: &str, value: &impl Serialize) -> Result<(), DiskError> {
        let path = self.path(shelf, id, "json");
        let bytes = serde_json::to_vec(value).expect("metadata has string keys");
        replace(&path, &bytes).map_err(|source| DiskError::Io { path, source })
    }

    /// Keeps contents under a new id.
    pub(crate) fn keep_bytes(
        &self,
        shelf: Shelf,
        id: &str,
        ending: &str,
        bytes: &[u8],
    ) -> Result<(), DiskError> {
        let path = self.path(shelf, id, ending);
        replace(&path, bytes).map_err(|source| DiskError::Io { path, source })
    }

    /// Metadata; `None` if there is nothing of that id.
    pub(crate) fn find<T: DeserializeOwned>(&self, shelf: Shelf, id: &str) -> Result<Option<T>, DiskError> {
        if !is_id(id) {
            return Ok(None);
        }
        let path = self.path(shelf, id, "json");
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|source| DiskError::Damaged { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DiskError::Io { path, source }),
        }
    }

    /// All metadata of a shelf; what is damaged is left out.
    pub(crate) fn all<T: DeserializeOwned>(&self, shelf: Shelf) -> Result<Vec<T>, DiskError> {
        let folder = self.folder.join(shelf.name());
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(DiskError::Io { path: folder, source }),
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let read = |path: PathBuf| serde_json::from_slice(&fs::read(path).ok()?).ok();
        Ok(paths.filter(|path| path.extension().is_some_and(|e| e == "json")).filter_map(read).collect())
    }

    pub(crate) fn bytes(&self, shelf: Shelf, id: &str, ending: &str) -> Result<Vec<u8>, DiskError> {
        let path = self.path(shelf, id, ending);
        fs::read(&path).map_err(|source| DiskError::Io { path, source })
    }

    /// Whether there is something of that ending.
    pub(crate) fn has(&self, shelf: Shelf, id: &str, ending: &str) -> bool {
        self.path(shelf, id, ending).exists()
    }

    /// Forgets metadata and contents.
    pub(crate) fn remove(&self, shelf: Shelf, id: &str, endings: &[&str]) -> Result<(), DiskError> {
        for ending in endings {
            let path = self.path(shelf, id, ending);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(DiskError::Io { path, source: error });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Opens a list of lines to append to. A last line that was cut off by a crash is removed first.
    pub(crate) fn lines(&self, shelf: Shelf, id: &str, ending: &str) -> Result<Lines, DiskError> {
        let path = self.path(shelf, id, ending);
        Lines::open(&path).map_err(|source| DiskError::Io { path, source })
    }
}

/// Whether a text can be an id of ours, which is also a safe file name.
pub(crate) fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// A list of lines on disk.
pub(crate) struct Lines {
    file: File,
    /// What was there when it was opened.
    pub found: Vec<String>,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let n_whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        file.set_len(n_whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        let found = String::from_utf8_lossy(&text[..n_whole]).lines().map(String::from).collect();
        Ok(Self { file, found })
    }

    /// Appends a line; it is on disk when this returns.
    pub(crate) fn append(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.file.sync_data()
    }
}

/// Writes a file that appears whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().expect("a path in a shelf");
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().to_owned());
        let mut lines = disk.lines(Shelf::Batches, "b-1", "out").unwrap();
        lines.append("one").unwrap();
        lines.append("two").unwrap();
        let path = disk.path(Shelf::Batches, "b-1", "out");
        fs::write(&path, "one\ntwo\nthr").unwrap();
        let mut lines = disk.lines(Shelf::Batches, "b-1", "out").unwrap();
        assert_eq!(lines.found, ["one", "two"]);
        lines.append("three").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn ids_are_no_paths() {
        for id in ["../x", "a/b", "", ".", "a.b", &"x".repeat(65)] {
            assert!(!is_id(id), "{id}");
        }
        assert!(is_id("file-0a1B_c"));
    }
}
