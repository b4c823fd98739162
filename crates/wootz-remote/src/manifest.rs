//! What was pulled into a folder: repository, commit, and the digest of every file.
//!
//! Where:  `.pull/manifest.json` in a model's folder; written by [`pull`](crate::pull), read by it and by `list`.
//! Idea:   a file that is listed here with the right digest and size need not be read again to be known.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::repo_path::WORK_FOLDER;

/// A manifest beyond this size is none.
const MAX_BYTES: u64 = 32 << 20;

/// What a folder holds and where it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// `org/name`.
    pub repo: String,
    /// Branch or tag that was asked for.
    pub revision: String,
    /// The commit of the last pull.
    pub commit: String,
    /// Files by their names.
    pub files: BTreeMap<String, ManifestFile>,
}

/// One file that was pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its size.
    pub size_bytes: u64,
    /// `sha256:…` or `git:…`; nothing when the server named none.
    pub digest: Option<String>,
}

impl Manifest {
    /// Reads the manifest of a model's folder. One that is missing or damaged counts as empty: files are then verified
    /// anew.
    pub fn read(folder: &Path) -> Self {
        let path = folder.join(WORK_FOLDER).join("manifest.json");
        let is_small = fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= MAX_BYTES);
        let bytes = if is_small { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Enters `files` and keeps what is there already, under a lock: two pulls into one folder both end up in it.
    pub(crate) fn merge(folder: &Path, new: Self) -> Result<()> {
        let work = folder.join(WORK_FOLDER);
        let (path, temporary) = (work.join("manifest.json"), work.join("manifest.json.new"));
        let lock = File::create(work.join("manifest.lock")).map_err(Error::io("write", &path))?;
        lock.lock().map_err(Error::io("lock", &path))?;
        let mut manifest = Self::read(folder);
        if manifest.repo != new.repo {
            manifest = Self::default();
        }
        let mut files = manifest.files;
        files.extend(new.files);
        manifest = Self { files, ..new };
        let json = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
        let mut file = File::create(&temporary).map_err(Error::io("write", &temporary))?;
        file.write_all(&json).and_then(|()| file.sync_all()).map_err(Error::io("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(Error::io("rename", &temporary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_into_one_folder_add_up_and_damage_counts_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join(WORK_FOLDER);
        fs::create_dir(&work).unwrap();
        let of = |repo: &str, file: &str| {
            let entry = ManifestFile { size_bytes: 1, digest: None };
            Manifest { repo: repo.into(), files: [(file.to_owned(), entry)].into(), ..Manifest::default() }
        };
        Manifest::merge(folder.path(), of("a/b", "x")).unwrap();
        Manifest::merge(folder.path(), of("a/b", "y")).unwrap();
        assert_eq!(Manifest::read(folder.path()).files.len(), 2);
        Manifest::merge(folder.path(), of("a/c", "z")).unwrap();
        assert_eq!(Manifest::read(folder.path()), of("a/c", "z"));
        fs::write(work.join("manifest.json"), "{\"repo\": 3").unwrap();
        assert_eq!(Manifest::read(folder.path()), Manifest::default());
    }
}
