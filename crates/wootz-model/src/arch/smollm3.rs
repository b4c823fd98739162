//! SmolLM3: Llama in which every fourth layer has no positions. Bakouch et al. 2025, "SmolLM3: smol, multilingual,
//! long-context reasoner"; NoPE: Yang et al. 2025, arXiv:2501.18795.

use super::{Architecture, USUAL_NAMES, Usual, gated_ffn, pre_norm_layer, rope_of, windows_of};
use crate::Result;
use crate::config::{AttentionConfig, Config, Norm, Position};
use crate::hf::Hf;
use crate::names::Names;

pub(super) const SMOLLM3: Architecture = Architecture {
    name: "smollm3",
    model_types: &["smollm3"],
    from_hf,
    hf_names: |_| Names::whole(USUAL_NAMES).or_renamed("model.", ""),
};

const DEFAULTS: &str = r#"{"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008,
    "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4,
    "max_position_embeddings": 32768, "rope_theta": 2000000.0, "no_rope_layer_interval": 4,
    "bos_token_id": 128000, "eos_token_id": 128001}"#;

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS);
    let usual = Usual::read(hf)?;
    let norm = Norm::Rms { eps: hf.f32_or("rms_norm_eps", 1e-6)? };
    let mut attention = usual.attention(rope_of(hf, usual.head_dim)?);
    attention.qkv_bias = hf.bool_or("attention_bias", false)?;
    attention.out_bias = attention.qkv_bias;
    let ffn = gated_ffn(hf, "hidden_act", "silu", hf.bool_or("mlp_bias", false)?)?;
    let turned = turned_layers(hf, usual.n_layers)?;
    let slides = hf.bool_or("use_sliding_window", false)? && hf.get("sliding_window").is_some();
    let windows = windows_of(hf, usual.n_layers, |layer| slides && !turned[layer])?;
    let layer = |(window, turned): (Option<usize>, &bool)| {
        let mut attention = AttentionConfig { window, ..attention.clone() };
        if !turned {
            attention.position = Position::None;
        }
        pre_norm_layer(norm, attention, ffn.clone())
    };
    let layers = windows.into_iter().zip(&turned).map(layer).collect();
    usual.decoder("smollm3", hf, true, norm, layers)
}

/// Which layers have positions: those with 1 in `no_rope_layers`, or all but every `no_rope_layer_interval`th.
fn turned_layers(hf: &Hf, n_layers: usize) -> Result<Vec<bool>> {
    let Some(list) = hf.numbers("no_rope_layers")? else {
        let interval = hf.positive("no_rope_layer_interval")?;
        return Ok((1..=n_layers).map(|layer| !layer.is_multiple_of(interval)).collect());
    };
    if list.len() != n_layers {
        return Err(hf.error("no_rope_layers", &format!("{n_layers} numbers"), &list.len().to_string()));
    }
    Ok(list.into_iter().map(|turned| turned != 0.0).collect())
}
