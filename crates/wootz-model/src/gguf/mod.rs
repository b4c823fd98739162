//! Models as GGUF files: which keys and tensor names say what `config.json` and Hugging Face's names say.
//!
//! Where:  read by [`Model::open`](crate::Model::open), written by [`convert`](crate::convert()).
//! Idea:   most architectures share keys and names; a family adds a row of what is its own.
//! Source: ggml's `docs/gguf.md`; llama.cpp's converter and loader for the conventions of each architecture.

mod families;
mod implied;
mod keys;
mod reading;
mod rope_keys;
mod tokenizer;

pub(crate) use families::GgufFamily;
pub(crate) use keys::{KeyWriter, Keys};
use rope_keys::write_rope;
pub(crate) use tokenizer::{template_of, vocab_of, write_tokenizer};

use wootz_graph::RopeStyle;
use wootz_weights::gguf::Value;

use crate::config::{AttentionConfig, Config, ExpertsConfig, Ffn, Mixer, Norm, Position, Residual, Router};
use crate::hf::Hf;
use crate::names::{Names, Part};
use crate::{Error, Result};

/// Names that nearly all architectures share.
pub(crate) const USUAL_NAMES: &[(&str, &str)] = &[
    ("embed", "token_embd.weight"),
    ("positions", "position_embd.weight"),
    ("token_types", "token_types.weight"),
    ("embed_norm", "token_embd_norm.weight"),
    ("embed_norm_b", "token_embd_norm.bias"),
    ("layers.{}.attn_norm", "blk.{}.attn_norm.weight"),
    ("layers.{}.attn_norm_b", "blk.{}.attn_norm.bias"),
    ("layers.{}.wq", "blk.{}.attn_q.weight"),
    ("layers.{}.wk", "blk.{}.attn_k.weight"),
    ("layers.{}.wv", "blk.{}.attn_v.weight"),
    ("layers.{}.wo", "blk.{}.attn_output.weight"),
    ("layers.{}.bq", "blk.{}.attn_q.bias"),
    ("layers.{}.bk", "blk.{}.attn_k.bias"),
    ("layers.{}.bv", "blk.{}.attn_v.bias"),
    ("layers.{}.bo", "blk.{}.attn_output.bias"),
    ("layers.{}.q_norm", "blk.{}.attn_q_norm.weight"),
    ("layers.{}.k_norm", "blk.{}.attn_k_norm.weight"),
    ("layers.{}.post_attn_norm", "blk.{}.post_attention_norm.weight"),
    ("layers.{}.ffn_norm", "blk.{}.ffn_norm.weight"),
    ("layers.{}.ffn_norm_b", "blk.{}.ffn_norm.bias"),
    ("layers.{}.post_ffn_norm", "blk.{}.post_ffw_norm.weight"),
    ("layers.{}.w_gate", "blk.{}.ffn_gate.weight"),
    ("layers.{}.w_up", "blk.{}.ffn_up.weight"),
    ("layers.{}.w_down", "blk.{}.ffn_down.weight"),
    ("layers.{}.b_gate", "blk.{}.ffn_gate.bias"),
    ("layers.{}.b_up", "blk.{}.ffn_up.bias"),
    ("layers.{}.b_down", "blk.{}.ffn_down.bias"),
    ("layers.{}.router", "blk.{}.ffn_gate_inp.weight"),
    ("layers.{}.router_b", "blk.{}.exp_probs_b.bias"),
    ("layers.{}.experts.w_gate", "blk.{}.ffn_gate_exps.weight"),
    ("layers.{}.experts.w_up", "blk.{}.ffn_up_exps.weight"),
    ("layers.{}.experts.w_down", "blk.{}.ffn_down_exps.weight"),
    ("layers.{}.w_shared_gate", "blk.{}.ffn_gate_shexp.weight"),
    ("layers.{}.w_shared_up", "blk.{}.ffn_up_shexp.weight"),
    ("layers.{}.w_shared_down", "blk.{}.ffn_down_shexp.weight"),
    ("final_norm", "output_norm.weight"),
    ("final_norm_b", "output_norm.bias"),
    ("head", "output.weight"),
    ("head_b", "output.bias"),
];

impl GgufFamily {
    /// The family of a file.
    pub(crate) fn of_keys(keys: &Keys) -> Result<&'static Self> {
        families::ALL.iter().find(|family| family.name == keys.arch()).ok_or_else(|| {
            Error::UnknownArchitecture {
                file: keys.file().to_owned(),
                name: keys.arch().to_owned(),
                known: families::ALL.iter().map(|family| family.name).collect::<Vec<_>>().join(", "),
            }
        })
    }

    /// The family that writes an architecture.
    pub(crate) fn of_arch(arch: &str) -> Result<&'static Self> {
        let found = families::ALL.iter().find(|family| family.archs.contains(&arch));
        found.ok_or_else(|| Error::NoGguf(format!("GGUF has no name for the architecture `{arch}`")))
    }

    /// Where a file of this family has, or will have, each weight of a model.
    ///
    /// ggml's Llama-like architectures rotate neighbours: what is in halves here stands in pairs there.
    pub(crate) fn names_of(&self, config: &Config) -> Names {
        let names = (self.names)(config);
        let Some((attention, RopeStyle::Halves, n_rot)) = rotation(config) else { return names };
        if self.style == RopeStyle::Halves {
            return names;
        }
        let q = Part::HalvesFromPairs { n_heads: attention.n_heads, n_rot };
        let k = Part::HalvesFromPairs { n_heads: attention.n_kv_heads, n_rot };
        [("wq", q), ("bq", q), ("wk", k), ("bk", k)]
            .into_iter()
            .fold(names, |names, (weight, part)| names.with_part(&format!("layers.{{}}.{weight}"), part))
    }

    /// The same for a file that is there and may keep q, k and v in one tensor or in three.
    pub(crate) fn names_in(&self, keys: &Keys, config: &Config) -> Names {
        let names = self.names_of(config);
        let is_fused =
            names.place("layers.0.wq").is_some_and(|place| place.file_name.ends_with("attn_qkv.weight"));
        match (is_fused, keys.has_tensor("blk.0.attn_qkv.weight"), keys.has_tensor("blk.0.attn_q.weight")) {
            (false, true, false) => {
                names.joined(families::fused_qkv(config), &["wq", "wk", "wv", "bq", "bk", "bv"])
            }
            (true, false, true) => {
                names.joined(Names::whole(USUAL_NAMES), &["wq", "wk", "wv", "bq", "bk", "bv"])
            }
            _ => names,
        }
    }

    /// All metadata of a model beside its tokenizer.
    ///
    /// # Errors
    /// [`Error::NoGguf`] for settings that GGUF cannot say.
    pub(crate) fn metadata(&self, config: &Config, hf: &Hf) -> Result<KeyWriter> {
        let mut out = KeyWriter::new(self.name);
        write_usual(config, &mut out);
        for (ours, theirs) in self.keys {
            if let Some(value) = hf.get(ours).and_then(keys::value_of_json)
                && !out.has(theirs)
            {
                out.value(theirs, value);
            }
        }
        write_rope(hf, config, &mut out)?;
        self.write_own(config, &mut out);
        Ok(out)
    }

    /// What one family alone wants to be told.
    fn write_own(&self, config: &Config, out: &mut KeyWriter) {
        let first = config.layers.first();
        match self.name {
            "gptneox" | "stablelm" if !out.has("use_parallel_residual") => {
                let parallel = [Residual::Parallel, Residual::ParallelTwoNorms];
                let is_parallel = first.is_some_and(|layer| parallel.contains(&layer.residual));
                out.value("use_parallel_residual", Value::Bool(is_parallel));
            }
            "bert" => {
                let n_types = config.embed.n_token_types.unwrap_or(0);
                out.general("tokenizer.ggml.token_type_count", Value::U32(n_types as u32));
            }
            "gemma3" | "modern-bert" => {
                // A window in all but every n-th layer; what comes first is the family's own.
                let is_full = |layer: &crate::config::LayerConfig| match &layer.mixer {
                    Mixer::Attention(attention) => attention.window.is_none(),
                    _ => true,
                };
                let full: Vec<usize> =
                    (0..config.layers.len()).filter(|&i| is_full(&config.layers[i])).collect();
                let step = match (self.name, &full[..]) {
                    ("gemma3", [first, ..]) => first + 1,
                    (_, [first, second, ..]) => second - first,
                    _ => config.layers.len().max(1),
                };
                out.size("attention.sliding_window_pattern", step);
            }
            _ => {}
        }
    }

    /// The hyper-parameters of a file, and its `config.json`: the one it was written from, as long as its metadata
    /// still says the same, else one made from the metadata.
    pub(crate) fn config(&self, keys: &Keys) -> Result<(Config, Hf)> {
        if let Some(text) = keys.gguf().find::<&str>("wootz.source.config.json")? {
            let hf = Hf::parse("wootz.source.config.json", text.as_bytes())?;
            let config = crate::arch::config_from_hf(&hf)?;
            let said = self.metadata(&config, &hf)?;
            if said.pairs.iter().all(|(key, value)| keys.gguf().get(key).as_ref() == Some(value)) {
                return Ok((self.in_style(config), hf));
            }
        }
        let hf = reading::to_hf(keys, self)?;
        let mut config = crate::arch::config_from_hf(&hf)?;
        keys.apply_rope_factors(&mut config)?;
        Ok((self.in_style(config), hf))
    }

    /// The config with this family's rotation.
    fn in_style(&self, mut config: Config) -> Config {
        for layer in &mut config.layers {
            if let Mixer::Attention(attention) = &mut layer.mixer
                && let Position::Rope(_, style) = &mut attention.position
            {
                *style = self.style;
            }
        }
        config
    }
}

/// The first rotating attention, its style, and the width that it rotates.
pub(crate) fn rotation(config: &Config) -> Option<(&AttentionConfig, RopeStyle, usize)> {
    config.layers.iter().find_map(|layer| match &layer.mixer {
        Mixer::Attention(attention) => match &attention.position {
            Position::Rope(table, style) => Some((attention, *style, 2 * table.inv_freq.len())),
            _ => None,
        },
        _ => None,
    })
}

/// The keys that most architectures have.
fn write_usual(config: &Config, out: &mut KeyWriter) {
    out.size("context_length", config.max_seq_len);
    out.size("embedding_length", config.d_model);
    out.size("block_count", config.layers.len());
    out.size("vocab_size", config.vocab_size);
    let Some(layer) = config.layers.first() else { return };
    match layer.norm {
        Norm::Rms { eps } | Norm::RmsRounded { eps } => {
            out.f32("attention.layer_norm_rms_epsilon", eps);
        }
        Norm::Layer { eps, .. } | Norm::LayerPlain { eps } => out.f32("attention.layer_norm_epsilon", eps),
    }
    let dense = config.layers.iter().find_map(|layer| match &layer.ffn {
        Ffn::Plain { d_ff, .. } | Ffn::Gated { d_ff, .. } => Some(*d_ff),
        _ => None,
    });
    let experts = config.layers.iter().find_map(|layer| match &layer.ffn {
        Ffn::Experts(experts) => Some(experts),
        _ => None,
    });
    out.size("feed_forward_length", dense.or(experts.map(|experts| experts.d_ff)).unwrap_or(0));
    if let Some(experts) = experts {
        write_experts(config, experts, out);
    }
    match &layer.mixer {
        Mixer::Attention(attention) => {
            out.size("attention.head_count", attention.n_heads);
            out.size("attention.head_count_kv", attention.n_kv_heads);
            out.size("attention.key_length", attention.head_dim);
            out.size("attention.value_length", attention.head_dim);
            if !attention.causal {
                out.value("attention.causal", Value::Bool(false));
            }
        }
        Mixer::Latent(latent) => {
            out.size("attention.head_count", latent.n_heads);
            out.size("attention.head_count_kv", 1);
            out.size("attention.key_length", latent.kv_rank + latent.d_rope);
            out.size("attention.value_length", latent.kv_rank);
            out.size("attention.key_length_mla", latent.d_nope + latent.d_rope);
            out.size("attention.value_length_mla", latent.d_v);
            out.size("attention.kv_lora_rank", latent.kv_rank);
            if let Some(rank) = latent.q_rank {
                out.size("attention.q_lora_rank", rank);
            }
            out.size("rope.dimension_count", latent.d_rope);
        }
        Mixer::Mamba(mamba) => {
            out.size("attention.head_count", 0);
            out.size("ssm.conv_kernel", mamba.d_conv);
            out.size("ssm.inner_size", mamba.d_inner);
            out.size("ssm.state_size", mamba.d_state);
            out.size("ssm.time_step_rank", mamba.dt_rank);
        }
        Mixer::Mamba2(mamba) => {
            out.size("attention.head_count", 0);
            out.size("ssm.conv_kernel", mamba.d_conv);
            out.size("ssm.inner_size", mamba.n_heads * mamba.head_dim);
            out.size("ssm.state_size", mamba.d_state);
            out.size("ssm.time_step_rank", mamba.n_heads);
            out.size("ssm.group_count", mamba.n_groups);
        }
    }
    if let Some((_, _, n_rot)) = rotation(config) {
        out.size("rope.dimension_count", n_rot);
    }
}

/// How many experts there are and how they are chosen.
fn write_experts(config: &Config, experts: &ExpertsConfig, out: &mut KeyWriter) {
    out.size("expert_count", experts.n_experts);
    out.size("expert_used_count", experts.n_used);
    out.size("expert_feed_forward_length", experts.d_ff);
    let (gating, groups) = match experts.router {
        Router::Softmax { groups } => (1, groups),
        Router::SigmoidBiased { groups } => (2, groups),
    };
    if out.arch() != "deepseek2" {
        return;
    }
    let is_dense = |layer: &&crate::config::LayerConfig| !matches!(layer.ffn, Ffn::Experts(_));
    out.size("leading_dense_block_count", config.layers.iter().take_while(is_dense).count());
    out.size("expert_gating_func", gating);
    out.size("expert_shared_count", experts.shared_d_ff.unwrap_or(0) / experts.d_ff.max(1));
    out.f32("expert_weights_scale", experts.scale);
    out.value("expert_weights_norm", Value::Bool(experts.normalize));
    if let Some(groups) = groups.filter(|groups| groups.n_groups > 1) {
        out.size("expert_group_count", groups.n_groups);
        out.size("expert_group_used_count", groups.n_kept);
    }
}
