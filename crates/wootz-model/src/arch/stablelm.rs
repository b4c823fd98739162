//! StableLM: Llama with layer norms and a quarter of each head turned; 12B norms each head of q and k by itself and runs
//! both parts beside each other. Bellagente et al. 2024, arXiv:2402.17834.

use super::{Architecture, USUAL_NAMES, Usual, gated_ffn, partial_rope_of, pre_norm_layer};
use crate::Result;
use crate::config::{Config, Norm, QkNorm, Residual};
use crate::hf::Hf;
use crate::names::Names;

pub(super) const STABLELM: Architecture =
    Architecture { name: "stablelm", model_types: &["stablelm"], from_hf, hf_names };

const DEFAULTS: &str = r#"{"vocab_size": 50304, "hidden_size": 2560, "intermediate_size": 6912,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "max_position_embeddings": 4096, "bos_token_id": 0, "eos_token_id": 0}"#;

fn hf_names(_: &Config) -> Names {
    Names::whole(USUAL_NAMES)
        .and(&[
            ("layers.{}.attn_norm_b", "model.layers.{}.input_layernorm.bias"),
            ("layers.{}.ffn_norm_b", "model.layers.{}.post_attention_layernorm.bias"),
            ("layers.{}.q_norm", "model.layers.{}.self_attn.q_layernorm.norms.{e}.weight"),
            ("layers.{}.k_norm", "model.layers.{}.self_attn.k_layernorm.norms.{e}.weight"),
            ("final_norm_b", "model.norm.bias"),
        ])
        .or_renamed("model.", "")
}

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS);
    let usual = Usual::read(hf)?;
    let eps = hf.f32_or("layer_norm_eps", 1e-5)?;
    let norm = Norm::Layer { eps, bias: true };
    let (rope, _) = partial_rope_of(hf, usual.head_dim, 0.25)?;
    let mut attention = usual.attention(rope);
    attention.qkv_bias = hf.bool_or("use_qkv_bias", false)?;
    let head_norm = QkNorm::OwnHead(Norm::Layer { eps, bias: false });
    attention.qk_norm = hf.bool_or("qk_layernorm", false)?.then_some(head_norm);
    let mut layer = pre_norm_layer(norm, attention, gated_ffn(hf, "hidden_act", "silu", false)?);
    if hf.bool_or("use_parallel_residual", false)? {
        layer.residual = Residual::Parallel;
    }
    let layers = vec![layer; usual.n_layers];
    usual.decoder("stablelm", hf, false, norm, layers)
}
