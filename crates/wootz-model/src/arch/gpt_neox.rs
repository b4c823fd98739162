//! GPT-NeoX and Pythia: part of each head turned, attention and feed-forward beside each other with a norm for each.
//! Black et al. 2022, arXiv:2204.06745.

use super::{Architecture, Usual, partial_rope_of, plain_ffn, pre_norm_layer, with_grouped_qkv};
use crate::Result;
use crate::config::{Config, Norm, Residual};
use crate::hf::Hf;
use crate::names::Names;

pub(super) const GPT_NEOX: Architecture =
    Architecture { name: "gpt_neox", model_types: &["gpt_neox"], from_hf, hf_names };

const DEFAULTS: &str = r#"{"vocab_size": 50432, "hidden_size": 6144, "intermediate_size": 24576,
    "num_hidden_layers": 44, "num_attention_heads": 64, "bos_token_id": 0, "eos_token_id": 2}"#;

const SPELLINGS: &[(&str, &str)] =
    &[("partial_rotary_factor", "rotary_pct"), ("rope_theta", "rotary_emb_base")];

fn hf_names(config: &Config) -> Names {
    let names = Names::whole(&[
        ("embed", "gpt_neox.embed_in.weight"),
        ("layers.{}.attn_norm", "gpt_neox.layers.{}.input_layernorm.weight"),
        ("layers.{}.attn_norm_b", "gpt_neox.layers.{}.input_layernorm.bias"),
        ("layers.{}.wo", "gpt_neox.layers.{}.attention.dense.weight"),
        ("layers.{}.bo", "gpt_neox.layers.{}.attention.dense.bias"),
        ("layers.{}.ffn_norm", "gpt_neox.layers.{}.post_attention_layernorm.weight"),
        ("layers.{}.ffn_norm_b", "gpt_neox.layers.{}.post_attention_layernorm.bias"),
        ("layers.{}.w_up", "gpt_neox.layers.{}.mlp.dense_h_to_4h.weight"),
        ("layers.{}.b_up", "gpt_neox.layers.{}.mlp.dense_h_to_4h.bias"),
        ("layers.{}.w_down", "gpt_neox.layers.{}.mlp.dense_4h_to_h.weight"),
        ("layers.{}.b_down", "gpt_neox.layers.{}.mlp.dense_4h_to_h.bias"),
        ("final_norm", "gpt_neox.final_layer_norm.weight"),
        ("final_norm_b", "gpt_neox.final_layer_norm.bias"),
        ("head", "embed_out.weight"),
    ]);
    let qkv = "gpt_neox.layers.{}.attention.query_key_value";
    with_grouped_qkv(names, config, &format!("{qkv}.weight"), &format!("{qkv}.bias"))
        .or_renamed("gpt_neox.", "")
}

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS).with_spellings(SPELLINGS);
    let mut usual = Usual::read(hf)?;
    usual.n_kv_heads = usual.n_heads;
    let norm = Norm::Layer { eps: hf.f32_or("layer_norm_eps", 1e-5)?, bias: true };
    let (rope, _) = partial_rope_of(hf, usual.head_dim, 0.25)?;
    let mut attention = usual.attention(rope);
    attention.qkv_bias = hf.bool_or("attention_bias", true)?;
    attention.out_bias = attention.qkv_bias;
    let ffn = plain_ffn(hf, hf.positive("intermediate_size")?, "hidden_act", "gelu", true)?;
    let mut layer = pre_norm_layer(norm, attention, ffn);
    if hf.bool_or("use_parallel_residual", true)? {
        layer.residual = Residual::ParallelTwoNorms;
    }
    let layers = vec![layer; usual.n_layers];
    usual.decoder("gpt_neox", hf, false, norm, layers)
}
