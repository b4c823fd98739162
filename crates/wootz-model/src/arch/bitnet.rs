//! BitNet b1.58: Llama with squared ReLU and a norm before every matrix. In checkpoints that say so, matrices are ternary
//! and their inputs are rounded to 8 bits. Ma et al. 2025, arXiv:2504.12285.

use super::{Architecture, USUAL_NAMES, Usual, gated_ffn, pre_norm_layer, rope_of};
use crate::Result;
use crate::config::{Config, Ffn, Norm};
use crate::hf::Hf;
use crate::names::Names;

pub(super) const BITNET: Architecture =
    Architecture { name: "bitnet", model_types: &["bitnet"], from_hf, hf_names };

const DEFAULTS: &str = r#"{"vocab_size": 128256, "hidden_size": 2560, "intermediate_size": 6912,
    "num_hidden_layers": 30, "num_attention_heads": 20, "num_key_value_heads": 5,
    "rope_theta": 500000.0, "bos_token_id": 128000, "eos_token_id": 128001}"#;

fn hf_names(_: &Config) -> Names {
    Names::whole(USUAL_NAMES)
        .and(&[
            ("layers.{}.inner_norm", "model.layers.{}.self_attn.attn_sub_norm.weight"),
            ("layers.{}.ffn_inner_norm", "model.layers.{}.mlp.ffn_sub_norm.weight"),
        ])
        .or_renamed("model.", "")
}

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS);
    let usual = Usual::read(hf)?;
    let eps = hf.f32_or("rms_norm_eps", 1e-5)?;
    let final_norm = Norm::Rms { eps };
    let norm = if hf.get("quantization_config").is_some() { Norm::RmsRounded { eps } } else { final_norm };
    let mut attention = usual.attention(rope_of(hf, usual.head_dim)?);
    attention.qkv_bias = hf.bool_or("attention_bias", false)?;
    attention.out_bias = attention.qkv_bias;
    attention.inner_norm = Some(norm);
    let mut ffn = gated_ffn(hf, "hidden_act", "relu2", false)?;
    if let Ffn::Gated { inner_norm, .. } = &mut ffn {
        *inner_norm = Some(norm);
    }
    let layers = vec![pre_norm_layer(norm, attention, ffn); usual.n_layers];
    usual.decoder("bitnet", hf, false, final_norm, layers)
}
