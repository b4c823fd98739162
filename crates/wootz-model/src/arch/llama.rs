//! Llama 1 to 3, and Mistral, which differs by a window. Touvron et al. 2023, arXiv:2302.13971; Jiang et al. 2023,
//! arXiv:2310.06825.

use super::{Architecture, USUAL_NAMES, Usual, gated_ffn, pre_norm_layer, rope_of};
use crate::Result;
use crate::config::{Config, Norm};
use crate::hf::Hf;
use crate::names::Names;

pub(super) const LLAMA: Architecture = Architecture {
    name: "llama",
    model_types: &["llama", "mistral"],
    from_hf,
    hf_names: |_| Names::whole(USUAL_NAMES),
};

fn from_hf(hf: &Hf) -> Result<Config> {
    let usual = Usual::read(hf)?;
    let norm = Norm::Rms { eps: hf.f32_or("rms_norm_eps", 1e-6)? };
    let mut attention = usual.attention(rope_of(hf, usual.head_dim)?);
    attention.qkv_bias = hf.bool_or("attention_bias", false)?;
    attention.out_bias = attention.qkv_bias;
    if hf.str("model_type") == Some("mistral") {
        attention.window = hf.find_usize("sliding_window")?;
    }
    let ffn = gated_ffn(hf, "hidden_act", "silu", hf.bool_or("mlp_bias", false)?)?;
    let layers = vec![pre_norm_layer(norm, attention, ffn); usual.n_layers];
    usual.decoder("llama", hf, false, norm, layers)
}
