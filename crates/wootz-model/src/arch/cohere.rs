//! Cohere's Command R: both parts beside each other after one norm without bias, neighbouring numbers turned together,
//! scaled logits. Cohere 2024, Command R and R+ as in transformers.

use wootz_graph::RopeStyle;

use super::{Architecture, USUAL_NAMES, Usual, gated_ffn, pre_norm_layer, rope_of};
use crate::Result;
use crate::config::{Config, Head, Norm, Position, QkNorm, Residual};
use crate::hf::Hf;
use crate::names::Names;

pub(super) const COHERE: Architecture = Architecture {
    name: "cohere",
    model_types: &["cohere"],
    from_hf,
    hf_names: |_| Names::whole(USUAL_NAMES).or_renamed("model.", ""),
};

const DEFAULTS: &str = r#"{"vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528,
    "num_hidden_layers": 40, "num_attention_heads": 64, "max_position_embeddings": 8192,
    "rope_theta": 500000.0, "logit_scale": 0.0625, "bos_token_id": 5, "eos_token_id": 255001}"#;

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS);
    let usual = Usual::read(hf)?;
    let norm = Norm::Layer { eps: hf.f32_or("layer_norm_eps", 1e-5)?, bias: false };
    let mut attention = usual.attention(rope_of(hf, usual.head_dim)?);
    if let Position::Rope(_, style) = &mut attention.position {
        *style = RopeStyle::Pairs;
    }
    attention.qkv_bias = hf.bool_or("attention_bias", false)?;
    attention.out_bias = attention.qkv_bias;
    attention.qk_norm = hf.bool_or("use_qk_norm", false)?.then_some(QkNorm::OwnHead(norm));
    let mut layer = pre_norm_layer(norm, attention, gated_ffn(hf, "hidden_act", "silu", false)?);
    layer.residual = Residual::Parallel;
    let layers = vec![layer; usual.n_layers];
    let mut config = usual.decoder("cohere", hf, true, norm, layers)?;
    if let Head::Lm { scale, .. } = &mut config.head {
        *scale = hf.f64("logit_scale")? as f32;
    }
    Ok(config)
}
