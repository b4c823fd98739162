//! A GGUF's metadata under its architecture's prefix: read as JSON, written in order.

use std::sync::Arc;

use serde_json::Value as Json;
use wootz_graph::HostTensor;
use wootz_weights::gguf::{Gguf, Value};
use wootz_weights::{TensorInfo, Weights};

use crate::config::{Config, Mixer, Position};
use crate::{Error, Result};

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

    /// A value under the architecture's prefix, as JSON: a number for all layers if they have one each.
    pub(super) fn json(&self, key: &str) -> Result<Option<Json>> {
        let Some(value) = self.gguf.get(&self.prefixed(key)) else { return Ok(None) };
        let Value::Array(array) = &value else { return Ok(Some(json_of_value(&value))) };
        let mut items = array.items().map(|item| json_of_value(&item));
        let first = items.next().unwrap_or_default();
        match items.all(|item| item == first) {
            true => Ok(Some(first)),
            false => Err(self.error(key, "the same for all layers", "different ones")),
        }
    }

    /// The role of a special token, `tokenizer.ggml.NAME_token_id`.
    pub(crate) fn token(&self, name: &str) -> Result<Option<u32>> {
        Ok(self.gguf.find(&format!("tokenizer.ggml.{name}_token_id"))?)
    }

    /// Divides the frequencies by `rope_freqs.weight`, where the file has it (Llama 3).
    pub(crate) fn apply_rope_factors(&self, config: &mut Config) -> Result<()> {
        let Some(factors) = self.numbers("rope_freqs.weight") else { return Ok(()) };
        for layer in &mut config.layers {
            let Mixer::Attention(attention) = &mut layer.mixer else { continue };
            let Position::Rope(table, _) = &mut attention.position else { continue };
            if factors.len() != table.inv_freq.len() {
                return Err(Error::Config {
                    file: self.file.clone(),
                    key: "rope_freqs.weight".to_owned(),
                    expected: format!("{} factors", table.inv_freq.len()),
                    got: factors.len().to_string(),
                });
            }
            let table = Arc::make_mut(table);
            table.inv_freq.iter_mut().zip(&factors).for_each(|(freq, factor)| *freq /= factor);
        }
        Ok(())
    }

    /// Whether the file has this tensor.
    pub(crate) fn has_tensor(&self, name: &str) -> bool {
        self.weights.info(name).is_some()
    }

    /// A tensor's shape, if it is there.
    pub(super) fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.weights.info(name).map(|info| info.shape.as_slice())
    }

    /// A tensor that must be there.
    pub(super) fn need_tensor(&self, name: &str) -> Result<wootz_weights::TensorView<'a>> {
        Ok(self.weights.need(name)?)
    }

    /// A tensor's numbers, if it is there.
    pub(crate) fn numbers(&self, name: &str) -> Option<Vec<f32>> {
        self.weights.get(name).map(|tensor| tensor.to_f32())
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

    /// `general.architecture`.
    pub(crate) fn arch(&self) -> &'static str {
        self.arch
    }

    /// A key without the architecture's prefix.
    pub(crate) fn general(&mut self, key: &str, value: Value<'static>) {
        self.pairs.push((key.to_owned(), value));
    }

    /// Whether a key is there already.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(there, _)| *there == format!("{}.{key}", self.arch))
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

/// A JSON value as GGUF says it: whole numbers as u32, others as f32.
pub(super) fn value_of_json(json: &Json) -> Option<Value<'static>> {
    match json {
        Json::Bool(truth) => Some(Value::Bool(*truth)),
        Json::Number(number) => match number.as_u64() {
            Some(size) => u32::try_from(size).ok().map(Value::U32),
            None => number.as_f64().map(|number| Value::F32(number as f32)),
        },
        Json::String(text) => Some(Value::Str(text.clone().into())),
        _ => None,
    }
}

/// Numbers that JSON has not become strings, which no key that wants a number takes.
fn json_of_value(value: &Value) -> Json {
    let number = |number: f64| match serde_json::Number::from_f64(number) {
        Some(number) => Json::Number(number),
        None => number.to_string().into(),
    };
    match value {
        Value::Bool(truth) => (*truth).into(),
        Value::Str(text) => text.as_ref().into(),
        // The shortest decimal that is this f32, so that 1e-5 does not become 9.99999974e-6.
        Value::F32(x) => number(x.to_string().parse().unwrap_or(f64::from(*x))),
        Value::F64(x) => number(*x),
        Value::Array(_) => Json::Null,
        integer => match integer.as_integer() {
            Some(whole) => match (u64::try_from(whole), i64::try_from(whole)) {
                (Ok(whole), _) => whole.into(),
                (_, Ok(whole)) => whole.into(),
                _ => whole.to_string().into(),
            },
            None => Json::Null,
        },
    }
}
