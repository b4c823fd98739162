//! Reading a JSON object strictly: typed fields, defaults, and an error for every key that nobody asked for.
//!
//! Where:  the small objects of `tokenizer.json` (normalizers, pre-tokenizers, processors, decoders).
//! Idea:   each getter takes its key out; [`Fields::finish`] complains about what is left, so nothing is silently ignored.

use serde_json::{Map, Value};

use super::TokenizerError;
use super::table::shorten;

/// An object with its path in the file.
#[derive(Debug)]
pub(crate) struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    pub(crate) fn new(path: &str, value: Value) -> Result<Self, TokenizerError> {
        match value {
            Value::Object(map) => Ok(Self { path: path.to_owned(), map }),
            other => Err(unexpected(path, "an object", &other)),
        }
    }

    /// The path of a key.
    pub(crate) fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// The error that `key` should have been `expected`.
    pub(crate) fn wrong(&self, key: &str, expected: &str, got: &str) -> TokenizerError {
        TokenizerError::field(self.path(key), format!("expected {expected}, got `{}`", shorten(got)))
    }

    /// A key's value; `None` if it is missing or null.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// Takes out keys that have no effect here.
    pub(crate) fn ignore(&mut self, keys: &[&str]) {
        for key in keys {
            self.map.remove(*key);
        }
    }

    pub(crate) fn optional_string(&mut self, key: &str) -> Result<Option<String>, TokenizerError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(unexpected(&self.path(key), "a string", &other)),
        }
    }

    pub(crate) fn string(&mut self, key: &str) -> Result<String, TokenizerError> {
        self.optional_string(key)?.ok_or_else(|| self.missing(key))
    }

    pub(crate) fn optional_bool(&mut self, key: &str) -> Result<Option<bool>, TokenizerError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(bool)) => Ok(Some(bool)),
            Some(other) => Err(unexpected(&self.path(key), "true or false", &other)),
        }
    }

    pub(crate) fn bool(&mut self, key: &str) -> Result<bool, TokenizerError> {
        self.optional_bool(key)?.ok_or_else(|| self.missing(key))
    }

    /// A whole number of at most `max`.
    pub(crate) fn number(&mut self, key: &str, max: u64) -> Result<u64, TokenizerError> {
        let value = self.take(key).ok_or_else(|| self.missing(key))?;
        let number = value.as_u64().filter(|&number| number <= max);
        number.ok_or_else(|| unexpected(&self.path(key), &format!("a whole number up to {max}"), &value))
    }

    /// A string of exactly one character.
    pub(crate) fn char(&mut self, key: &str) -> Result<char, TokenizerError> {
        let text = self.string(key)?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(c),
            _ => Err(self.wrong(key, "one character", &text)),
        }
    }

    pub(crate) fn array(&mut self, key: &str) -> Result<Vec<Value>, TokenizerError> {
        match self.take(key) {
            Some(Value::Array(values)) => Ok(values),
            Some(other) => Err(unexpected(&self.path(key), "an array", &other)),
            None => Err(self.missing(key)),
        }
    }

    /// All keys must have been taken.
    pub(crate) fn finish(self) -> Result<(), TokenizerError> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(key) => Err(TokenizerError::field(self.path(&shorten(key)), "unknown field")),
        }
    }

    fn missing(&self, key: &str) -> TokenizerError {
        TokenizerError::field(self.path(key), "missing")
    }
}

/// The error that a value should have been something else.
pub(crate) fn unexpected(path: &str, expected: &str, got: &Value) -> TokenizerError {
    let got = shorten(&match got {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    });
    TokenizerError::field(path, format!("expected {expected}, got {got}"))
}
