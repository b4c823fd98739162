//! GPT-2: learned positions, layer norms, biases everywhere, matrices stored as (inputs, outputs). Radford et al. 2019,
//! "Language Models are Unsupervised Multitask Learners".

use super::{Architecture, Usual, plain_ffn, pre_norm_layer};
use crate::Result;
use crate::config::{Config, Ffn, Norm, Position};
use crate::hf::Hf;
use crate::names::{Names, Part};

pub(super) const GPT2: Architecture =
    Architecture { name: "gpt2", model_types: &["gpt2"], from_hf, hf_names };

const DEFAULTS: &str = r#"{"vocab_size": 50257, "hidden_size": 768, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 1024, "bos_token_id": 50256, "eos_token_id": 50256}"#;

const SPELLINGS: &[(&str, &str)] = &[
    ("hidden_size", "n_embd"),
    ("num_hidden_layers", "n_layer"),
    ("num_attention_heads", "n_head"),
    ("max_position_embeddings", "n_positions"),
];

fn hf_names(config: &Config) -> Names {
    let c = config.d_model;
    let d_ff = match config.layers.first().map(|layer| &layer.ffn) {
        Some(&Ffn::Plain { d_ff, .. }) => d_ff,
        _ => 0,
    };
    let columns = |start, len| Part::Columns { start, len };
    let rows = |start| Part::Rows { groups: 1, start, len: c };
    let (qkv, qkv_bias) = ("transformer.h.{}.attn.c_attn.weight", "transformer.h.{}.attn.c_attn.bias");
    Names::whole(&[
        ("embed", "transformer.wte.weight"),
        ("positions", "transformer.wpe.weight"),
        ("layers.{}.attn_norm", "transformer.h.{}.ln_1.weight"),
        ("layers.{}.attn_norm_b", "transformer.h.{}.ln_1.bias"),
        ("layers.{}.bo", "transformer.h.{}.attn.c_proj.bias"),
        ("layers.{}.ffn_norm", "transformer.h.{}.ln_2.weight"),
        ("layers.{}.ffn_norm_b", "transformer.h.{}.ln_2.bias"),
        ("layers.{}.b_up", "transformer.h.{}.mlp.c_fc.bias"),
        ("layers.{}.b_down", "transformer.h.{}.mlp.c_proj.bias"),
        ("final_norm", "transformer.ln_f.weight"),
        ("final_norm_b", "transformer.ln_f.bias"),
        ("head", "lm_head.weight"),
    ])
    .part("layers.{}.wq", qkv, columns(0, c))
    .part("layers.{}.wk", qkv, columns(c, c))
    .part("layers.{}.wv", qkv, columns(2 * c, c))
    .part("layers.{}.bq", qkv_bias, rows(0))
    .part("layers.{}.bk", qkv_bias, rows(c))
    .part("layers.{}.bv", qkv_bias, rows(2 * c))
    .part("layers.{}.wo", "transformer.h.{}.attn.c_proj.weight", columns(0, c))
    .part("layers.{}.w_up", "transformer.h.{}.mlp.c_fc.weight", columns(0, d_ff))
    .part("layers.{}.w_down", "transformer.h.{}.mlp.c_proj.weight", columns(0, c))
    .or_renamed("transformer.", "")
}

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS).with_spellings(SPELLINGS);
    hf.require("add_cross_attention", false)?;
    let usual = Usual::read(hf)?;
    let norm = Norm::Layer { eps: hf.f32_or("layer_norm_epsilon", 1e-5)?, bias: true };
    let mut attention = usual.attention(Position::None);
    (attention.qkv_bias, attention.out_bias) = (true, true);
    if !hf.bool_or("scale_attn_weights", true)? {
        attention.scale = 1.0;
    }
    let by_layer = hf.bool_or("scale_attn_by_inverse_layer_idx", false)?;
    let d_ff = hf.usize_or("n_inner", 4 * usual.d_model)?;
    let ffn = plain_ffn(hf, d_ff, "activation_function", "gelu_new", true)?;
    let layer = |index: usize| {
        let mut attention = attention.clone();
        if by_layer {
            attention.scale /= (index + 1) as f32;
        }
        pre_norm_layer(norm, attention, ffn.clone())
    };
    let layers = (0..usual.n_layers).map(layer).collect();
    let mut config = usual.decoder("gpt2", hf, true, norm, layers)?;
    config.embed.n_positions = Some(usual.max_seq_len);
    Ok(config)
}
