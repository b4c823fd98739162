//! The architectures: how configurations and tensor names of each family map to ours. One file a family.
//!
//! Where:  chosen by `model_type` of `config.json` or `general.architecture` of a GGUF.
//! Idea:   an architecture has no code that computes; it fills a [`Config`] and names tensors.

mod bert;
mod bitnet;
mod bloom;
mod cohere;
mod deepseek;
mod encoder;
mod experts;
mod falcon;
mod gemma;
mod gemma3;
mod gpt2;
mod gpt_neox;
mod granite;
mod llama;
mod mamba;
mod mixtral;
mod modernbert;
mod olmo2;
mod opt;
mod phi;
mod phi3;
mod qwen;
mod qwen3_moe;
mod smollm3;
mod stablelm;
mod starcoder2;

use std::sync::Arc;

use wootz_graph::{Activation, RopeStyle};

use crate::config::{
    AttentionConfig, Config, EmbedConfig, Ffn, Head, LayerConfig, Mixer, Norm, Position, Residual,
};
use crate::hf::Hf;
use crate::names::{Names, Part};
use crate::{Result, rope};

/// A family of models.
pub(crate) struct Architecture {
    /// Its name here.
    pub name: &'static str,
    /// `model_type`s of `config.json`.
    pub model_types: &'static [&'static str],
    /// Reads `config.json`.
    pub from_hf: fn(&Hf) -> Result<Config>,
    /// Names of tensors in a Hugging Face folder.
    pub hf_names: fn(&Config) -> Names,
}

/// Every architecture.
pub(crate) const ALL: &[Architecture] = &[
    llama::LLAMA,
    qwen::QWEN2,
    qwen::QWEN3,
    gemma::GEMMA,
    gemma::GEMMA2,
    gemma3::GEMMA3,
    phi::PHI,
    phi3::PHI3,
    gpt2::GPT2,
    gpt_neox::GPT_NEOX,
    falcon::FALCON,
    bloom::BLOOM,
    opt::OPT,
    stablelm::STABLELM,
    olmo2::OLMO2,
    cohere::COHERE,
    granite::GRANITE,
    starcoder2::STARCODER2,
    smollm3::SMOLLM3,
    bitnet::BITNET,
    mixtral::MIXTRAL,
    qwen3_moe::QWEN3_MOE,
    deepseek::DEEPSEEK_V2,
    deepseek::DEEPSEEK_V3,
    mamba::MAMBA,
    mamba::MAMBA2,
    bert::BERT,
    bert::ROBERTA,
    modernbert::MODERNBERT,
];

/// The architecture of a `config.json`.
pub(crate) fn of_hf(hf: &Hf) -> Result<&'static Architecture> {
    let model_type = hf.str("model_type").unwrap_or_default();
    ALL.iter().find(|arch| arch.model_types.contains(&model_type)).ok_or_else(|| {
        let known = ALL.iter().flat_map(|arch| arch.model_types).copied().collect::<Vec<_>>().join(", ");
        crate::Error::UnknownArchitecture { file: hf.file().to_owned(), name: model_type.to_owned(), known }
    })
}

/// The hyper-parameters that a `config.json` describes.
pub fn config_from_hf(hf: &Hf) -> Result<Config> {
    let arch = of_hf(hf)?;
    let config = (arch.from_hf)(hf)?;
    debug_assert_eq!(config.arch, arch.name, "a family fills in its own name");
    Ok(config)
}

/// The usual keys of a decoder.
pub(crate) struct Usual {
    pub d_model: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub max_seq_len: usize,
}

impl Usual {
    /// `hidden_size`, `num_hidden_layers`, `num_attention_heads`, …
    pub(crate) fn read(hf: &Hf) -> Result<Self> {
        let (d_model, n_heads) = (hf.positive("hidden_size")?, hf.positive("num_attention_heads")?);
        let n_layers = hf.usize("num_hidden_layers")?;
        let usual = Self {
            d_model,
            n_layers,
            n_heads,
            n_kv_heads: hf.usize_or("num_key_value_heads", n_heads)?, // null is one for each head
            head_dim: hf.usize_or("head_dim", d_model / n_heads)?,
            max_seq_len: hf.usize_or("max_position_embeddings", 2048)?,
        };
        usual.check(hf)?;
        Ok(usual)
    }

    /// Checks what later code relies on: whole groups of heads, and sizes that no machine exceeds.
    pub(crate) fn check(&self, hf: &Hf) -> Result<()> {
        if self.n_layers > 4096 {
            return Err(hf.error("num_hidden_layers", "at most 4096", &self.n_layers.to_string()));
        }
        if self.n_heads > 4096 {
            return Err(hf.error("num_attention_heads", "at most 4096", &self.n_heads.to_string()));
        }
        if self.n_kv_heads == 0 || !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let expected = format!("a divisor of {} heads", self.n_heads);
            return Err(hf.error("num_key_value_heads", &expected, &self.n_kv_heads.to_string()));
        }
        if self.head_dim == 0 || self.head_dim > 1 << 16 {
            return Err(hf.error("head_dim", "1 to 65,536", &self.head_dim.to_string()));
        }
        Ok(())
    }

    /// Causal attention with rotation of whole heads, `1/√D`, no biases.
    pub(crate) fn attention(&self, position: Position) -> AttentionConfig {
        AttentionConfig {
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            qkv_bias: false,
            out_bias: false,
            qk_norm: None,
            position,
            window: None,
            causal: true,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
            softcap: None,
            inner_norm: None,
        }
    }

    /// A decoder of these layers: no embedding extras, the usual head, `final_norm` as given.
    pub(crate) fn decoder(
        &self,
        arch: &'static str,
        hf: &Hf,
        tied_by_default: bool,
        final_norm: Norm,
        layers: Vec<LayerConfig>,
    ) -> Result<Config> {
        let other_head = |name: &&str| {
            ["ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"]
                .iter()
                .any(|head| name.ends_with(head))
        };
        if let Some(name) = hf.strings("architectures").and_then(|names| names.into_iter().find(other_head)) {
            return Err(hf.error("architectures", "a decoder that continues text", name));
        }
        Ok(Config {
            arch,
            vocab_size: hf.positive("vocab_size")?,
            d_model: self.d_model,
            max_seq_len: self.max_seq_len,
            embed: EmbedConfig::default(),
            layers,
            final_norm: Some(final_norm),
            head: Head::Lm {
                tied: hf.bool_or("tie_word_embeddings", tied_by_default)?,
                bias: false,
                scale: 1.0,
                softcap: None,
            },
            bos_token: hf.token_ids("bos_token_id").first().copied(),
            eos_tokens: hf.token_ids("eos_token_id"),
        })
    }
}

/// Rotation of whole heads in halves, as `config.json` describes it.
pub(crate) fn rope_of(hf: &Hf, head_dim: usize) -> Result<Position> {
    partial_rope_of(hf, head_dim, 1.0).and_then(|(rope, n_rot)| match n_rot == head_dim / 2 * 2 {
        true => Ok(rope),
        false => Err(hf.error("partial_rotary_factor", "1", &format!("{n_rot} of {head_dim} numbers"))),
    })
}

/// Rotation in halves of the share of a head that `partial_rotary_factor` names, and that share's width.
pub(crate) fn partial_rope_of(hf: &Hf, head_dim: usize, default_share: f64) -> Result<(Position, usize)> {
    let n_rot = rope::rotated_width(hf, head_dim, "partial_rotary_factor", default_share)?;
    Ok((Position::Rope(Arc::new(rope::from_hf(hf, n_rot)?), RopeStyle::Halves), n_rot))
}

/// The window of each layer: that of `sliding_window` where `layer_types` or else `by_default` says so.
pub(crate) fn windows_of(
    hf: &Hf,
    n_layers: usize,
    by_default: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>> {
    let sliding = match hf.strings("layer_types") {
        None => (0..n_layers).map(by_default).collect::<Vec<_>>(),
        Some(types) if types.len() == n_layers => {
            let sliding = |kind: &&str| match *kind {
                "sliding_attention" => Ok(true),
                "full_attention" => Ok(false),
                other => Err(hf.error("layer_types", "full_attention or sliding_attention", other)),
            };
            types.iter().map(sliding).collect::<Result<_>>()?
        }
        Some(types) => {
            return Err(hf.error("layer_types", &format!("{n_layers} names"), &types.len().to_string()));
        }
    };
    let window = |sliding: bool| sliding.then(|| hf.positive("sliding_window")).transpose();
    sliding.into_iter().map(window).collect()
}

/// A layer in the usual order: norm, mixer, norm, feed-forward.
pub(crate) fn pre_norm_layer(norm: Norm, attention: AttentionConfig, ffn: Ffn) -> LayerConfig {
    LayerConfig {
        residual: Residual::Pre,
        norm,
        mixer: Mixer::Attention(attention),
        ffn,
        residual_scale: 1.0,
    }
}

/// A gated feed-forward part with `intermediate_size` and the activation under `key`.
pub(crate) fn gated_ffn(hf: &Hf, key: &str, default: &str, bias: bool) -> Result<Ffn> {
    let activation = activation(hf, key, default)?;
    Ok(Ffn::Gated { d_ff: hf.positive("intermediate_size")?, activation, bias, inner_norm: None })
}

/// A plain feed-forward part of width `d_ff` with biases as said, and the activation under `key`.
pub(crate) fn plain_ffn(hf: &Hf, d_ff: usize, key: &str, default: &str, bias: bool) -> Result<Ffn> {
    Ok(Ffn::Plain { d_ff, activation: activation(hf, key, default)?, bias })
}

/// The attention of the first layer: what fused tensors are cut by.
pub(crate) fn first_attention(config: &Config) -> Option<&AttentionConfig> {
    config.layers.iter().find_map(|layer| match &layer.mixer {
        Mixer::Attention(attention) => Some(attention),
        _ => None,
    })
}

/// Names of q, k and v that lie together in one tensor: for each group of heads with keys in common its queries,
/// its key and its value; `weight` and `bias` are the tensor's names.
pub(crate) fn with_grouped_qkv(names: Names, config: &Config, weight: &str, bias: &str) -> Names {
    let Some(&AttentionConfig { n_heads, n_kv_heads, head_dim, .. }) = first_attention(config) else {
        return names;
    };
    let q = n_heads / n_kv_heads * head_dim;
    let part = |start, len| Part::Rows { groups: n_kv_heads, start, len };
    let parts = [("q", part(0, q)), ("k", part(q, head_dim)), ("v", part(q + head_dim, head_dim))];
    parts.into_iter().fold(names, |names, (which, part)| {
        names.part(&format!("layers.{{}}.w{which}"), weight, part).part(
            &format!("layers.{{}}.b{which}"),
            bias,
            part,
        )
    })
}

/// The activation that a key names.
pub(crate) fn activation(hf: &Hf, key: &str, default: &str) -> Result<Activation> {
    let name = hf.str(key).unwrap_or(default);
    Ok(match name {
        "silu" | "swish" => Activation::Silu,
        "gelu" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
        "quick_gelu" => Activation::GeluQuick,
        "relu" => Activation::Relu,
        "relu2" => Activation::ReluSquared,
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        _ => return Err(hf.error(key, "an activation that is known here", name)),
    })
}

/// Names of a decoder in transformers' usual spelling.
pub(crate) const USUAL_NAMES: &[(&str, &str)] = &[
    ("embed", "model.embed_tokens.weight"),
    ("layers.{}.attn_norm", "model.layers.{}.input_layernorm.weight"),
    ("layers.{}.wq", "model.layers.{}.self_attn.q_proj.weight"),
    ("layers.{}.wk", "model.layers.{}.self_attn.k_proj.weight"),
    ("layers.{}.wv", "model.layers.{}.self_attn.v_proj.weight"),
    ("layers.{}.wo", "model.layers.{}.self_attn.o_proj.weight"),
    ("layers.{}.bq", "model.layers.{}.self_attn.q_proj.bias"),
    ("layers.{}.bk", "model.layers.{}.self_attn.k_proj.bias"),
    ("layers.{}.bv", "model.layers.{}.self_attn.v_proj.bias"),
    ("layers.{}.bo", "model.layers.{}.self_attn.o_proj.bias"),
    ("layers.{}.q_norm", "model.layers.{}.self_attn.q_norm.weight"),
    ("layers.{}.k_norm", "model.layers.{}.self_attn.k_norm.weight"),
    ("layers.{}.ffn_norm", "model.layers.{}.post_attention_layernorm.weight"),
    ("layers.{}.w_gate", "model.layers.{}.mlp.gate_proj.weight"),
    ("layers.{}.w_up", "model.layers.{}.mlp.up_proj.weight"),
    ("layers.{}.w_down", "model.layers.{}.mlp.down_proj.weight"),
    ("layers.{}.b_gate", "model.layers.{}.mlp.gate_proj.bias"),
    ("layers.{}.b_up", "model.layers.{}.mlp.up_proj.bias"),
    ("layers.{}.b_down", "model.layers.{}.mlp.down_proj.bias"),
    ("final_norm", "model.norm.weight"),
    ("head", "lm_head.weight"),
];
