//! Gemma 1, and Gemma 2, which norms both sides of each part, caps scores and alternates windows. Gemma Team 2024,
//! arXiv:2403.08295 and arXiv:2408.00118. Their norms multiply by one plus the stored weight.

use wootz_graph::Activation;

use super::{Architecture, USUAL_NAMES, Usual, gated_ffn, pre_norm_layer, rope_of, windows_of};
use crate::Result;
use crate::config::{AttentionConfig, Config, Ffn, Head, Norm, Residual};
use crate::hf::Hf;
use crate::names::{Names, Part};

pub(super) const GEMMA: Architecture =
    Architecture { name: "gemma", model_types: &["gemma"], from_hf: gemma, hf_names };

pub(super) const GEMMA2: Architecture =
    Architecture { name: "gemma2", model_types: &["gemma2"], from_hf: gemma2, hf_names: sandwich_names };

const DEFAULTS: &str = r#"{"vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576,
    "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256,
    "max_position_embeddings": 8192, "bos_token_id": 2, "eos_token_id": 1}"#;

const DEFAULTS_2: &str = r#"{"vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216,
    "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
    "max_position_embeddings": 8192, "query_pre_attn_scalar": 256, "sliding_window": 4096,
    "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0, "bos_token_id": 2, "eos_token_id": 1}"#;

fn hf_names(_: &Config) -> Names {
    Names::whole(USUAL_NAMES)
        .part("layers.{}.attn_norm", "model.layers.{}.input_layernorm.weight", Part::PlusOne)
        .part("layers.{}.ffn_norm", "model.layers.{}.post_attention_layernorm.weight", Part::PlusOne)
        .part("final_norm", "model.norm.weight", Part::PlusOne)
        .or_renamed("model.", "")
}

/// Gemma 2 and 3: two norms for each part.
pub(super) fn sandwich_names(config: &Config) -> Names {
    hf_names(config)
        .part("layers.{}.post_attn_norm", "model.layers.{}.post_attention_layernorm.weight", Part::PlusOne)
        .part("layers.{}.ffn_norm", "model.layers.{}.pre_feedforward_layernorm.weight", Part::PlusOne)
        .part("layers.{}.post_ffn_norm", "model.layers.{}.post_feedforward_layernorm.weight", Part::PlusOne)
}

fn gemma(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS);
    hf.require("use_bidirectional_attention", false)?;
    let usual = Usual::read(hf)?;
    let norm = Norm::Rms { eps: hf.f32_or("rms_norm_eps", 1e-6)? };
    let mut attention = usual.attention(rope_of(hf, usual.head_dim)?);
    attention.qkv_bias = hf.bool_or("attention_bias", false)?;
    attention.out_bias = attention.qkv_bias;
    let mut ffn = gated_ffn(hf, "hidden_act", "gelu_pytorch_tanh", false)?;
    // COMPAT: the first releases say `gelu` and mean its tanh approximation.
    if let Ffn::Gated { activation: activation @ Activation::Gelu, .. } = &mut ffn {
        *activation = Activation::GeluTanh;
    }
    let layers = vec![pre_norm_layer(norm, attention, ffn); usual.n_layers];
    scaled_embedding(usual.decoder("gemma", hf, true, norm, layers)?)
}

fn gemma2(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS_2);
    hf.require("use_bidirectional_attention", false)?;
    let usual = Usual::read(hf)?;
    let norm = Norm::Rms { eps: hf.f32_or("rms_norm_eps", 1e-6)? };
    let mut attention = usual.attention(rope_of(hf, usual.head_dim)?);
    attention.qkv_bias = hf.bool_or("attention_bias", false)?;
    attention.out_bias = attention.qkv_bias;
    attention.scale = 1.0 / (hf.positive("query_pre_attn_scalar")? as f32).sqrt();
    attention.softcap = soft_cap(hf, "attn_logit_softcapping")?;
    let ffn = gated_ffn(hf, "hidden_activation", "gelu_pytorch_tanh", false)?;
    let layer = |window| {
        let mut layer = pre_norm_layer(norm, AttentionConfig { window, ..attention.clone() }, ffn.clone());
        layer.residual = Residual::Sandwich;
        layer
    };
    let layers = windows_of(hf, usual.n_layers, |layer| layer % 2 == 0)?.into_iter().map(layer).collect();
    let mut config = scaled_embedding(usual.decoder("gemma2", hf, true, norm, layers)?)?;
    if let Head::Lm { softcap, .. } = &mut config.head {
        *softcap = soft_cap(hf, "final_logit_softcapping")?;
    }
    Ok(config)
}

/// Embeddings times `√C`.
pub(super) fn scaled_embedding(mut config: Config) -> Result<Config> {
    config.embed.scale = (config.d_model as f32).sqrt();
    Ok(config)
}

/// The cap under a key: a positive number, or none.
fn soft_cap(hf: &Hf, key: &str) -> Result<Option<f32>> {
    match hf.find_f64(key)? {
        Some(cap) if cap <= 0.0 => Err(hf.error(key, "a positive number or null", &cap.to_string())),
        cap => Ok(cap.map(|cap| cap as f32)),
    }
}
