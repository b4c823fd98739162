//! `config.json`: typed, bounded access to what Hugging Face's configurations say.
//!
//! Where:  read by the architectures' `from_hf`.
//! Idea:   every number is bounded when it is read, because sizes are allocated from it; an error names the
//!         file and the key. A nested `text_config` is looked into where the outer level lacks a key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// The largest size that a configuration may name.
const MAX_SIZE: u64 = 1 << 31;

/// A configuration.
#[derive(Clone, Debug)]
pub struct Hf {
    file: String,
    map: Map<String, Value>,
}

impl Hf {
    /// Reads `config.json` of a folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Parses a configuration that came from `file`.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self> {
        let fail = |got: String| Error::Config {
            file: file.to_owned(),
            key: String::new(),
            expected: "a JSON object".to_owned(),
            got,
        };
        match serde_json::from_slice(text) {
            Ok(Value::Object(map)) => Ok(Self { file: file.to_owned(), map }),
            Ok(_) => Err(fail("another value".to_owned())),
            Err(error) => Err(fail(error.to_string())),
        }
    }

    /// The file's name, for errors.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The value of a key, unless it is missing or null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let nested = || self.map.get("text_config").and_then(|text| text.get(key));
        self.map.get(key).filter(|value| !value.is_null()).or_else(nested).filter(|value| !value.is_null())
    }

    /// A nested object as a configuration of its own.
    pub fn object(&self, key: &str) -> Option<Hf> {
        let map = self.get(key)?.as_object()?.clone();
        Some(Self { file: format!("{}: {key}", self.file), map })
    }

    /// All keys of the outer level.
    pub fn map(&self) -> &Map<String, Value> {
        &self.map
    }

    /// A size, at most 2³¹.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.find_usize(key)?.ok_or_else(|| self.error(key, "a size", "nothing"))
    }

    /// A size, or a default.
    pub fn usize_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.find_usize(key)?.unwrap_or(default))
    }

    /// A size, if it is there.
    pub fn find_usize(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().filter(|&size| size <= MAX_SIZE) {
            Some(size) => Ok(Some(size as usize)),
            None => Err(self.error(key, "a size up to 2³¹", &value.to_string())),
        }
    }

    /// A size of at least 1.
    pub fn positive(&self, key: &str) -> Result<usize> {
        match self.usize(key)? {
            0 => Err(self.error(key, "a size of at least 1", "0")),
            size => Ok(size),
        }
    }

    /// A finite number.
    pub fn f64(&self, key: &str) -> Result<f64> {
        self.find_f64(key)?.ok_or_else(|| self.error(key, "a number", "nothing"))
    }

    /// A finite number, if it is there.
    pub fn find_f64(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.error(key, "a finite number", &value.to_string())),
        }
    }

    /// A finite number, or a default.
    pub fn f32_or(&self, key: &str, default: f32) -> Result<f32> {
        Ok(self.find_f64(key)?.map_or(default, |number| number as f32))
    }

    /// A truth value, or a default.
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(truth)) => Ok(*truth),
            Some(other) => Err(self.error(key, "true or false", &other.to_string())),
        }
    }

    /// A string, if it is there.
    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// A list of numbers, if it is there.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let numbers = value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
        numbers.map(Some).ok_or_else(|| self.error(key, "a list of numbers", &value.to_string()))
    }

    /// A list of strings, if it is there.
    pub fn strings(&self, key: &str) -> Option<Vec<&str>> {
        self.get(key)?.as_array()?.iter().map(Value::as_str).collect()
    }

    /// Token ids: one or a list of them.
    pub fn token_ids(&self, key: &str) -> Vec<u32> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match self.get(key) {
            Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
            Some(value) => id(value).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// An error about a key.
    pub fn error(&self, key: &str, expected: &str, got: &str) -> Error {
        let (file, key) = (self.file.clone(), key.to_owned());
        Error::Config { file, key, expected: expected.to_owned(), got: got.to_owned() }
    }
}
