//! DeepSeek-V2 and V3: attention over a latent, routed and shared experts. DeepSeek-AI 2024, arXiv:2405.04434 and
//! arXiv:2412.19437.

use std::sync::Arc;

use wootz_graph::{Groups, RopeStyle};

use super::{Architecture, USUAL_NAMES, Usual, activation, experts, gated_ffn};
use crate::config::{Config, ExpertsConfig, LatentConfig, LayerConfig, Mixer, Norm, Residual, Router};
use crate::hf::Hf;
use crate::names::{Names, Part};
use crate::{Result, rope};

pub(super) const DEEPSEEK_V2: Architecture =
    Architecture { name: "deepseek_v2", model_types: &["deepseek_v2"], from_hf: v2, hf_names };

pub(super) const DEEPSEEK_V3: Architecture =
    Architecture { name: "deepseek_v3", model_types: &["deepseek_v3"], from_hf: v3, hf_names };

/// What the two versions choose differently.
struct Choices {
    arch: &'static str,
    rope_style: RopeStyle,
    experts: ExpertsConfig,
}

const DEFAULTS_2: &str = r#"{"vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048, "bos_token_id": 1,
    "eos_token_id": 2, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "v_head_dim": 128, "n_routed_experts": 64, "n_shared_experts": 2, "moe_intermediate_size": 1407,
    "first_k_dense_replace": 0}"#;

const DEFAULTS_3: &str = r#"{"vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
    "num_hidden_layers": 61, "num_attention_heads": 128, "max_position_embeddings": 4096, "bos_token_id": 0,
    "eos_token_id": 1, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "v_head_dim": 128, "n_routed_experts": 256, "n_shared_experts": 1, "moe_intermediate_size": 2048,
    "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "first_k_dense_replace": 3}"#;

fn v2(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS_2);
    hf.require("scoring_func", "softmax")?;
    hf.require("mlp_bias", false)?;
    hf.require("norm_topk_prob", false)?; // transformers does not normalize, DeepSeek's own code does
    let groups = match hf.str("topk_method").unwrap_or("greedy") {
        "greedy" => None,
        "group_limited_greedy" => Some(groups(hf, 1)?),
        other => return Err(hf.error("topk_method", "`greedy` or `group_limited_greedy`", other)),
    };
    let experts = experts_of(hf, Router::Softmax { groups }, false, 1.0)?;
    Choices { arch: "deepseek_v2", rope_style: RopeStyle::Pairs, experts }.config(hf)
}

fn v3(hf: &Hf) -> Result<Config> {
    let hf = &hf.with_defaults(DEFAULTS_3);
    hf.require("scoring_func", "sigmoid")?;
    hf.require("topk_method", "noaux_tc")?;
    let router = Router::SigmoidBiased { groups: Some(groups(hf, 2)?) };
    let experts = experts_of(hf, router, hf.bool_or("norm_topk_prob", true)?, 2.5)?;
    let interleaved = hf.bool_or("rope_interleave", true)?;
    let rope_style = if interleaved { RopeStyle::Pairs } else { RopeStyle::Halves };
    Choices { arch: "deepseek_v3", rope_style, experts }.config(hf)
}

fn groups(hf: &Hf, n_summed: usize) -> Result<Groups> {
    Ok(Groups { n_groups: hf.positive("n_group")?, n_kept: hf.positive("topk_group")?, n_summed })
}

fn experts_of(hf: &Hf, router: Router, normalize: bool, default_scale: f32) -> Result<ExpertsConfig> {
    let d_ff = hf.positive("moe_intermediate_size")?;
    let shared_d_ff = d_ff * hf.usize("n_shared_experts")?;
    Ok(ExpertsConfig {
        n_experts: hf.usize("n_routed_experts")?,
        n_used: hf.positive("num_experts_per_tok")?,
        d_ff,
        activation: activation(hf, "hidden_act", "silu")?,
        router,
        normalize,
        scale: hf.f32_or("routed_scaling_factor", default_scale)?,
        shared_d_ff: (shared_d_ff > 0).then_some(shared_d_ff),
    })
}

impl Choices {
    fn config(self, hf: &Hf) -> Result<Config> {
        hf.require("moe_layer_freq", 1)?;
        let usual = Usual::read(hf)?;
        let norm = Norm::Rms { eps: hf.f32_or("rms_norm_eps", 1e-6)? };
        let mixer = Mixer::Latent(self.latent(hf, &usual)?);
        let dense = gated_ffn(hf, "hidden_act", "silu", false)?;
        let routed = experts::checked(hf, self.experts)?;
        let n_dense = hf.usize("first_k_dense_replace")?;
        let layer = |i: usize| {
            let ffn = if i < n_dense { dense.clone() } else { routed.clone() };
            LayerConfig { residual: Residual::Pre, norm, mixer: mixer.clone(), ffn, residual_scale: 1.0 }
        };
        let layers = (0..usual.n_layers).map(layer).collect();
        usual.decoder(self.arch, hf, false, norm, layers)
    }

    fn latent(&self, hf: &Hf, usual: &Usual) -> Result<LatentConfig> {
        hf.require("num_key_value_heads", usual.n_heads)?;
        let (d_nope, d_rope) = (hf.usize("qk_nope_head_dim")?, hf.usize("qk_rope_head_dim")?);
        if d_rope == 0 || !d_rope.is_multiple_of(2) {
            return Err(hf.error("qk_rope_head_dim", "an even width", &d_rope.to_string()));
        }
        let mut scale = 1.0 / ((d_nope + d_rope) as f64).sqrt();
        if let Some(p) = rope::parameters(hf)
            && let Some(all_dim) = p.find_f64("mscale_all_dim")?.filter(|&all_dim| all_dim != 0.0)
            && rope::kind(&p) != "default"
        {
            scale *= rope::yarn_mscale(p.f64("factor")?, all_dim).powi(2);
        }
        Ok(LatentConfig {
            n_heads: usual.n_heads,
            q_rank: hf.find_usize("q_lora_rank")?, // null says that queries are made directly
            kv_rank: hf.usize("kv_lora_rank")?,
            d_nope,
            d_rope,
            d_v: hf.usize("v_head_dim")?,
            rope: Arc::new(rope::from_hf(hf, d_rope)?),
            rope_style: self.rope_style,
            scale: scale as f32,
            bias: hf.bool_or("attention_bias", false)?,
            norm_eps: 1e-6, // COMPAT: the latents' norms have their own constant, whatever `rms_norm_eps` says
        })
    }
}

fn hf_names(config: &Config) -> Names {
    let attention = |name: &str| format!("model.layers.{{}}.self_attn.{name}");
    let mlp = |name: &str| format!("model.layers.{{}}.mlp.{name}");
    let mut names = Names::whole(USUAL_NAMES).or_renamed("model.", "").and(&[
        ("layers.{}.wq_a", &attention("q_a_proj.weight")),
        ("layers.{}.bq_a", &attention("q_a_proj.bias")),
        ("layers.{}.q_norm", &attention("q_a_layernorm.weight")),
        ("layers.{}.wkv_a", &attention("kv_a_proj_with_mqa.weight")),
        ("layers.{}.bkv_a", &attention("kv_a_proj_with_mqa.bias")),
        ("layers.{}.kv_norm", &attention("kv_a_layernorm.weight")),
        ("layers.{}.router_b", &mlp("gate.e_score_correction_bias")),
        ("layers.{}.w_shared_gate", &mlp("shared_experts.gate_proj.weight")),
        ("layers.{}.w_shared_up", &mlp("shared_experts.up_proj.weight")),
        ("layers.{}.w_shared_down", &mlp("shared_experts.down_proj.weight")),
    ]);
    if let Some(Mixer::Latent(latent)) = config.layers.first().map(|layer| &layer.mixer) {
        let &LatentConfig { n_heads: groups, d_nope, d_v, q_rank, .. } = latent;
        let kv_b = attention("kv_b_proj.weight");
        let (wk_b, wv_b) = ("layers.{}.wk_b", "layers.{}.wv_b");
        names = names.part(wk_b, &kv_b, Part::RowsTurned { groups, start: 0, len: d_nope });
        names = names.part(wv_b, &kv_b, Part::Rows { groups, start: d_nope, len: d_v });
        if q_rank.is_some() {
            names = names.and(&[("layers.{}.wq", &attention("q_b_proj.weight"))]);
        }
    }
    experts::named(names, "model.layers.{}.mlp", ["gate_proj", "up_proj", "down_proj"], config)
}
