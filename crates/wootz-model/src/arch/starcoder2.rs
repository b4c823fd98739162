//! StarCoder 2: grouped queries and rotation with layer norms, biases and a plain feed-forward part. Lozhkov et al. 2024,
//! arXiv:2402.19173.

use super::{Architecture, USUAL_NAMES, Usual, plain_ffn, pre_norm_layer, rope_of};
use crate::Result;
use crate::config::{Config, Norm};
use crate::hf::Hf;
use crate::names::Names;

pub(super) const STARCODER2: Architecture =
    Architecture { name: "starcoder2", model_types: &["starcoder2"], from_hf, hf_names };

const DEFAULTS: &str = r#"{"vocab_size": 49152, "hidden_size": 3072, "intermediate_size": 12288,
    "num_hidden_layers": 30, "num_attention_heads": 24, "num_key_value_heads": 2,
    "max_position_embeddings": 4096, "bos_token_id": 50256, "eos_token_id": 50256}"#;

fn hf_names(_: &Config) -> Names {
    Names::whole(USUAL_NAMES)
        .and(&[
            ("layers.{}.attn_norm_b", "model.layers.{}.input_layernorm.bias"),
            ("layers.{}.ffn_norm_b", "model.layers.{}.post_attention_layernorm.bias"),
            ("layers.{}.w_up", "model.layers.{}.mlp.c_fc.weight"),
            ("layers.{}.b_up", "model.layers.{}.mlp.c_fc.bias"),
            ("layers.{}.w_down", "model.layers.{}.mlp.c_proj.weight"),
            ("layers.{}.b_down", "model.layers.{}.mlp.c_proj.bias"),
            ("final_norm_b", "model.norm.bias"),
        ])
        .or_renamed("model.", "")
}

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS);
    let usual = Usual::read(hf)?;
    let norm = Norm::Layer { eps: hf.f32_or("norm_epsilon", 1e-5)?, bias: true };
    let bias = hf.bool_or("use_bias", true)?;
    let mut attention = usual.attention(rope_of(hf, usual.head_dim)?);
    (attention.qkv_bias, attention.out_bias) = (bias, bias);
    attention.window = hf.find_usize("sliding_window")?;
    let ffn = plain_ffn(hf, hf.positive("intermediate_size")?, "hidden_act", "gelu_pytorch_tanh", bias)?;
    let layers = vec![pre_norm_layer(norm, attention, ffn); usual.n_layers];
    usual.decoder("starcoder2", hf, true, norm, layers)
}
