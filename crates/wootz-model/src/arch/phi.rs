//! Phi-1, 1.5 and 2: attention and feed-forward beside each other after one norm, part of each head turned, biases
//! everywhere. Gunasekar et al. 2023, arXiv:2306.11644.

use super::{Architecture, USUAL_NAMES, Usual, partial_rope_of, plain_ffn, pre_norm_layer};
use crate::Result;
use crate::config::{Config, Head, Norm, QkNorm, Residual};
use crate::hf::Hf;
use crate::names::Names;

pub(super) const PHI: Architecture = Architecture { name: "phi", model_types: &["phi"], from_hf, hf_names };

const DEFAULTS: &str = r#"{"vocab_size": 51200, "hidden_size": 2048, "intermediate_size": 8192,
    "num_hidden_layers": 24, "num_attention_heads": 32, "bos_token_id": 1, "eos_token_id": 2}"#;

fn hf_names(_: &Config) -> Names {
    Names::whole(USUAL_NAMES)
        .and(&[
            ("layers.{}.attn_norm_b", "model.layers.{}.input_layernorm.bias"),
            ("layers.{}.wo", "model.layers.{}.self_attn.dense.weight"),
            ("layers.{}.bo", "model.layers.{}.self_attn.dense.bias"),
            ("layers.{}.q_norm", "model.layers.{}.self_attn.q_layernorm.weight"),
            ("layers.{}.q_norm_b", "model.layers.{}.self_attn.q_layernorm.bias"),
            ("layers.{}.k_norm", "model.layers.{}.self_attn.k_layernorm.weight"),
            ("layers.{}.k_norm_b", "model.layers.{}.self_attn.k_layernorm.bias"),
            ("layers.{}.w_up", "model.layers.{}.mlp.fc1.weight"),
            ("layers.{}.b_up", "model.layers.{}.mlp.fc1.bias"),
            ("layers.{}.w_down", "model.layers.{}.mlp.fc2.weight"),
            ("layers.{}.b_down", "model.layers.{}.mlp.fc2.bias"),
            ("final_norm", "model.final_layernorm.weight"),
            ("final_norm_b", "model.final_layernorm.bias"),
            ("head_b", "lm_head.bias"),
        ])
        .or_renamed("model.", "")
}

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS);
    let usual = Usual::read(hf)?;
    let norm = Norm::Layer { eps: hf.f32_or("layer_norm_eps", 1e-5)?, bias: true };
    let (rope, _) = partial_rope_of(hf, usual.head_dim, 0.5)?;
    let mut attention = usual.attention(rope);
    (attention.qkv_bias, attention.out_bias) = (true, true);
    attention.qk_norm = hf.bool_or("qk_layernorm", false)?.then_some(QkNorm::Head(norm));
    let ffn = plain_ffn(hf, hf.positive("intermediate_size")?, "hidden_act", "gelu_new", true)?;
    let mut layer = pre_norm_layer(norm, attention, ffn);
    layer.residual = Residual::Parallel;
    let layers = vec![layer; usual.n_layers];
    let mut config = usual.decoder("phi", hf, false, norm, layers)?;
    if let Head::Lm { bias, .. } = &mut config.head {
        *bias = true;
    }
    Ok(config)
}
