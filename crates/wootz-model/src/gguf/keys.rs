//! A GGUF's metadata under its architecture's prefix, read with bounds and written in order.

use wootz_graph::HostTensor;
use wootz_weights::gguf::{Gguf, Value};
use wootz_weights::{TensorInfo, Weights};

use crate::{Error, Result};

/// The largest size that a file may name.
const MAX_SIZE: usize = 1 << 31;

/// Metadata of one file.
pub(crate) struct Keys<'a> {
    file: String,
    arch: &'a str,
    gguf: Gguf<'a>,
    weights: &'a Weights,
}

impl<'a> Keys<'a> {
    /// The metadata of opened weights; none if they are no GGUF.
    pub(crate) fn of(weights: &'a Weights) -> Result<Option<Self>> {
        let Some(gguf) = weights.gguf() else { return Ok(None) };
        let arch = gguf.str("general.architecture")?;
        Ok(Some(Self { file: weights.path().display().to_string(), arch, gguf, weights }))
    }

    /// `general.architecture`.
    pub(crate) fn arch(&self) -> &'a str {
        self.arch
    }

    /// The file's name, for errors.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// All metadata, unprefixed.
    pub(crate) fn gguf(&self) -> &Gguf<'a> {
        &self.gguf
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    /// A size under the architecture's prefix, at most 2³¹.
    pub(crate) fn usize(&self, key: &str) -> Result<usize> {
        self.find_usize(key)?.ok_or_else(|| self.error(key, "a size", "nothing"))
    }

    /// A size, or a default.
    pub(crate) fn usize_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.find_usize(key)?.unwrap_or(default))
    }

    /// A size, if it is there.
    pub(crate) fn find_usize(&self, key: &str) -> Result<Option<usize>> {
        match self.gguf.find::<usize>(&self.key(key))? {
            Some(size) if size > MAX_SIZE => Err(self.error(key, "a size up to 2³¹", &size.to_string())),
            size => Ok(size),
        }
    }

    /// A size of at least 1.
    pub(crate) fn positive(&self, key: &str) -> Result<usize> {
        match self.usize(key)? {
            0 => Err(self.error(key, "a size of at least 1", "0")),
            size => Ok(size),
        }
    }

    /// A finite number, if it is there.
    pub(crate) fn find_f32(&self, key: &str) -> Result<Option<f32>> {
        match self.gguf.find::<f32>(&self.key(key))? {
            Some(number) if !number.is_finite() => {
                Err(self.error(key, "a finite number", &number.to_string()))
            }
            number => Ok(number),
        }
    }

    /// A finite number.
    pub(crate) fn f32(&self, key: &str) -> Result<f32> {
        self.find_f32(key)?.ok_or_else(|| self.error(key, "a number", "nothing"))
    }

    /// A finite number, or a default.
    pub(crate) fn f32_or(&self, key: &str, default: f32) -> Result<f32> {
        Ok(self.find_f32(key)?.unwrap_or(default))
    }

    /// A truth value, or a default.
    pub(crate) fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.gguf.find(&self.key(key))?.unwrap_or(default))
    }

    /// A string, if it is there.
    pub(crate) fn str(&self, key: &str) -> Result<Option<&'a str>> {
        Ok(self.gguf.find(&self.key(key))?)
    }

    /// The role of a special token, `tokenizer.ggml.NAME_token_id`.
    pub(crate) fn token(&self, name: &str) -> Option<u32> {
        self.gguf.find(&format!("tokenizer.ggml.{name}_token_id")).ok().flatten()
    }

    /// Rows of the embedding table.
    pub(crate) fn vocab_size(&self) -> Result<usize> {
        let table = self.weights.need("token_embd.weight")?;
        Ok(table.shape.first().copied().unwrap_or(0))
    }

    /// Whether the file has this tensor.
    pub(crate) fn has_tensor(&self, name: &str) -> bool {
        self.weights.info(name).is_some()
    }

    /// A tensor's numbers, if it is there.
    pub(crate) fn numbers(&self, name: &str) -> Option<Vec<f32>> {
        self.weights.get(name).map(|tensor| tensor.to_f32())
    }

    /// An error about a key under the architecture's prefix.
    pub(crate) fn error(&self, key: &str, expected: &str, got: &str) -> Error {
        Error::Config {
            file: self.file.clone(),
            key: self.key(key),
            expected: expected.to_owned(),
            got: got.to_owned(),
        }
    }
}

/// Metadata and small tensors of a file that is being made.
pub(crate) struct KeyWriter {
    arch: &'static str,
    /// Keys and values in the order of the file.
    pub pairs: Vec<(String, Value<'static>)>,
    /// Tensors that are no weights here, such as frequency factors.
    pub tensors: Vec<(TensorInfo, HostTensor<'static>)>,
}

impl KeyWriter {
    pub(crate) fn new(arch: &'static str) -> Self {
        let mut writer = Self { arch, pairs: Vec::new(), tensors: Vec::new() };
        writer.general("general.architecture", Value::from(arch));
        writer
    }

    /// A key without the architecture's prefix.
    pub(crate) fn general(&mut self, key: &str, value: Value<'static>) {
        self.pairs.push((key.to_owned(), value));
    }

    /// A size.
    pub(crate) fn size(&mut self, key: &str, size: usize) {
        self.value(key, Value::U32(size as u32));
    }

    /// A number.
    pub(crate) fn f32(&mut self, key: &str, number: f32) {
        self.value(key, Value::F32(number));
    }

    /// Any value.
    pub(crate) fn value(&mut self, key: &str, value: Value<'static>) {
        self.pairs.push((format!("{}.{key}", self.arch), value));
    }
}
