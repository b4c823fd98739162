//! `llama`: Llama, Mistral, and Mixtral, which GGUF calls by the same name.

use wootz_graph::{Activation, RopeStyle};

use super::{GgufFamily, KeyWriter, Keys, names_in_pairs, rope_of, write_rope, write_usual};
use crate::Result;
use crate::arch::{Usual, pre_norm_layer};
use crate::config::{Config, ExpertsConfig, Ffn, Norm, Router};
use crate::hf::Hf;

pub(super) const LLAMA: GgufFamily =
    GgufFamily { name: "llama", archs: &["llama", "mixtral"], from_gguf, names: names_in_pairs, write_keys };

fn from_gguf(keys: &Keys) -> Result<Config> {
    let usual = Usual::from_gguf(keys)?;
    let norm = Norm::Rms { eps: keys.f32_or("attention.layer_norm_rms_epsilon", 1e-5)? };
    let mut attention = usual.attention(rope_of(keys, usual.head_dim, RopeStyle::Pairs)?);
    attention.qkv_bias = keys.has_tensor("blk.0.attn_q.bias");
    attention.out_bias = keys.has_tensor("blk.0.attn_output.bias");
    attention.window = keys.find_usize("attention.sliding_window")?.filter(|&window| window > 0);
    let d_ff = keys.positive("feed_forward_length")?;
    let n_experts = keys.usize_or("expert_count", 0)?;
    let ffn = if n_experts > 0 {
        Ffn::Experts(ExpertsConfig {
            n_experts,
            n_used: keys.positive("expert_used_count")?,
            d_ff,
            activation: Activation::Silu,
            router: Router::Softmax { groups: None },
            normalize: true,
            scale: 1.0,
            shared_d_ff: None,
        })
    } else {
        let bias = keys.has_tensor("blk.0.ffn_gate.bias");
        Ffn::Gated { d_ff, activation: Activation::Silu, bias, inner_norm: None }
    };
    let layers = vec![pre_norm_layer(norm, attention, ffn); usual.n_layers];
    let arch = if n_experts > 0 { "mixtral" } else { "llama" };
    usual.decoder_from_gguf(arch, keys, norm, layers)
}

fn write_keys(config: &Config, hf: &Hf, out: &mut KeyWriter) -> Result<()> {
    write_usual(config, out);
    if let Some(Ffn::Experts(experts)) = config.layers.first().map(|layer| &layer.ffn) {
        out.size("feed_forward_length", experts.d_ff);
    }
    write_rope(hf, config, out)
}
