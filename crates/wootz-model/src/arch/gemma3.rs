//! Gemma 3's text model, also inside a multimodal `text_config`: five layers with a window and frequencies of their own,
//! then one without. With attention to both sides, an embedder. Gemma Team 2025, arXiv:2503.19786.

use std::sync::Arc;

use wootz_graph::RopeStyle;

use super::gemma::{sandwich_names, scaled_embedding};
use super::{Architecture, Usual, gated_ffn, pre_norm_layer, windows_of};
use crate::config::{AttentionConfig, Config, Head, Norm, Position, QkNorm, Residual};
use crate::hf::Hf;
use crate::names::{Names, Part};
use crate::{Result, rope};

pub(super) const GEMMA3: Architecture =
    Architecture { name: "gemma3", model_types: &["gemma3_text", "gemma3"], from_hf, hf_names };

const DEFAULTS: &str = r#"{"vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216,
    "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
    "max_position_embeddings": 131072, "query_pre_attn_scalar": 256, "sliding_window": 4096,
    "sliding_window_pattern": 6, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
    "bos_token_id": 2, "eos_token_id": 1}"#;

fn hf_names(config: &Config) -> Names {
    sandwich_names(config)
        .part("layers.{}.q_norm", "model.layers.{}.self_attn.q_norm.weight", Part::PlusOne)
        .part("layers.{}.k_norm", "model.layers.{}.self_attn.k_norm.weight", Part::PlusOne)
        .or_renamed("model.", "model.language_model.")
        .or_renamed("", "language_model.")
}

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS);
    // COMPAT: transformers reads the two caps into the configuration of Gemma 3 but its model has none.
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(cap) = hf.get(key) {
            return Err(hf.error(key, "null", &cap.to_string()));
        }
    }
    let usual = Usual::read(hf)?;
    let norm = Norm::Rms { eps: hf.f32_or("rms_norm_eps", 1e-6)? };
    let mut attention = usual.attention(Position::None);
    attention.qkv_bias = hf.bool_or("attention_bias", false)?;
    attention.out_bias = attention.qkv_bias;
    attention.qk_norm = Some(QkNorm::Head(norm));
    attention.scale = 1.0 / (hf.positive("query_pre_attn_scalar")? as f32).sqrt();
    attention.causal = !hf.bool_or("use_bidirectional_attention", false)?;
    let ffn = gated_ffn(hf, "hidden_activation", "gelu_pytorch_tanh", false)?;

    let [full, sliding] = positions(hf, usual.head_dim)?;
    let layer = |window: Option<usize>| {
        let position = if window.is_some() { &sliding } else { &full }.clone();
        let attention = AttentionConfig { window, position, ..attention.clone() };
        let mut layer = pre_norm_layer(norm, attention, ffn.clone());
        layer.residual = Residual::Sandwich;
        layer
    };
    let pattern = hf.positive("sliding_window_pattern")?;
    let windows = windows_of(hf, usual.n_layers, |layer| !(layer + 1).is_multiple_of(pattern))?;
    let layers = windows.into_iter().map(layer).collect();
    let mut config = scaled_embedding(usual.decoder("gemma3", hf, true, norm, layers)?)?;
    if !attention.causal {
        config.head = Head::None;
    }
    Ok(config)
}

/// Rotations of layers without and with a window: `rope_parameters` by layer type, or the older keys of which
/// `rope_scaling` is for the former alone.
fn positions(hf: &Hf, head_dim: usize) -> Result<[Position; 2]> {
    let nested = hf.object("rope_parameters");
    if let Some(kind) = nested.as_ref().and_then(|nested| nested.str("rope_type")) {
        return Err(hf.error("rope_parameters", "parameters for each layer type", kind));
    }
    let by_type = |layer_type: &str| nested.as_ref().and_then(|nested| nested.object(layer_type));
    let full = hf.object("rope_scaling").or_else(|| by_type("full_attention"));
    let sliding = by_type("sliding_attention");
    let full = rope::from_parameters(hf, full.as_ref(), head_dim, hf.f64("rope_theta")?)?;
    let sliding = rope::from_parameters(hf, sliding.as_ref(), head_dim, hf.f64("rope_local_base_freq")?)?;
    Ok([full, sliding].map(|table| Position::Rope(Arc::new(table), RopeStyle::Halves)))
}
