//! Qwen2 and 2.5: Llama with biases on q, k and v. Qwen3: without, but with norms of q and k. Both may slide a window
//! over their upper layers. Yang et al. 2024, arXiv:2407.10671; Qwen Team 2025, arXiv:2505.09388.

use super::{Architecture, USUAL_NAMES, Usual, gated_ffn, pre_norm_layer, rope_of, windows_of};
use crate::Result;
use crate::config::{AttentionConfig, Config, Norm, QkNorm};
use crate::hf::Hf;
use crate::names::Names;

pub(super) const QWEN2: Architecture =
    Architecture { name: "qwen2", model_types: &["qwen2"], from_hf: qwen2, hf_names };

pub(super) const QWEN3: Architecture =
    Architecture { name: "qwen3", model_types: &["qwen3"], from_hf: qwen3, hf_names };

const DEFAULTS: &str = r#"{"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "max_position_embeddings": 32768, "sliding_window": 4096, "max_window_layers": 28}"#;

const DEFAULTS_3: &str = r#"{"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128,
    "max_position_embeddings": 32768, "sliding_window": 4096, "max_window_layers": 28}"#;

fn hf_names(_: &Config) -> Names {
    Names::whole(USUAL_NAMES).or_renamed("model.", "")
}

fn qwen2(hf: &Hf) -> Result<Config> {
    decoder("qwen2", &hf.with_defaults(DEFAULTS), |attention, _| {
        attention.qkv_bias = true;
        Ok(())
    })
}

fn qwen3(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS_3);
    decoder("qwen3", hf, |attention, norm| {
        attention.qkv_bias = hf.bool_or("attention_bias", false)?;
        attention.out_bias = attention.qkv_bias;
        attention.qk_norm = Some(QkNorm::Head(norm));
        Ok(())
    })
}

fn decoder(
    arch: &'static str,
    hf: &Hf,
    fill: impl Fn(&mut AttentionConfig, Norm) -> Result<()>,
) -> Result<Config> {
    let usual = Usual::read(hf)?;
    let norm = Norm::Rms { eps: hf.f32_or("rms_norm_eps", 1e-6)? };
    let mut attention = usual.attention(rope_of(hf, usual.head_dim)?);
    fill(&mut attention, norm)?;
    let ffn = gated_ffn(hf, "hidden_act", "silu", false)?;
    let slides = hf.bool_or("use_sliding_window", false)? && hf.get("sliding_window").is_some();
    let first = hf.usize_or("max_window_layers", usual.n_layers)?;
    let layer = |window| pre_norm_layer(norm, AttentionConfig { window, ..attention.clone() }, ffn.clone());
    let windows = match slides {
        true => windows_of(hf, usual.n_layers, |layer| layer >= first)?,
        false => vec![None; usual.n_layers],
    };
    usual.decoder(arch, hf, false, norm, windows.into_iter().map(layer).collect())
}
