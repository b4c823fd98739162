//! OLMo 2: norms after each part instead of before, and of all heads of q and k as one row. Walsh et al. 2025,
//! arXiv:2501.00656.

use super::{Architecture, USUAL_NAMES, Usual, gated_ffn, pre_norm_layer, rope_of};
use crate::Result;
use crate::config::{Config, Norm, QkNorm, Residual};
use crate::hf::Hf;
use crate::names::Names;

pub(super) const OLMO2: Architecture =
    Architecture { name: "olmo2", model_types: &["olmo2"], from_hf, hf_names };

const DEFAULTS: &str = r#"{"vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "eos_token_id": 50279}"#;

fn hf_names(_: &Config) -> Names {
    Names::whole(USUAL_NAMES)
        .and(&[
            ("layers.{}.attn_norm", "model.layers.{}.post_attention_layernorm.weight"),
            ("layers.{}.ffn_norm", "model.layers.{}.post_feedforward_layernorm.weight"),
        ])
        .or_renamed("model.", "")
}

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS);
    let usual = Usual::read(hf)?;
    let norm = Norm::Rms { eps: hf.f32_or("rms_norm_eps", 1e-5)? };
    let mut attention = usual.attention(rope_of(hf, usual.head_dim)?);
    attention.qkv_bias = hf.bool_or("attention_bias", false)?;
    attention.out_bias = attention.qkv_bias;
    attention.qk_norm = Some(QkNorm::Row(norm));
    let mut layer = pre_norm_layer(norm, attention, gated_ffn(hf, "hidden_act", "silu", false)?);
    layer.residual = Residual::Inner;
    let layers = vec![layer; usual.n_layers];
    usual.decoder("olmo2", hf, false, norm, layers)
}
