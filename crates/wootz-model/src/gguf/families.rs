//! The families that GGUF names: keys, what they imply, and tensor names.
//!
//! Where:  one row of [`ALL`] for each `general.architecture`.
//! Idea:   a file that was not written here is read by turning its metadata into the `config.json` that says the same,
//!         so that a family's meaning stands in one place, [`arch`](crate::arch).
//! Source: llama.cpp's converter and loader.

use wootz_graph::RopeStyle;

use super::reading::Reading;
use super::{USUAL_NAMES, implied};
use crate::Result;
use crate::config::{AttentionConfig, Config, Ffn, LatentConfig, Mamba2Config, MambaConfig, Mixer, Residual};
use crate::names::{Names, Part};

/// What GGUF knows about a family.
pub(crate) struct GgufFamily {
    /// `general.architecture`.
    pub name: &'static str,
    /// The families of [`arch`](crate::arch) that are written so.
    pub archs: &'static [&'static str],
    /// `model_type` of the `config.json` that stands for a file not written here.
    pub model_type: &'static str,
    /// Keys beyond the usual ones: in `config.json`, under the architecture's prefix.
    pub keys: &'static [(&'static str, &'static str)],
    /// What the architecture implies, as `config.json`.
    pub implied: &'static str,
    /// What it implies by the tensors that are there, or by arithmetic.
    pub derive: fn(&mut Reading) -> Result<()>,
    /// Which numbers of a head the file has in pairs for the rotation.
    pub style: RopeStyle,
    /// Names and parts of tensors.
    pub names: fn(&Config) -> Names,
}

use RopeStyle::{Halves, Pairs};

const EXPERTS: &[(&str, &str)] = &[("num_experts_per_tok", "expert_used_count")];

/// Every family.
pub(crate) const ALL: &[GgufFamily] = &[
    GgufFamily {
        keys: &[("sliding_window", "attention.sliding_window")],
        derive: implied::llama,
        ..family("llama", &["llama", "mixtral"], "llama", Pairs, usual)
    },
    family("qwen2", &["qwen2"], "qwen2", Halves, usual),
    family("qwen3", &["qwen3"], "qwen3", Halves, usual),
    GgufFamily {
        keys: &[
            ("num_experts", "expert_count"),
            EXPERTS[0],
            ("moe_intermediate_size", "expert_feed_forward_length"),
        ],
        implied: r#"{"norm_topk_prob": true}"#,
        ..family("qwen3moe", &["qwen3_moe"], "qwen3_moe", Halves, usual)
    },
    family("gemma", &["gemma"], "gemma", Halves, usual),
    GgufFamily {
        keys: &[
            ("sliding_window", "attention.sliding_window"),
            ("attn_logit_softcapping", "attn_logit_softcapping"),
            ("final_logit_softcapping", "final_logit_softcapping"),
        ],
        derive: implied::gemma2,
        ..family("gemma2", &["gemma2"], "gemma2", Halves, usual)
    },
    GgufFamily {
        keys: &[("sliding_window", "attention.sliding_window")],
        derive: implied::gemma3,
        ..family("gemma3", &["gemma3"], "gemma3_text", Halves, usual)
    },
    GgufFamily {
        derive: implied::phi2,
        implied: r#"{"hidden_act": "gelu_new"}"#,
        ..family("phi2", &["phi"], "phi", Halves, phi2)
    },
    GgufFamily {
        keys: &[("sliding_window", "attention.sliding_window")],
        ..family("phi3", &["phi3"], "phi3", Halves, fused_qkv_and_gate)
    },
    GgufFamily {
        keys: &[("n_inner", "feed_forward_length")],
        implied: r#"{"activation_function": "gelu_new"}"#,
        ..family("gpt2", &["gpt2"], "gpt2", Halves, fused_qkv)
    },
    GgufFamily {
        keys: &[("use_parallel_residual", "use_parallel_residual")],
        implied: r#"{"hidden_act": "gelu_new"}"#,
        ..family("gptneox", &["gpt_neox"], "gpt_neox", Halves, fused_qkv)
    },
    GgufFamily {
        keys: &[("ffn_hidden_size", "feed_forward_length")],
        implied: r#"{"activation": "gelu_new"}"#,
        derive: implied::falcon,
        ..family("falcon", &["falcon"], "falcon", Halves, falcon)
    },
    family("bloom", &["bloom"], "bloom", Halves, fused_qkv),
    GgufFamily {
        keys: &[("use_parallel_residual", "use_parallel_residual")],
        derive: implied::stablelm,
        ..family("stablelm", &["stablelm"], "stablelm", Halves, usual)
    },
    family("olmo2", &["olmo2"], "olmo2", Halves, olmo2),
    GgufFamily {
        keys: &[("logit_scale", "logit_scale")],
        derive: implied::command_r,
        ..family("command-r", &["cohere"], "cohere", Pairs, usual)
    },
    GgufFamily {
        keys: &[
            ("attention_multiplier", "attention.scale"),
            ("embedding_multiplier", "embedding_scale"),
            ("residual_multiplier", "residual_scale"),
            ("logits_scaling", "logit_scale"),
        ],
        derive: implied::granite,
        ..family("granite", &["granite"], "granite", Pairs, usual)
    },
    GgufFamily {
        derive: implied::starcoder2,
        ..family("starcoder2", &["starcoder2"], "starcoder2", Halves, usual)
    },
    GgufFamily { derive: implied::smollm3, ..family("smollm3", &["smollm3"], "smollm3", Pairs, usual) },
    GgufFamily {
        keys: &[
            ("q_lora_rank", "attention.q_lora_rank"),
            ("kv_lora_rank", "attention.kv_lora_rank"),
            ("qk_rope_head_dim", "rope.dimension_count"),
            ("n_routed_experts", "expert_count"),
            EXPERTS[0],
            ("n_shared_experts", "expert_shared_count"),
            ("moe_intermediate_size", "expert_feed_forward_length"),
            ("first_k_dense_replace", "leading_dense_block_count"),
            ("routed_scaling_factor", "expert_weights_scale"),
            ("norm_topk_prob", "expert_weights_norm"),
            ("n_group", "expert_group_count"),
            ("topk_group", "expert_group_used_count"),
        ],
        derive: implied::deepseek2,
        ..family("deepseek2", &["deepseek_v2", "deepseek_v3"], "deepseek_v3", Pairs, deepseek)
    },
    GgufFamily {
        keys: &[
            ("conv_kernel", "ssm.conv_kernel"),
            ("intermediate_size", "ssm.inner_size"),
            ("state_size", "ssm.state_size"),
            ("time_step_rank", "ssm.time_step_rank"),
        ],
        derive: implied::mamba,
        ..family("mamba", &["mamba"], "mamba", Halves, mamba)
    },
    GgufFamily {
        keys: &[
            ("conv_kernel", "ssm.conv_kernel"),
            ("state_size", "ssm.state_size"),
            ("num_heads", "ssm.time_step_rank"),
            ("n_groups", "ssm.group_count"),
        ],
        derive: implied::mamba2,
        ..family("mamba2", &["mamba2"], "mamba2", Halves, mamba2)
    },
    family("bitnet", &["bitnet"], "bitnet", Halves, bitnet),
    GgufFamily {
        implied: r#"{"hidden_act": "gelu_new"}"#,
        derive: implied::bert,
        ..family("bert", &["bert", "roberta"], "bert", Halves, bert)
    },
    GgufFamily {
        keys: &[("local_attention", "attention.sliding_window")],
        derive: implied::modern_bert,
        ..family("modern-bert", &["modernbert"], "modernbert", Halves, fused_qkv_and_gate)
    },
];

const fn family(
    name: &'static str,
    archs: &'static [&'static str],
    model_type: &'static str,
    style: RopeStyle,
    names: fn(&Config) -> Names,
) -> GgufFamily {
    GgufFamily { name, archs, model_type, keys: &[], implied: "{}", derive: implied::usual, style, names }
}

fn usual(_: &Config) -> Names {
    Names::whole(USUAL_NAMES)
}

fn attention_of(config: &Config) -> Option<&AttentionConfig> {
    config.layers.iter().find_map(|layer| match &layer.mixer {
        Mixer::Attention(attention) => Some(attention),
        _ => None,
    })
}

/// Parts of one tensor whose rows follow each other: weight and how many rows.
fn cut(names: Names, file: &str, parts: &[(&str, usize)]) -> Names {
    let mut start = 0;
    parts.iter().fold(names, |names, &(weight, len)| {
        let part = Part::Rows { groups: 1, start, len };
        start += len;
        names.part(&format!("layers.{{}}.{weight}"), &format!("blk.{{}}.{file}"), part)
    })
}

pub(super) fn fused_qkv(config: &Config) -> Names {
    let Some(attention) = attention_of(config) else { return usual(config) };
    let (q, kv) = (attention.n_heads * attention.head_dim, attention.n_kv_heads * attention.head_dim);
    let names = cut(usual(config), "attn_qkv.weight", &[("wq", q), ("wk", kv), ("wv", kv)]);
    cut(names, "attn_qkv.bias", &[("bq", q), ("bk", kv), ("bv", kv)])
}

fn fused_qkv_and_gate(config: &Config) -> Names {
    let names = fused_qkv(config);
    match config.layers.first().map(|layer| &layer.ffn) {
        Some(&Ffn::Gated { d_ff, .. }) => {
            let names = cut(names, "ffn_up.weight", &[("w_gate", d_ff), ("w_up", d_ff)]);
            cut(names, "ffn_up.bias", &[("b_gate", d_ff), ("b_up", d_ff)])
        }
        _ => names,
    }
}

fn phi2(config: &Config) -> Names {
    usual(config).and(&[
        ("layers.{}.q_norm_b", "blk.{}.attn_q_norm.bias"),
        ("layers.{}.k_norm_b", "blk.{}.attn_k_norm.bias"),
    ])
}

fn falcon(config: &Config) -> Names {
    let names = fused_qkv(config);
    if config.layers.first().is_none_or(|layer| layer.residual != Residual::ParallelTwoNorms) {
        return names;
    }
    names.and(&[
        ("layers.{}.attn_norm", "blk.{}.attn_norm_2.weight"),
        ("layers.{}.attn_norm_b", "blk.{}.attn_norm_2.bias"),
        ("layers.{}.ffn_norm", "blk.{}.attn_norm.weight"),
        ("layers.{}.ffn_norm_b", "blk.{}.attn_norm.bias"),
    ])
}

fn olmo2(config: &Config) -> Names {
    usual(config).and(&[
        ("layers.{}.attn_norm", "blk.{}.post_attention_norm.weight"),
        ("layers.{}.ffn_norm", "blk.{}.post_ffw_norm.weight"),
    ])
}

fn bitnet(config: &Config) -> Names {
    usual(config).and(&[
        ("layers.{}.inner_norm", "blk.{}.attn_sub_norm.weight"),
        ("layers.{}.ffn_inner_norm", "blk.{}.ffn_sub_norm.weight"),
    ])
}

fn bert(config: &Config) -> Names {
    usual(config).and(&[
        ("layers.{}.attn_norm", "blk.{}.attn_output_norm.weight"),
        ("layers.{}.attn_norm_b", "blk.{}.attn_output_norm.bias"),
        ("layers.{}.ffn_norm", "blk.{}.layer_output_norm.weight"),
        ("layers.{}.ffn_norm_b", "blk.{}.layer_output_norm.bias"),
    ])
}

fn deepseek(config: &Config) -> Names {
    let has_q_rank = config
        .layers
        .iter()
        .any(|layer| matches!(&layer.mixer, Mixer::Latent(LatentConfig { q_rank: Some(_), .. })));
    usual(config).and(&[
        ("layers.{}.wq_a", "blk.{}.attn_q_a.weight"),
        ("layers.{}.q_norm", "blk.{}.attn_q_a_norm.weight"),
        ("layers.{}.wq", if has_q_rank { "blk.{}.attn_q_b.weight" } else { "blk.{}.attn_q.weight" }),
        ("layers.{}.wkv_a", "blk.{}.attn_kv_a_mqa.weight"),
        ("layers.{}.kv_norm", "blk.{}.attn_kv_a_norm.weight"),
        ("layers.{}.wk_b", "blk.{}.attn_k_b.weight"),
        ("layers.{}.wv_b", "blk.{}.attn_v_b.weight"),
    ])
}

fn ssm(config: &Config) -> Names {
    usual(config).and(&[
        ("layers.{}.conv", "blk.{}.ssm_conv1d.weight"),
        ("layers.{}.conv_b", "blk.{}.ssm_conv1d.bias"),
        ("layers.{}.w_dt", "blk.{}.ssm_dt.weight"),
        ("layers.{}.b_dt", "blk.{}.ssm_dt.bias"),
        ("layers.{}.a", "blk.{}.ssm_a"),
        ("layers.{}.d", "blk.{}.ssm_d"),
        ("layers.{}.scan_norm", "blk.{}.ssm_norm.weight"),
        ("layers.{}.wo", "blk.{}.ssm_out.weight"),
    ])
}

fn mamba(config: &Config) -> Names {
    let Some(&Mixer::Mamba(MambaConfig { d_inner, d_state, dt_rank, .. })) =
        config.layers.first().map(|layer| &layer.mixer)
    else {
        return ssm(config);
    };
    let names = cut(ssm(config), "ssm_in.weight", &[("w_x", d_inner), ("w_z", d_inner)]);
    cut(names, "ssm_x.weight", &[("w_dt_rank", dt_rank), ("w_b", d_state), ("w_c", d_state)])
}

fn mamba2(config: &Config) -> Names {
    let Some(&Mixer::Mamba2(Mamba2Config { n_heads, head_dim, n_groups, d_state, .. })) =
        config.layers.first().map(|layer| &layer.mixer)
    else {
        return ssm(config);
    };
    let d_inner = n_heads * head_dim;
    let d_xbc = d_inner + 2 * n_groups * d_state;
    cut(ssm(config), "ssm_in.weight", &[("w_z", d_inner), ("w_xbc", d_xbc), ("w_dt", n_heads)])
}
