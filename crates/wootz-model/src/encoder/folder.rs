//! Small JSON files beside a model: read if they are there, every key either known or an error.

use std::path::{Component, Path};

use crate::hf::Hf;
use crate::{Error, Result};

/// A JSON object, if the file is there.
pub(super) fn object(path: &Path) -> Result<Option<Hf>> {
    match bytes(path)? {
        Some(bytes) => Hf::parse(&path.display().to_string(), &bytes).map(Some),
        None => Ok(None),
    }
}

/// A file's contents, if it is there.
pub(super) fn bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: path.to_owned(), source }),
    }
}

/// Refuses keys that are not `known`, unless they say nothing.
pub(super) fn refuse_unknown(hf: &Hf, known: &[&str]) -> Result<()> {
    let says_nothing = |value: &serde_json::Value| {
        value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
    };
    let mut unknown =
        hf.map().iter().filter(|(key, value)| !known.contains(&&key[..]) && !says_nothing(value));
    match unknown.next() {
        None => Ok(()),
        Some((key, value)) => {
            let value: String = value.to_string().chars().take(80).collect();
            Err(hf.error(key, "no such key", &value))
        }
    }
}

/// Whether a path leads to a place below the folder that names it.
pub(super) fn stays_below(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}
