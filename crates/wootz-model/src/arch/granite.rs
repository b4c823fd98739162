//! Granite 3: Llama with multipliers of embeddings, scores, residuals and logits. IBM 2024, Granite 3.0 Language Models.

use super::{Architecture, USUAL_NAMES, Usual, gated_ffn, pre_norm_layer, rope_of};
use crate::Result;
use crate::config::{Config, Head, Norm};
use crate::hf::Hf;
use crate::names::Names;

pub(super) const GRANITE: Architecture = Architecture {
    name: "granite",
    model_types: &["granite"],
    from_hf,
    hf_names: |_| Names::whole(USUAL_NAMES).or_renamed("model.", ""),
};

const DEFAULTS: &str = r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "bos_token_id": 1, "eos_token_id": 2}"#;

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS);
    let usual = Usual::read(hf)?;
    let norm = Norm::Rms { eps: hf.f32_or("rms_norm_eps", 1e-6)? };
    let mut attention = usual.attention(rope_of(hf, usual.head_dim)?);
    attention.qkv_bias = hf.bool_or("attention_bias", false)?;
    attention.out_bias = attention.qkv_bias;
    attention.scale = hf.f32_or("attention_multiplier", 1.0)?;
    let ffn = gated_ffn(hf, "hidden_act", "silu", hf.bool_or("mlp_bias", false)?)?;
    let mut layer = pre_norm_layer(norm, attention, ffn);
    layer.residual_scale = hf.f32_or("residual_multiplier", 1.0)?;
    let layers = vec![layer; usual.n_layers];
    let mut config = usual.decoder("granite", hf, false, norm, layers)?;
    config.embed.scale = hf.f32_or("embedding_multiplier", 1.0)?;
    let divisor = hf.f32_or("logits_scaling", 1.0)?;
    if divisor == 0.0 {
        return Err(hf.error("logits_scaling", "a number other than zero", "0"));
    }
    if let Head::Lm { scale, .. } = &mut config.head {
        *scale = 1.0 / divisor;
    }
    Ok(config)
}
