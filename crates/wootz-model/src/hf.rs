//! `config.json`: typed, bounded access to what Hugging Face's configurations say.
//!
//! Where:  read by the architectures' `from_hf`.
//! Idea:   every number is bounded when it is read, because sizes are allocated from it; an error names the
//!         file and the key. A nested `text_config` is looked into where the outer level lacks a key, then the
//!         defaults that transformers has for the architecture.

use std::borrow::Cow;
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
    defaults: Map<String, Value>,
    spellings: &'static [(&'static str, &'static str)],
    /// Keys that this was translated from, for errors: (our key, the file's).
    said_as: Vec<(String, String)>,
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
        match serde_json::from_slice(&quote_specials(text)) {
            Ok(Value::Object(map)) => Ok(Self::of_map(file.to_owned(), map)),
            Ok(_) => Err(fail("another value".to_owned())),
            Err(error) => Err(fail(error.to_string())),
        }
    }

    fn of_map(file: String, map: Map<String, Value>) -> Self {
        Self { file, map, defaults: Map::new(), spellings: &[], said_as: Vec::new() }
    }

    /// The same with values for keys that are missing, a JSON object. A key that is there and null stays null.
    pub fn with_defaults(&self, defaults: &str) -> Self {
        let defaults = serde_json::from_str(defaults).expect("an architecture's defaults are a JSON object");
        Self { defaults, ..self.clone() }
    }

    /// The same where files may spell a key in another way: (our key, the other).
    pub fn with_spellings(&self, spellings: &'static [(&'static str, &'static str)]) -> Self {
        Self { spellings, ..self.clone() }
    }

    /// The same, translated from a file that calls keys by other names, which errors then name.
    pub fn said_as(self, said_as: Vec<(String, String)>) -> Self {
        Self { said_as, ..self }
    }

    /// The file's name, for errors.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The value of a key, unless it is missing or null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let default = self.defaults.get(key);
        self.given(self.spelled(key)).or(default).filter(|value| !value.is_null())
    }

    /// What the file says, null too.
    fn given(&self, key: &str) -> Option<&Value> {
        let outer = self.map.get(key);
        let nested = self.map.get("text_config").and_then(|text| text.get(key));
        outer.filter(|value| !value.is_null()).or(nested).or(outer)
    }

    /// How the file spells a key.
    fn spelled<'k>(&self, key: &'k str) -> &'k str {
        let fits = |&&(ours, other): &&(&str, &str)| ours == key && self.given(other).is_some();
        self.spellings.iter().find(fits).map_or(key, |&(_, other)| other)
    }

    /// A nested object as a configuration of its own.
    pub fn object(&self, key: &str) -> Option<Hf> {
        let map = self.get(key)?.as_object()?.clone();
        Some(Self::of_map(format!("{}: {key}", self.file), map))
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

    /// Refuses a setting that would change what is computed and has only one implementation here.
    pub fn require(&self, key: &str, supported: impl Into<Value>) -> Result<()> {
        let supported = supported.into();
        let is_it =
            |got: &Value| *got == supported || (got.is_number() && got.as_f64() == supported.as_f64());
        match self.get(key).filter(|got| !is_it(got)) {
            Some(got) => {
                let got: String = got.to_string().chars().take(80).collect();
                Err(self.error(key, &supported.to_string(), &got))
            }
            None => Ok(()),
        }
    }

    /// An error about a key.
    pub fn error(&self, key: &str, expected: &str, got: &str) -> Error {
        let said = self.said_as.iter().find(|(ours, _)| ours == key).map(|(_, theirs)| theirs.as_str());
        let (file, key) = (self.file.clone(), said.unwrap_or_else(|| self.spelled(key)).to_owned());
        Error::Config { file, key, expected: expected.to_owned(), got: got.to_owned() }
    }
}

/// Puts quotes around `NaN` and `Infinity`, which Python writes as numbers though JSON has none.
fn quote_specials(text: &[u8]) -> Cow<'_, [u8]> {
    const SPECIALS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    if !text.windows(3).any(|word| word == b"NaN" || word == b"Inf") {
        return Cow::Borrowed(text);
    }
    let mut quoted = Vec::with_capacity(text.len() + 64);
    let (mut at, mut in_string) = (0, false);
    while at < text.len() {
        let special = SPECIALS.iter().find(|word| !in_string && text[at..].starts_with(word));
        if let Some(word) = special {
            quoted.extend([b"\"", *word, b"\""].concat());
            at += word.len();
            continue;
        }
        let escaped = in_string && text[at] == b'\\';
        in_string ^= text[at] == b'"';
        quoted.extend(&text[at..text.len().min(at + 1 + usize::from(escaped))]);
        at += 1 + usize::from(escaped);
    }
    Cow::Owned(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hf(text: &str) -> Hf {
        Hf::parse("config.json", text.as_bytes()).unwrap()
    }

    #[test]
    fn a_default_stands_in_for_a_missing_key_but_not_for_null() {
        let hf = hf(r#"{"a": null, "text_config": {"b": 3}}"#).with_defaults(r#"{"a": 1, "b": 1, "c": 1}"#);
        let read = |key| hf.find_usize(key).unwrap();
        assert_eq!((read("a"), read("b"), read("c"), read("d")), (None, Some(3), Some(1), None));
    }

    #[test]
    fn another_spelling_is_read_and_named_in_errors() {
        let hf = hf(r#"{"n_embd": "wide"}"#).with_spellings(&[("hidden_size", "n_embd")]);
        let error = hf.positive("hidden_size").unwrap_err().to_string();
        assert!(error.contains("`n_embd`") && error.contains("wide"), "{error}");
    }

    #[test]
    fn a_setting_with_one_implementation_is_refused_by_name() {
        let error = hf(r#"{"cross": true}"#).require("cross", false).unwrap_err().to_string();
        assert_eq!(error, "config.json: `cross`: expected false, got true");
        hf(r#"{"cross": false}"#).require("cross", false).unwrap();
    }

    #[test]
    fn python_spells_infinity_without_quotes() {
        let hf = hf(r#"{"a\"NaN": [0.0, Infinity, -Infinity], "b": NaN}"#);
        assert_eq!(hf.get("a\"NaN").unwrap().to_string(), r#"[0.0,"Infinity","-Infinity"]"#);
        assert_eq!(hf.str("b"), Some("NaN"));
    }
}
