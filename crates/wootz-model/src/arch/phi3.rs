//! Phi-3 and Phi-4: Llama with q, k and v in one tensor, gate and up in another, and longrope for long contexts.
//! Abdin et al. 2024, arXiv:2404.14219; longrope: Ding et al. 2024, arXiv:2402.13753.

use super::{Architecture, USUAL_NAMES, Usual, first_attention, gated_ffn, partial_rope_of, pre_norm_layer};

use crate::config::{AttentionConfig, Config, Ffn, Norm};
use crate::hf::Hf;
use crate::names::{Names, Part};
use crate::{Result, rope};

pub(super) const PHI3: Architecture =
    Architecture { name: "phi3", model_types: &["phi3"], from_hf, hf_names };

const DEFAULTS: &str = r#"{"vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096, "bos_token_id": 1, "eos_token_id": 32000}"#;

fn hf_names(config: &Config) -> Names {
    let mut names = Names::whole(USUAL_NAMES).or_renamed("model.", "");
    let rows = |start, len| Part::Rows { groups: 1, start, len };
    if let Some(&AttentionConfig { n_heads, n_kv_heads, head_dim, .. }) = first_attention(config) {
        let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let qkv = "model.layers.{}.self_attn.qkv_proj.weight";
        names = names.part("layers.{}.wq", qkv, rows(0, q)).part("layers.{}.wk", qkv, rows(q, kv)).part(
            "layers.{}.wv",
            qkv,
            rows(q + kv, kv),
        );
    }
    if let Some(&Ffn::Gated { d_ff, .. }) = config.layers.first().map(|layer| &layer.ffn) {
        let gate_up = "model.layers.{}.mlp.gate_up_proj.weight";
        names = names.part("layers.{}.w_gate", gate_up, rows(0, d_ff)).part(
            "layers.{}.w_up",
            gate_up,
            rows(d_ff, d_ff),
        );
    }
    names
}

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS);
    let usual = Usual::read(hf)?;
    let norm = Norm::Rms { eps: hf.f32_or("rms_norm_eps", 1e-5)? };
    if let Some(kind) = rope::parameters(hf).as_ref().map(rope::kind)
        && !["default", "longrope", "su"].contains(&kind)
    {
        return Err(hf.error("rope_scaling", "`default` or `longrope`", kind));
    }
    let (rope, _) = partial_rope_of(hf, usual.head_dim, 1.0)?;
    let mut attention = usual.attention(rope);
    attention.window = hf.find_usize("sliding_window")?;
    let ffn = gated_ffn(hf, "hidden_act", "silu", false)?;
    let layers = vec![pre_norm_layer(norm, attention, ffn); usual.n_layers];
    usual.decoder("phi3", hf, false, norm, layers)
}
