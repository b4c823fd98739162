//! Falcon: 7B (one head of keys, one norm), 40B and 180B (groups, two norms), RW (a head of keys each, ALiBi). All keep
//! q, k and v in one tensor. Almazrouei et al. 2023, arXiv:2311.16867.

use half::bf16;

use super::{Architecture, Usual, plain_ffn, pre_norm_layer, rope_of, with_grouped_qkv};
use crate::config::{Config, Norm, Position, Residual};
use crate::hf::Hf;
use crate::names::Names;
use crate::{Result, alibi};

pub(super) const FALCON: Architecture =
    Architecture { name: "falcon", model_types: &["falcon"], from_hf, hf_names };

const DEFAULTS: &str = r#"{"vocab_size": 65024, "hidden_size": 4544, "num_hidden_layers": 32,
    "num_attention_heads": 71, "bos_token_id": 11, "eos_token_id": 11}"#;

const SPELLINGS: &[(&str, &str)] = &[("hidden_size", "n_embed")];

fn hf_names(config: &Config) -> Names {
    let two_norms = config.layers.first().is_some_and(|layer| layer.residual == Residual::ParallelTwoNorms);
    let (attn_norm, ffn_norm) =
        if two_norms { ("ln_attn", "ln_mlp") } else { ("input_layernorm", "post_attention_layernorm") };
    let in_layer = |name: &str| format!("transformer.h.{{}}.{name}");
    let names = Names::whole(&[
        ("embed", "transformer.word_embeddings.weight"),
        ("layers.{}.attn_norm", &in_layer(&format!("{attn_norm}.weight"))),
        ("layers.{}.attn_norm_b", &in_layer(&format!("{attn_norm}.bias"))),
        ("layers.{}.ffn_norm", &in_layer(&format!("{ffn_norm}.weight"))),
        ("layers.{}.ffn_norm_b", &in_layer(&format!("{ffn_norm}.bias"))),
        ("layers.{}.wo", "transformer.h.{}.self_attention.dense.weight"),
        ("layers.{}.bo", "transformer.h.{}.self_attention.dense.bias"),
        ("layers.{}.w_up", "transformer.h.{}.mlp.dense_h_to_4h.weight"),
        ("layers.{}.b_up", "transformer.h.{}.mlp.dense_h_to_4h.bias"),
        ("layers.{}.w_down", "transformer.h.{}.mlp.dense_4h_to_h.weight"),
        ("layers.{}.b_down", "transformer.h.{}.mlp.dense_4h_to_h.bias"),
        ("final_norm", "transformer.ln_f.weight"),
        ("final_norm_b", "transformer.ln_f.bias"),
        ("head", "lm_head.weight"),
    ]);
    let qkv = in_layer("self_attention.query_key_value");
    with_grouped_qkv(names, config, &format!("{qkv}.weight"), &format!("{qkv}.bias"))
        .or_renamed("transformer.", "")
}

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS).with_spellings(SPELLINGS);
    let mut usual = Usual::read(hf)?;
    let grouped = hf.bool_or("new_decoder_architecture", false)?;
    usual.n_kv_heads = match (grouped, hf.bool_or("multi_query", true)?) {
        (true, _) => hf.usize_or("num_kv_heads", usual.n_heads)?,
        (false, true) => 1,
        (false, false) => usual.n_heads,
    };
    usual.check(hf)?;
    let bias = hf.bool_or("bias", false)?;
    let mut attention = usual.attention(Position::None);
    (attention.qkv_bias, attention.out_bias) = (bias, bias);
    attention.position = if hf.bool_or("alibi", false)? {
        // COMPAT: slopes were bf16 in training, and the penalty is scaled together with the scores.
        let slope = |slope: f32| bf16::from_f32(slope).to_f32() * attention.scale;
        Position::Alibi(alibi::slopes(usual.n_heads).into_iter().map(slope).collect())
    } else {
        rope_of(hf, usual.head_dim)?
    };
    let d_ff = hf.usize_or("ffn_hidden_size", 4 * usual.d_model)?;
    let ffn = plain_ffn(hf, d_ff, "activation", "gelu", bias)?;
    let norm = Norm::Layer { eps: hf.f32_or("layer_norm_epsilon", 1e-5)?, bias: true };
    let mut layer = pre_norm_layer(norm, attention, ffn);
    layer.residual = residual(hf, grouped)?;
    let layers = vec![layer; usual.n_layers];
    usual.decoder("falcon", hf, true, norm, layers)
}

fn residual(hf: &Hf, grouped: bool) -> Result<Residual> {
    let parallel = hf.bool_or("parallel_attn", true)?;
    let n_norms = hf.usize_or("num_ln_in_parallel_attn", if grouped { 2 } else { 1 })?;
    match (parallel, grouped, n_norms) {
        (true, true, 2) => Ok(Residual::ParallelTwoNorms),
        (true, _, 1) => Ok(Residual::Parallel),
        (false, false, _) => Ok(Residual::Pre),
        (false, true, _) => Err(hf.error("parallel_attn", "true, as `new_decoder_architecture` is", "false")),
        (true, _, other) => {
            let expected = if grouped { "1 or 2" } else { "1 without `new_decoder_architecture`" };
            Err(hf.error("num_ln_in_parallel_attn", expected, &other.to_string()))
        }
    }
}
