//! Qwen3 with experts in some or all layers. Yang et al. 2025, arXiv:2505.09388.

use super::{Architecture, USUAL_NAMES, Usual, activation, experts, gated_ffn, pre_norm_layer, rope_of};
use crate::Result;
use crate::config::{Config, ExpertsConfig, Ffn, Norm, QkNorm, Router};
use crate::hf::Hf;
use crate::names::Names;

pub(super) const QWEN3_MOE: Architecture = Architecture {
    name: "qwen3_moe",
    model_types: &["qwen3_moe"],
    from_hf,
    hf_names: |config| {
        let (block, names) = ("model.layers.{}.mlp", ["gate_proj", "up_proj", "down_proj"]);
        experts::named(Names::whole(USUAL_NAMES).or_renamed("model.", ""), block, names, config)
    },
};

const DEFAULTS: &str = r#"{"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
    "num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": 4, "sliding_window": 4096,
    "max_position_embeddings": 32768, "decoder_sparse_step": 1, "num_experts": 128, "num_experts_per_tok": 8,
    "moe_intermediate_size": 768}"#;

fn from_hf(hf: &Hf) -> Result<Config> {
    // transformers 5 writes `num_local_experts`, everybody before wrote `num_experts`.
    let hf = &hf.with_spellings(&[("num_experts", "num_local_experts")]).with_defaults(DEFAULTS);
    let usual = Usual::read(hf)?;
    let norm = Norm::Rms { eps: hf.f32_or("rms_norm_eps", 1e-6)? };
    let mut attention = usual.attention(rope_of(hf, usual.head_dim)?);
    attention.qkv_bias = hf.bool_or("attention_bias", false)?;
    attention.out_bias = attention.qkv_bias;
    attention.qk_norm = Some(QkNorm::Head(norm));
    if hf.bool_or("use_sliding_window", false)? {
        attention.window = hf.find_usize("sliding_window")?;
    }
    let dense = gated_ffn(hf, "hidden_act", "silu", false)?;
    let (routed, is_routed) = (routed(hf)?, routed_layers(hf)?);
    let layer = |i: usize| {
        let ffn = if is_routed(i) { routed.as_ref().unwrap_or(&dense) } else { &dense };
        pre_norm_layer(norm, attention.clone(), ffn.clone())
    };
    let layers = (0..usual.n_layers).map(layer).collect();
    usual.decoder("qwen3_moe", hf, false, norm, layers)
}

/// The experts, unless there are none.
fn routed(hf: &Hf) -> Result<Option<Ffn>> {
    let n_experts = hf.usize("num_experts")?;
    if n_experts == 0 {
        return Ok(None);
    }
    let config = ExpertsConfig {
        n_experts,
        n_used: hf.usize("num_experts_per_tok")?,
        d_ff: hf.positive("moe_intermediate_size")?,
        activation: activation(hf, "hidden_act", "silu")?,
        router: Router::Softmax { groups: None },
        normalize: hf.bool_or("norm_topk_prob", false)?,
        scale: 1.0,
        shared_d_ff: None,
    };
    experts::checked(hf, config).map(Some)
}

/// Which layers have experts: every `decoder_sparse_step`-th but those in `mlp_only_layers`.
fn routed_layers(hf: &Hf) -> Result<impl Fn(usize) -> bool> {
    let dense = hf.numbers("mlp_only_layers")?.unwrap_or_default();
    let step = hf.positive("decoder_sparse_step")?;
    Ok(move |i: usize| (i + 1).is_multiple_of(step) && !dense.contains(&(i as f64)))
}
