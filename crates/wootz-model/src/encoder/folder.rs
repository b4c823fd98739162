//! Small JSON files beside a model: read if they are there, every key either known or an error.

use std::path::{Component, Path};

use crate::hf::Hf;
use crate::{Error, Result};

/// The largest of them in the wild, vocabularies of added tokens, stay below 2 MB.
const MAX_BYTES: u64 = 16 << 20;

/// A JSON object, if the file is there.
pub(super) fn object(path: &Path) -> Result<Option<Hf>> {
    match bytes(path)? {
        Some(bytes) => Hf::parse(&path.display().to_string(), &bytes).map(Some),
        None => Ok(None),
    }
}

/// A file's contents, if it is there.
pub(super) fn bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    let fail = |source| Error::Io { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail(error)),
        Ok(metadata) if metadata.len() > MAX_BYTES => Err(Error::Config {
            file: path.display().to_string(),
            key: String::new(),
            expected: format!("at most {MAX_BYTES} bytes"),
            got: metadata.len().to_string(),
        }),
        Ok(_) => std::fs::read(path).map(Some).map_err(fail),
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
