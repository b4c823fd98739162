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
    hf_names: |_| Names::whole(USUAL_NAMES).or_renamed("model.", ""),
};

const LLAMA_DEFAULTS: &str = r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "bos_token_id": 1, "eos_token_id": 2}"#;

const MISTRAL_DEFAULTS: &str = r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 131072, "sliding_window": 4096, "bos_token_id": 1, "eos_token_id": 2}"#;

fn from_hf(hf: &Hf) -> Result<Config> {
    let is_mistral = hf.str("model_type") == Some("mistral");
    let hf = &hf.with_defaults(if is_mistral { MISTRAL_DEFAULTS } else { LLAMA_DEFAULTS });
    let usual = Usual::read(hf)?;
    let norm = Norm::Rms { eps: hf.f32_or("rms_norm_eps", 1e-6)? };
    let mut attention = usual.attention(rope_of(hf, usual.head_dim)?);
    let mut mlp_bias = false;
    if is_mistral {
        attention.window = hf.find_usize("sliding_window")?;
    } else {
        attention.qkv_bias = hf.bool_or("attention_bias", false)?;
        attention.out_bias = attention.qkv_bias;
        mlp_bias = hf.bool_or("mlp_bias", false)?;
    }
    let ffn = gated_ffn(hf, "hidden_act", "silu", mlp_bias)?;
    let layers = vec![pre_norm_layer(norm, attention, ffn); usual.n_layers];
    usual.decoder("llama", hf, false, norm, layers)
}
