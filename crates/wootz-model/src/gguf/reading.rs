//! A GGUF's metadata read as the `config.json` that says the same.
//!
//! Where:  for files that were not written here; those say their `config.json` themselves.
//! Idea:   usual keys are translated by a table, what a family alone has or implies by its own few lines in
//!         [`implied`](super::implied). A default that transformers has and llama.cpp has not is never reached: every
//!         key that a file leaves out is filled here with what llama.cpp takes in its place.

use serde_json::{Map, Value as Json};

use super::{GgufFamily, Keys};
use crate::hf::Hf;
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
    ("norm_eps", "attention.layer_norm_epsilon"),
];

/// A `config.json` in the making.
pub(crate) struct Reading<'a> {
    pub keys: &'a Keys<'a>,
    map: Map<String, Json>,
    /// Our key and the file's, for errors.
    said_as: Vec<(String, String)>,
}

/// The `config.json` that says what this metadata says.
pub(super) fn to_hf(keys: &Keys, family: &GgufFamily) -> Result<Hf> {
    let implied: Json = serde_json::from_str(family.implied).expect("a family implies a JSON object");
    let map = implied.as_object().cloned().unwrap_or_default();
    let mut reading = Reading { keys, map, said_as: Vec::new() };
    reading.put("model_type", family.model_type);
    for key in ["embedding_length", "block_count"] {
        reading.need(key)?;
    }
    for (ours, theirs) in USUAL_KEYS.iter().chain(family.keys) {
        reading.copy(ours, theirs)?;
    }
    let table = keys.need_tensor("token_embd.weight")?;
    reading.put("vocab_size", table.shape.first().copied().unwrap_or(0));
    reading.put("tie_word_embeddings", !keys.has_tensor("output.weight"));
    if let Some(n_predicting) = reading.size("nextn_predict_layers")? {
        let n_layers = reading.need("block_count")?;
        reading.put("num_hidden_layers", n_layers.saturating_sub(n_predicting));
    }
    if !["rms_norm_eps", "layer_norm_eps"].iter().any(|key| reading.map.contains_key(*key)) {
        return Err(keys.error("attention.layer_norm_rms_epsilon", "a number", "nothing"));
    }
    reading.heads()?;
    reading.rope()?;
    (family.derive)(&mut reading)?;
    if reading.map.get("sliding_window").is_some_and(|window| *window == 0) {
        reading.map.remove("sliding_window");
    }
    if let Some(bos) = keys.token("bos")? {
        reading.put("bos_token_id", bos);
    }
    let mut ends = Vec::new();
    for name in ["eos", "eot", "eom"] {
        ends.extend(keys.token(name)?);
    }
    reading.put("eos_token_id", ends);
    let hf = Hf::parse(keys.file(), Json::from(reading.map).to_string().as_bytes())?;
    Ok(hf.said_as(reading.said_as))
}

impl Reading<'_> {
    /// Sets a key of `config.json`.
    pub(super) fn put(&mut self, ours: &str, value: impl Into<Json>) {
        self.map.insert(ours.to_owned(), value.into());
    }

    /// Sets a key unless it is there.
    pub(super) fn put_default(&mut self, ours: &str, value: impl Into<Json>) {
        self.map.entry(ours).or_insert(value.into());
    }

    /// Copies the file's key, if it is there.
    pub(super) fn copy(&mut self, ours: &str, theirs: &str) -> Result<()> {
        if let Some(value) = self.keys.json(theirs)? {
            self.put(ours, value);
        }
        let names = (ours.to_owned(), self.keys.prefixed(theirs));
        if !self.said_as.iter().any(|(there, _)| *there == names.0) || self.map.contains_key(ours) {
            self.said_as.retain(|(there, _)| *there != names.0);
            self.said_as.push(names);
        }
        Ok(())
    }

    /// A size that the file must say.
    pub(super) fn need(&self, theirs: &str) -> Result<usize> {
        self.size(theirs)?.ok_or_else(|| self.keys.error(theirs, "a size", "nothing"))
    }

    /// A size from 1 to 2³¹, if the file says it.
    pub(super) fn size(&self, theirs: &str) -> Result<Option<usize>> {
        let Some(value) = self.keys.json(theirs)? else { return Ok(None) };
        match value.as_u64().filter(|size| (1..=1 << 31).contains(size)) {
            Some(size) => Ok(Some(size as usize)),
            None => Err(self.keys.error(theirs, "a size from 1 to 2³¹", &value.to_string())),
        }
    }

    /// Whether the first layer has a tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        self.keys.has_tensor(&format!("blk.0.{name}"))
    }

    /// A number from a table, unless the file says another.
    pub(super) fn f64(&self, theirs: &str) -> Result<Option<f64>> {
        let Some(value) = self.keys.json(theirs)? else { return Ok(None) };
        let number = value.as_f64().filter(|number| number.is_finite());
        number.map(Some).ok_or_else(|| self.keys.error(theirs, "a finite number", &value.to_string()))
    }

    /// Heads of their own for keys, and C/H numbers a head, where the file says nothing else.
    fn heads(&mut self) -> Result<()> {
        if self.keys.json("ssm.inner_size")?.is_some() {
            for key in ["num_attention_heads", "num_key_value_heads"] {
                self.map.remove(key); // a recurrence says zero
            }
            return Ok(());
        }
        self.need("feed_forward_length")?;
        let (width, heads) = (self.need("embedding_length")?, self.need("attention.head_count")?);
        self.put_default("num_key_value_heads", heads);
        self.put_default("head_dim", width / heads);
        self.size("attention.key_length")?;
        if self.keys.json("attention.value_length")? != self.keys.json("attention.key_length")?
            && self.keys.json("attention.kv_lora_rank")?.is_none()
        {
            let got = self.keys.json("attention.value_length")?.unwrap_or_default().to_string();
            return Err(self.keys.error("attention.value_length", "the same as `key_length`", &got));
        }
        Ok(())
    }

    /// `rope.*` as `rope_theta`, `rope_scaling` and the rotated share.
    fn rope(&mut self) -> Result<()> {
        self.put("rope_theta", self.f64("rope.freq_base")?.unwrap_or(10_000.0));
        self.said_as.push(("rope_theta".to_owned(), self.keys.prefixed("rope.freq_base")));
        let is_latent = self.keys.json("attention.kv_lora_rank")?.is_some();
        let head = self.map.get("head_dim").and_then(Json::as_u64);
        if let (Some(n_rot), Some(head), false) = (self.keys.json("rope.dimension_count")?, head, is_latent) {
            let fits = n_rot.as_u64().filter(|&n_rot| n_rot <= head && n_rot.is_multiple_of(2));
            let Some(n_rot) = fits else {
                let expected = format!("an even width up to the head's {head}");
                return Err(self.keys.error("rope.dimension_count", &expected, &n_rot.to_string()));
            };
            self.put("partial_rotary_factor", n_rot as f64 / head as f64);
        }
        let mut scaling = Map::new();
        match self.keys.json("rope.scaling.type")?.unwrap_or_default().as_str() {
            Some(kind @ ("linear" | "yarn")) => {
                scaling.insert("rope_type".to_owned(), kind.into());
            }
            None if self.f64("rope.scaling.factor")?.is_some_and(|factor| factor != 0.0) => {
                scaling.insert("rope_type".to_owned(), "linear".into()); // what llama.cpp takes without a type
            }
            None | Some("none" | "longrope") => {}
            Some(other) => {
                let expected = "`none`, `linear`, `yarn` or `longrope`";
                return Err(self.keys.error("rope.scaling.type", expected, other));
            }
        }
        for (ours, theirs) in [
            ("factor", "rope.scaling.factor"),
            ("original_max_position_embeddings", "rope.scaling.original_context_length"),
            ("beta_fast", "rope.scaling.yarn_beta_fast"),
            ("beta_slow", "rope.scaling.yarn_beta_slow"),
        ] {
            if let Some(value) = self.keys.json(theirs)? {
                scaling.insert(ours.to_owned(), value);
            }
        }
        let factors = |name: &str| self.keys.numbers(name).map(Json::from);
        if let (Some(short), Some(long)) =
            (factors("rope_factors_short.weight"), factors("rope_factors_long.weight"))
        {
            scaling.insert("rope_type".to_owned(), "longrope".into());
            scaling.insert("short_factor".to_owned(), short);
            scaling.insert("long_factor".to_owned(), long);
        }
        self.attention_factor(&mut scaling)?;
        if scaling.get("rope_type").is_some_and(|kind| kind != "linear" || scaling.contains_key("factor")) {
            self.put("rope_scaling", scaling);
        }
        Ok(())
    }

    /// What multiplies sine and cosine.
    fn attention_factor(&self, scaling: &mut Map<String, Json>) -> Result<()> {
        let Some(kind) = scaling.get("rope_type").and_then(Json::as_str) else { return Ok(()) };
        let factor = self.f64("rope.scaling.attn_factor")?;
        let value = match kind {
            "longrope" => factor.unwrap_or(1.0),
            "yarn" => {
                if let Some(multiplier) = self.f64("rope.scaling.yarn_log_multiplier")? {
                    scaling.insert("mscale".to_owned(), (multiplier / 0.1).into());
                    scaling.insert("mscale_all_dim".to_owned(), (multiplier / 0.1).into());
                    return Ok(());
                }
                let own = crate::rope::yarn_mscale(self.f64("rope.scaling.factor")?.unwrap_or(1.0), 1.0);
                own * factor.unwrap_or(1.0)
            }
            _ => return Ok(()),
        };
        scaling.insert("attention_factor".to_owned(), value.into());
        Ok(())
    }
}

impl Keys<'_> {
    /// A key with the architecture's prefix.
    pub(super) fn prefixed(&self, key: &str) -> String {
        format!("{}.{key}", self.arch())
    }

    /// An error about a key under the architecture's prefix.
    pub(super) fn error(&self, key: &str, expected: &str, got: &str) -> Error {
        Error::Config {
            file: self.file().to_owned(),
            key: self.prefixed(key),
            expected: expected.to_owned(),
            got: got.to_owned(),
        }
    }
}
