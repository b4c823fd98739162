//! OPT: learned positions that start at 2, norms before each part, or after it and a narrower embedding (350M). Zhang et al. 2022,
//! arXiv:2205.01068.

use super::{Architecture, Usual, plain_ffn, pre_norm_layer};
use crate::Result;
use crate::config::{Config, Norm, Position, Residual};
use crate::hf::Hf;
use crate::names::{Names, Part};

pub(super) const OPT: Architecture = Architecture { name: "opt", model_types: &["opt"], from_hf, hf_names };

const DEFAULTS: &str = r#"{"vocab_size": 50272, "hidden_size": 768, "num_hidden_layers": 12, "ffn_dim": 3072,
    "num_attention_heads": 12, "bos_token_id": 2, "eos_token_id": 2}"#;

/// Rows of the table of positions that no token has.
const OFFSET: usize = 2;

fn hf_names(config: &Config) -> Names {
    let positions = Part::Rows { groups: 1, start: OFFSET, len: config.embed.n_positions.unwrap_or(0) };
    Names::whole(&[
        ("embed", "model.decoder.embed_tokens.weight"),
        ("project_in", "model.decoder.project_in.weight"),
        ("project_out", "model.decoder.project_out.weight"),
        ("layers.{}.attn_norm", "model.decoder.layers.{}.self_attn_layer_norm.weight"),
        ("layers.{}.attn_norm_b", "model.decoder.layers.{}.self_attn_layer_norm.bias"),
        ("layers.{}.wq", "model.decoder.layers.{}.self_attn.q_proj.weight"),
        ("layers.{}.wk", "model.decoder.layers.{}.self_attn.k_proj.weight"),
        ("layers.{}.wv", "model.decoder.layers.{}.self_attn.v_proj.weight"),
        ("layers.{}.wo", "model.decoder.layers.{}.self_attn.out_proj.weight"),
        ("layers.{}.bq", "model.decoder.layers.{}.self_attn.q_proj.bias"),
        ("layers.{}.bk", "model.decoder.layers.{}.self_attn.k_proj.bias"),
        ("layers.{}.bv", "model.decoder.layers.{}.self_attn.v_proj.bias"),
        ("layers.{}.bo", "model.decoder.layers.{}.self_attn.out_proj.bias"),
        ("layers.{}.ffn_norm", "model.decoder.layers.{}.final_layer_norm.weight"),
        ("layers.{}.ffn_norm_b", "model.decoder.layers.{}.final_layer_norm.bias"),
        ("layers.{}.w_up", "model.decoder.layers.{}.fc1.weight"),
        ("layers.{}.b_up", "model.decoder.layers.{}.fc1.bias"),
        ("layers.{}.w_down", "model.decoder.layers.{}.fc2.weight"),
        ("layers.{}.b_down", "model.decoder.layers.{}.fc2.bias"),
        ("final_norm", "model.decoder.final_layer_norm.weight"),
        ("final_norm_b", "model.decoder.final_layer_norm.bias"),
        ("head", "lm_head.weight"),
    ])
    .part("positions", "model.decoder.embed_positions.weight", positions)
    .or_renamed("model.", "")
}

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS);
    let usual = Usual::read(hf)?;
    let (eps, bias) = (1e-5, hf.bool_or("enable_bias", true)?);
    let norm = match hf.bool_or("layer_norm_elementwise_affine", true)? {
        true => Norm::Layer { eps, bias: true },
        false => Norm::LayerPlain { eps },
    };
    let mut attention = usual.attention(Position::None);
    (attention.qkv_bias, attention.out_bias) = (bias, bias);
    let ffn = plain_ffn(hf, hf.positive("ffn_dim")?, "activation_function", "relu", bias)?;
    let norm_before = hf.bool_or("do_layer_norm_before", true)?;
    let mut layer = pre_norm_layer(norm, attention, ffn);
    layer.residual = if norm_before { Residual::Pre } else { Residual::Post };
    let mut config = usual.decoder("opt", hf, true, norm, vec![layer; usual.n_layers])?;
    if !norm_before || hf.bool_or("_remove_final_layer_norm", false)? {
        config.final_norm = None;
    }
    config.embed.n_positions = Some(usual.max_seq_len);
    config.embed.width = hf.find_usize("word_embed_proj_dim")?.filter(|width| *width != usual.d_model);
    Ok(config)
}
