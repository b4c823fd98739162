//! Mixtral: Mistral with experts in place of the feed-forward part. Jiang et al. 2024, arXiv:2401.04088.

use super::{Architecture, USUAL_NAMES, Usual, activation, experts, pre_norm_layer, rope_of};
use crate::Result;
use crate::config::{Config, ExpertsConfig, Norm, Router};
use crate::hf::Hf;
use crate::names::Names;

pub(super) const MIXTRAL: Architecture = Architecture {
    name: "mixtral",
    model_types: &["mixtral"],
    from_hf,
    hf_names: |config| {
        let block = "model.layers.{}.block_sparse_moe";
        experts::named(Names::whole(USUAL_NAMES).or_renamed("model.", ""), block, ["w1", "w3", "w2"], config)
    },
};

const DEFAULTS: &str = r#"{"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8,
    "num_experts_per_tok": 2, "max_position_embeddings": 131072, "rope_theta": 1e6, "bos_token_id": 1,
    "eos_token_id": 2}"#;

fn from_hf(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS);
    let usual = Usual::read(hf)?;
    let norm = Norm::Rms { eps: hf.f32_or("rms_norm_eps", 1e-5)? };
    let mut attention = usual.attention(rope_of(hf, usual.head_dim)?);
    attention.window = hf.find_usize("sliding_window")?;
    let ffn = experts::checked(
        hf,
        ExpertsConfig {
            n_experts: hf.usize("num_local_experts")?,
            n_used: hf.usize("num_experts_per_tok")?,
            d_ff: hf.positive("intermediate_size")?,
            activation: activation(hf, "hidden_act", "silu")?,
            router: Router::Softmax { groups: None },
            normalize: true,
            scale: 1.0,
            shared_d_ff: None,
        },
    )?;
    let layers = vec![pre_norm_layer(norm, attention, ffn); usual.n_layers];
    usual.decoder("mixtral", hf, false, norm, layers)
}
