//! BLOOM: ALiBi, a norm after the embedding, q, k and v of each head beside each other in one tensor. BigScience 2022,
//! arXiv:2211.05100.

use super::{Architecture, Usual, pre_norm_layer, with_grouped_qkv};
use crate::config::{Config, Ffn, Norm, Position};
use crate::hf::Hf;
use crate::names::Names;
use crate::{Result, alibi};

use wootz_graph::Activation;

pub(super) const BLOOM: Architecture =
    Architecture { name: "bloom", model_types: &["bloom"], from_hf, hf_names };

const DEFAULTS: &str = r#"{"vocab_size": 250880, "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 8, "bos_token_id": 1, "eos_token_id": 2}"#;

const SPELLINGS: &[(&str, &str)] = &[
    ("hidden_size", "n_embed"),
    ("num_hidden_layers", "n_layer"),
    ("num_attention_heads", "n_head"),
    ("max_position_embeddings", "seq_length"),
];

fn hf_names(config: &Config) -> Names {
    let names = Names::whole(&[
        ("embed", "transformer.word_embeddings.weight"),
        ("embed_norm", "transformer.word_embeddings_layernorm.weight"),
        ("embed_norm_b", "transformer.word_embeddings_layernorm.bias"),
        ("layers.{}.attn_norm", "transformer.h.{}.input_layernorm.weight"),
        ("layers.{}.attn_norm_b", "transformer.h.{}.input_layernorm.bias"),
        ("layers.{}.wo", "transformer.h.{}.self_attention.dense.weight"),
        ("layers.{}.bo", "transformer.h.{}.self_attention.dense.bias"),
        ("layers.{}.ffn_norm", "transformer.h.{}.post_attention_layernorm.weight"),
        ("layers.{}.ffn_norm_b", "transformer.h.{}.post_attention_layernorm.bias"),
        ("layers.{}.w_up", "transformer.h.{}.mlp.dense_h_to_4h.weight"),
        ("layers.{}.b_up", "transformer.h.{}.mlp.dense_h_to_4h.bias"),
        ("layers.{}.w_down", "transformer.h.{}.mlp.dense_4h_to_h.weight"),
        ("layers.{}.b_down", "transformer.h.{}.mlp.dense_4h_to_h.bias"),
        ("final_norm", "transformer.ln_f.weight"),
        ("final_norm_b", "transformer.ln_f.bias"),
        ("head", "lm_head.weight"),
    ]);
    let qkv = "transformer.h.{}.self_attention.query_key_value";
    with_grouped_qkv(names, config, &format!("{qkv}.weight"), &format!("{qkv}.bias"))
        .or_renamed("transformer.", "")
}

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS).with_spellings(SPELLINGS);
    hf.require("apply_residual_connection_post_layernorm", false)?;
    if hf.usize_or("pretraining_tp", 1)? > 1 {
        hf.require("slow_but_exact", false)?; // its sums leave a bias out
    }
    let usual = Usual::read(hf)?;
    let norm = Norm::Layer { eps: hf.f32_or("layer_norm_epsilon", 1e-5)?, bias: true };
    let mut attention = usual.attention(Position::Alibi(alibi::slopes(usual.n_heads)));
    (attention.qkv_bias, attention.out_bias) = (true, true);
    let ffn = Ffn::Plain { d_ff: 4 * usual.d_model, activation: Activation::GeluTanh, bias: true };
    let layers = vec![pre_norm_layer(norm, attention, ffn); usual.n_layers];
    let mut config = usual.decoder("bloom", hf, true, norm, layers)?;
    config.embed.norm = Some(norm);
    Ok(config)
}
