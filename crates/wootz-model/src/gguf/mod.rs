//! Models as GGUF files: which keys and tensor names say what `config.json` and Hugging Face's names say.
//!
//! Where:  read by [`Model::open`](crate::Model::open), written by [`convert`](crate::convert()).
//! Idea:   most architectures share keys and names; a family adds in its own file what is its own.
//! Source: ggml's `docs/gguf.md`; llama.cpp's converter and loader for the conventions of each architecture.

mod keys;
mod llama;
mod rope_keys;
mod tokenizer;

pub(crate) use keys::{KeyWriter, Keys};
pub(crate) use rope_keys::write_rope;
pub(crate) use tokenizer::{template_of, vocab_of, write_tokenizer};

use crate::arch::Usual;
use crate::config::{Config, Norm, Position};
use crate::hf::Hf;
use crate::names::{Names, Part};
use crate::{Error, Result, rope};
use wootz_graph::RopeStyle;

/// What GGUF knows about a family.
#[derive(Clone, Copy)]
pub(crate) struct GgufFamily {
    /// `general.architecture`.
    pub name: &'static str,
    /// The families of [`arch`](crate::arch) that it writes.
    pub archs: &'static [&'static str],
    /// Reads metadata.
    pub from_gguf: fn(&Keys) -> Result<Config>,
    /// Names and parts of tensors. For writing, parts say how what is in memory becomes what the file holds.
    pub names: fn(&Config) -> Names,
    /// Writes the family's keys.
    pub write_keys: fn(&Config, &Hf, &mut KeyWriter) -> Result<()>,
}

/// Every family.
const ALL: &[GgufFamily] = &[llama::LLAMA];

impl GgufFamily {
    /// The family of a file.
    pub(crate) fn of_keys(keys: &Keys) -> Result<&'static Self> {
        ALL.iter().find(|family| family.name == keys.arch()).ok_or_else(|| Error::UnknownArchitecture {
            file: keys.file().to_owned(),
            name: keys.arch().to_owned(),
            known: ALL.iter().map(|family| family.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// The family that writes an architecture.
    pub(crate) fn of_arch(arch: &str) -> Result<&'static Self> {
        let found = ALL.iter().find(|family| family.archs.contains(&arch));
        found.ok_or_else(|| Error::NoGguf(format!("GGUF has no name for the architecture `{arch}`")))
    }
}

/// Names that nearly all architectures share.
pub(crate) const USUAL_NAMES: &[(&str, &str)] = &[
    ("embed", "token_embd.weight"),
    ("positions", "position_embd.weight"),
    ("token_types", "token_types.weight"),
    ("embed_norm", "token_embd_norm.weight"),
    ("embed_norm_b", "token_embd_norm.bias"),
    ("layers.{}.attn_norm", "blk.{}.attn_norm.weight"),
    ("layers.{}.attn_norm_b", "blk.{}.attn_norm.bias"),
    ("layers.{}.wq", "blk.{}.attn_q.weight"),
    ("layers.{}.wk", "blk.{}.attn_k.weight"),
    ("layers.{}.wv", "blk.{}.attn_v.weight"),
    ("layers.{}.wo", "blk.{}.attn_output.weight"),
    ("layers.{}.bq", "blk.{}.attn_q.bias"),
    ("layers.{}.bk", "blk.{}.attn_k.bias"),
    ("layers.{}.bv", "blk.{}.attn_v.bias"),
    ("layers.{}.bo", "blk.{}.attn_output.bias"),
    ("layers.{}.q_norm", "blk.{}.attn_q_norm.weight"),
    ("layers.{}.k_norm", "blk.{}.attn_k_norm.weight"),
    ("layers.{}.post_attn_norm", "blk.{}.post_attention_norm.weight"),
    ("layers.{}.ffn_norm", "blk.{}.ffn_norm.weight"),
    ("layers.{}.ffn_norm_b", "blk.{}.ffn_norm.bias"),
    ("layers.{}.post_ffn_norm", "blk.{}.post_ffw_norm.weight"),
    ("layers.{}.w_gate", "blk.{}.ffn_gate.weight"),
    ("layers.{}.w_up", "blk.{}.ffn_up.weight"),
    ("layers.{}.w_down", "blk.{}.ffn_down.weight"),
    ("layers.{}.b_gate", "blk.{}.ffn_gate.bias"),
    ("layers.{}.b_up", "blk.{}.ffn_up.bias"),
    ("layers.{}.b_down", "blk.{}.ffn_down.bias"),
    ("layers.{}.router", "blk.{}.ffn_gate_inp.weight"),
    ("layers.{}.router_b", "blk.{}.exp_probs_b.bias"),
    ("layers.{}.experts.w_gate", "blk.{}.ffn_gate_exps.weight"),
    ("layers.{}.experts.w_up", "blk.{}.ffn_up_exps.weight"),
    ("layers.{}.experts.w_down", "blk.{}.ffn_down_exps.weight"),
    ("layers.{}.w_shared_gate", "blk.{}.ffn_gate_shexp.weight"),
    ("layers.{}.w_shared_up", "blk.{}.ffn_up_shexp.weight"),
    ("layers.{}.w_shared_down", "blk.{}.ffn_down_shexp.weight"),
    ("final_norm", "output_norm.weight"),
    ("final_norm_b", "output_norm.bias"),
    ("head", "output.weight"),
    ("head_b", "output.bias"),
];

/// The usual names, with q and k in pairs: ggml's Llama-like architectures rotate neighbours, so rows of each head
/// change places on the way out, and a file's model rotates by pairs instead.
pub(crate) fn names_in_pairs(config: &Config) -> Names {
    let mut names = Names::whole(USUAL_NAMES);
    let Some(crate::config::Mixer::Attention(attention)) = config.layers.first().map(|layer| &layer.mixer)
    else {
        return names;
    };
    if let Position::Rope(table, RopeStyle::Halves) = &attention.position {
        let n_rot = 2 * table.inv_freq.len();
        for (weight, file, n_heads) in [
            ("wq", "attn_q.weight", attention.n_heads),
            ("wk", "attn_k.weight", attention.n_kv_heads),
            ("bq", "attn_q.bias", attention.n_heads),
            ("bk", "attn_k.bias", attention.n_kv_heads),
        ] {
            let part = Part::HalvesFromPairs { n_heads, n_rot };
            names = names.part(&format!("layers.{{}}.{weight}"), &format!("blk.{{}}.{file}"), part);
        }
    }
    names
}

impl Usual {
    /// `embedding_length`, `block_count`, `attention.head_count`, …
    pub(crate) fn from_gguf(keys: &Keys) -> Result<Self> {
        let (d_model, n_heads) = (keys.positive("embedding_length")?, keys.positive("attention.head_count")?);
        let head_dim = keys.usize_or("attention.key_length", d_model / n_heads)?;
        let usual = Self {
            d_model,
            n_layers: keys.usize("block_count")?,
            n_heads,
            n_kv_heads: keys.usize_or("attention.head_count_kv", n_heads)?,
            head_dim,
            max_seq_len: keys.usize_or("context_length", 2048)?,
        };
        if usual.n_layers > 4096 {
            return Err(keys.error("block_count", "at most 4096", &usual.n_layers.to_string()));
        }
        if usual.n_kv_heads == 0 || !usual.n_heads.is_multiple_of(usual.n_kv_heads) {
            let expected = format!("a divisor of {} heads", usual.n_heads);
            return Err(keys.error("attention.head_count_kv", &expected, &usual.n_kv_heads.to_string()));
        }
        if usual.head_dim == 0 || usual.head_dim > 1 << 16 {
            return Err(keys.error("attention.key_length", "1 to 65,536", &usual.head_dim.to_string()));
        }
        Ok(usual)
    }

    /// A decoder of these layers, whose head is tied where the file has no `output.weight`.
    pub(crate) fn decoder_from_gguf(
        &self,
        arch: &'static str,
        keys: &Keys,
        final_norm: Norm,
        layers: Vec<crate::config::LayerConfig>,
    ) -> Result<Config> {
        Ok(Config {
            arch,
            vocab_size: keys.vocab_size()?,
            d_model: self.d_model,
            max_seq_len: self.max_seq_len,
            embed: crate::config::EmbedConfig::default(),
            layers,
            final_norm: Some(final_norm),
            head: crate::config::Head::Lm {
                tied: !keys.has_tensor("output.weight"),
                bias: false,
                scale: 1.0,
                softcap: None,
            },
            bos_token: keys.token("bos"),
            eos_tokens: ["eos", "eot", "eom"].iter().filter_map(|name| keys.token(name)).collect(),
        })
    }
}

/// Rotation as a GGUF describes it, over its `rope.dimension_count` or whole heads.
pub(crate) fn rope_of(keys: &Keys, head_dim: usize, style: RopeStyle) -> Result<Position> {
    let n_rot = keys.usize_or("rope.dimension_count", head_dim)?;
    if n_rot > head_dim || !n_rot.is_multiple_of(2) {
        let expected = format!("an even number up to {head_dim}");
        return Err(keys.error("rope.dimension_count", &expected, &n_rot.to_string()));
    }
    Ok(Position::Rope(std::sync::Arc::new(rope::from_gguf(keys, n_rot)?), style))
}

/// The keys that every decoder with attention has, and those that a rotation needs.
pub(crate) fn write_usual(config: &Config, out: &mut KeyWriter) {
    out.size("context_length", config.max_seq_len);
    out.size("embedding_length", config.d_model);
    out.size("block_count", config.layers.len());
    out.size("vocab_size", config.vocab_size);
    let Some(layer) = config.layers.first() else { return };
    match layer.norm {
        Norm::Rms { eps } => out.f32("attention.layer_norm_rms_epsilon", eps),
        Norm::Layer { eps, .. } | Norm::LayerPlain { eps } => out.f32("attention.layer_norm_epsilon", eps),
    }
    match &layer.ffn {
        crate::config::Ffn::Plain { d_ff, .. } | crate::config::Ffn::Gated { d_ff, .. } => {
            out.size("feed_forward_length", *d_ff);
        }
        crate::config::Ffn::Experts(experts) => {
            out.size("expert_count", experts.n_experts);
            out.size("expert_used_count", experts.n_used);
        }
        crate::config::Ffn::None => {}
    }
    let crate::config::Mixer::Attention(attention) = &layer.mixer else { return };
    out.size("attention.head_count", attention.n_heads);
    out.size("attention.head_count_kv", attention.n_kv_heads);
    if attention.head_dim * attention.n_heads != config.d_model {
        out.size("attention.key_length", attention.head_dim);
        out.size("attention.value_length", attention.head_dim);
    }
    if let Some(window) = attention.window {
        out.size("attention.sliding_window", window);
    }
    if let Position::Rope(table, _) = &attention.position {
        out.size("rope.dimension_count", 2 * table.inv_freq.len());
    }
}
