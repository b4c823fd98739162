//! A GGUF's metadata under its architecture's prefix: read as the `config.json` that says the same, written in order.

use std::sync::Arc;

use serde_json::{Map, Value as Json};
use wootz_graph::HostTensor;
use wootz_weights::gguf::{Gguf, Value};
use wootz_weights::{TensorInfo, Weights};

use super::GgufFamily;
use crate::config::{Config, Mixer, Position};
use crate::{Error, Result};

/// Keys of nearly all architectures: in `config.json`, under the architecture's prefix.
const USUAL_KEYS: &[(&str, &str)] = &[
    ("max_position_embeddings", "context_length"),
    ("hidden_size", "embedding_length"),
    ("num_hidden_layers", "block_count"),
    ("intermediate_size", "feed_forward_length"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("layer_norm_eps", "attention.layer_norm_epsilon"),
    ("layer_norm_epsilon", "attention.layer_norm_epsilon"),
    ("norm_epsilon", "attention.layer_norm_epsilon"),
];

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

    /// A value under the architecture's prefix, as JSON.
    fn json(&self, key: &str) -> Option<Json> {
        json_of_value(&self.gguf.get(&format!("{}.{key}", self.arch))?)
    }

    /// The role of a special token, `tokenizer.ggml.NAME_token_id`.
    pub(crate) fn token(&self, name: &str) -> Option<u32> {
        self.gguf.find(&format!("tokenizer.ggml.{name}_token_id")).ok().flatten()
    }

    /// The `config.json` that says what this metadata says.
    pub(crate) fn to_hf(&self, family: &GgufFamily) -> Result<Json> {
        let implied: Json = serde_json::from_str(family.implied).expect("a family implies a JSON object");
        let mut hf = implied.as_object().cloned().unwrap_or_default();
        // GGUF calls Mixtral by Llama's name.
        let is_mixtral = family.name == "llama" && self.json("expert_count").is_some_and(|n| n != 0);
        let model_type = if is_mixtral { "mixtral" } else { family.model_type };
        hf.insert("model_type".to_owned(), model_type.into());
        for (ours, theirs) in USUAL_KEYS.iter().chain(family.keys) {
            if let Some(value) = self.json(theirs) {
                hf.insert((*ours).to_owned(), value);
            }
        }
        if is_mixtral {
            hf.insert("num_local_experts".to_owned(), self.json("expert_count").unwrap_or_default());
            hf.insert("num_experts_per_tok".to_owned(), self.json("expert_used_count").unwrap_or_default());
        }
        let table = self.weights.need("token_embd.weight")?;
        hf.insert("vocab_size".to_owned(), table.shape.first().copied().unwrap_or(0).into());
        hf.insert("tie_word_embeddings".to_owned(), (!self.has_tensor("output.weight")).into());
        let has_bias = self.has_tensor("blk.0.attn_output.bias");
        if self.has_tensor("blk.0.attn_q.bias") && family.model_type == "stablelm" {
            hf.insert("use_qkv_bias".to_owned(), true.into());
        } else if self.has_tensor("blk.0.attn_q.bias") && !matches!(family.model_type, "qwen2" | "phi") {
            hf.insert("attention_bias".to_owned(), has_bias.into());
        }
        if self.has_tensor("blk.0.attn_q_norm.weight") && family.model_type == "cohere" {
            hf.insert("use_qk_norm".to_owned(), true.into());
        }
        self.rope_to_hf(&mut hf);
        if let Some(bos) = self.token("bos") {
            hf.insert("bos_token_id".to_owned(), bos.into());
        }
        let ends: Vec<u32> = ["eos", "eot", "eom"].iter().filter_map(|name| self.token(name)).collect();
        hf.insert("eos_token_id".to_owned(), ends.into());
        Ok(hf.into())
    }

    /// `rope.*` as `rope_theta`, `rope_scaling` and the rotated share.
    fn rope_to_hf(&self, hf: &mut Map<String, Json>) {
        let head = self.json("attention.key_length").or_else(|| {
            let (width, heads) = (self.json("embedding_length")?, self.json("attention.head_count")?);
            Some((width.as_u64()? / heads.as_u64()?.max(1)).into())
        });
        let (rotated, head) = (self.json("rope.dimension_count"), head);
        if let (Some(rotated), Some(head)) = (rotated.and_then(|n| n.as_f64()), head.and_then(|n| n.as_f64()))
            && rotated < head
            && self.json("attention.kv_lora_rank").is_none()
        {
            hf.insert("partial_rotary_factor".to_owned(), (rotated / head).into());
        }
        if let Some(theta) = self.json("rope.freq_base") {
            hf.insert("rope_theta".to_owned(), theta);
        }
        let mut scaling = Map::new();
        let kind = self.json("rope.scaling.type").unwrap_or_default();
        if let Some(kind @ ("linear" | "yarn")) = kind.as_str() {
            scaling.insert("rope_type".to_owned(), kind.into());
        }
        for (ours, theirs) in [
            ("factor", "rope.scaling.factor"),
            ("original_max_position_embeddings", "rope.scaling.original_context_length"),
            ("beta_fast", "rope.scaling.yarn_beta_fast"),
            ("beta_slow", "rope.scaling.yarn_beta_slow"),
        ] {
            if let Some(value) = self.json(theirs) {
                scaling.insert(ours.to_owned(), value);
            }
        }
        let factors = |name: &str| self.numbers(name).map(Json::from);
        if let (Some(short), Some(long)) =
            (factors("rope_factors_short.weight"), factors("rope_factors_long.weight"))
        {
            scaling.insert("rope_type".to_owned(), "longrope".into());
            scaling.insert("short_factor".to_owned(), short);
            scaling.insert("long_factor".to_owned(), long);
            if let Some(factor) = self.json("rope.scaling.attn_factor") {
                scaling.insert("attention_factor".to_owned(), factor);
            }
        }
        if scaling.contains_key("rope_type") {
            hf.insert("rope_scaling".to_owned(), scaling.into());
        }
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

fn json_of_value(value: &Value) -> Option<Json> {
    match value {
        Value::Bool(truth) => Some((*truth).into()),
        Value::Str(text) => Some(text.as_ref().into()),
        Value::F32(number) => serde_json::Number::from_f64(f64::from(*number)).map(Json::Number),
        Value::F64(number) => serde_json::Number::from_f64(*number).map(Json::Number),
        Value::Array(_) => None,
        integer => u64::try_from(integer.as_integer()?).ok().map(Json::from),
    }
}
