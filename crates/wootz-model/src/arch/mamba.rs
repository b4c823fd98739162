//! Mamba and Mamba-2: recurrences without attention. Gu & Dao 2023, arXiv:2312.00752; Dao & Gu 2024, arXiv:2405.21060.

use super::{Architecture, Usual};
use crate::Result;
use crate::config::{Config, Ffn, LayerConfig, Mamba2Config, MambaConfig, Mixer, Norm, Residual};
use crate::hf::Hf;
use crate::names::{Names, Part};

pub(super) const MAMBA: Architecture =
    Architecture { name: "mamba", model_types: &["mamba"], from_hf: mamba, hf_names };

pub(super) const MAMBA2: Architecture =
    Architecture { name: "mamba2", model_types: &["mamba2"], from_hf: mamba2, hf_names };

/// A recurrence has no longest sequence; this is what is planned for at most.
const MAX_SEQ_LEN: usize = 1 << 20;

fn mamba(hf: &Hf) -> Result<Config> {
    let d_model = hf.positive("hidden_size")?;
    let dt_rank = match hf.str("time_step_rank") {
        Some("auto") => d_model.div_ceil(16),
        _ => hf.usize_or("time_step_rank", d_model.div_ceil(16))?,
    };
    let mixer = MambaConfig {
        d_inner: d_model * hf.usize_or("expand", 2)?,
        d_state: hf.usize_or("state_size", 16)?,
        d_conv: d_conv(hf)?,
        dt_rank,
        conv_bias: hf.bool_or("use_conv_bias", true)?,
        proj_bias: hf.bool_or("use_bias", false)?,
    };
    decoder(hf, "mamba", true, Mixer::Mamba(mixer))
}

fn mamba2(hf: &Hf) -> Result<Config> {
    let d_inner = hf.positive("hidden_size")? * hf.usize_or("expand", 2)?;
    let mixer = Mamba2Config {
        n_heads: hf.usize_or("num_heads", 128)?,
        head_dim: hf.usize_or("head_dim", 64)?,
        n_groups: hf.usize_or("n_groups", 8)?,
        d_state: hf.usize_or("state_size", 128)?,
        d_conv: d_conv(hf)?,
        conv_bias: hf.bool_or("use_conv_bias", true)?,
        proj_bias: hf.bool_or("use_bias", false)?,
        norm_eps: hf.f32_or("layer_norm_epsilon", 1e-5)?,
    };
    let Mamba2Config { n_heads, head_dim, n_groups, .. } = mixer;
    if n_heads == 0 || n_heads.checked_mul(head_dim) != Some(d_inner) {
        let expected = format!("heads of `head_dim` {head_dim} for {d_inner} channels");
        return Err(hf.error("num_heads", &expected, &n_heads.to_string()));
    }
    if n_groups == 0 || !n_heads.is_multiple_of(n_groups) {
        let expected = format!("a divisor of {n_heads} heads");
        return Err(hf.error("n_groups", &expected, &n_groups.to_string()));
    }
    if let Some(limit) = hf.get("time_step_limit").filter(|limit| !is_unlimited(limit)) {
        return Err(hf.error("time_step_limit", "0 to infinity", &limit.to_string()));
    }
    decoder(hf, "mamba2", false, Mixer::Mamba2(mixer))
}

/// Whether `[0, ∞]` stands there, however it is spelled: `Infinity` is no number in JSON.
fn is_unlimited(limit: &serde_json::Value) -> bool {
    let is_infinity = |end: &serde_json::Value| {
        end.as_str() == Some("Infinity") || end.get("__float__").is_some_and(|end| end == "Infinity")
    };
    matches!(limit.as_array().map(Vec::as_slice), Some([start, end])
        if start.as_f64() == Some(0.0) && is_infinity(end))
}

fn d_conv(hf: &Hf) -> Result<usize> {
    match hf.usize_or("conv_kernel", 4)? {
        0 => Err(hf.error("conv_kernel", "a size of at least 1", "0")),
        size => Ok(size),
    }
}

fn decoder(hf: &Hf, arch: &'static str, tied: bool, mixer: Mixer) -> Result<Config> {
    hf.require("hidden_act", "silu")?;
    let d_model = hf.positive("hidden_size")?;
    let norm = Norm::Rms { eps: hf.f32_or("layer_norm_epsilon", 1e-5)? };
    let layer = LayerConfig { residual: Residual::Pre, norm, mixer, ffn: Ffn::None, residual_scale: 1.0 };
    let n_layers = hf.usize("num_hidden_layers")?;
    let usual = Usual { d_model, n_layers, n_heads: 1, n_kv_heads: 1, head_dim: 1, max_seq_len: MAX_SEQ_LEN };
    usual.check(hf)?;
    usual.decoder(arch, hf, tied, norm, vec![layer; n_layers])
}

fn hf_names(config: &Config) -> Names {
    let mixer = |name: &str| format!("backbone.layers.{{}}.mixer.{name}");
    let names = Names::whole(&[
        ("embed", "backbone.embeddings.weight"),
        ("layers.{}.attn_norm", "backbone.layers.{}.norm.weight"),
        ("layers.{}.conv", &mixer("conv1d.weight")),
        ("layers.{}.conv_b", &mixer("conv1d.bias")),
        ("layers.{}.w_dt", &mixer("dt_proj.weight")),
        ("layers.{}.b_dt", &mixer("dt_bias")),
        ("layers.{}.scan_norm", &mixer("norm.weight")),
        ("layers.{}.d", &mixer("D")),
        ("layers.{}.wo", &mixer("out_proj.weight")),
        ("layers.{}.bo", &mixer("out_proj.bias")),
        ("final_norm", "backbone.norm_f.weight"),
        ("head", "lm_head.weight"),
    ])
    .or("embed", "backbone.embedding.weight", Part::Whole)
    .or("layers.{}.b_dt", &mixer("dt_proj.bias"), Part::Whole)
    .part("layers.{}.a", &mixer("A_log"), Part::NegExp);
    // Fused projections, cut into rows: what of which tensor becomes which weights.
    let cut = |names: Names, file: &str, parts: &[(&str, usize)]| {
        let mut start = 0;
        parts.iter().fold(names, |names, &(name, len)| {
            let part = Part::Rows { groups: 1, start, len };
            start += len;
            names.part(&format!("layers.{{}}.{name}"), &mixer(file), part)
        })
    };
    match config.layers.first().map(|layer| &layer.mixer) {
        Some(&Mixer::Mamba(MambaConfig { d_inner, d_state, dt_rank, .. })) => {
            let names = cut(names, "in_proj.weight", &[("w_x", d_inner), ("w_z", d_inner)]);
            let names = cut(names, "in_proj.bias", &[("b_x", d_inner), ("b_z", d_inner)]);
            cut(names, "x_proj.weight", &[("w_dt_rank", dt_rank), ("w_b", d_state), ("w_c", d_state)])
        }
        Some(&Mixer::Mamba2(Mamba2Config { n_heads, head_dim, n_groups, d_state, .. })) => {
            let d_inner = n_heads * head_dim;
            let d_xbc = d_inner + 2 * n_groups * d_state;
            let names =
                cut(names, "in_proj.weight", &[("w_z", d_inner), ("w_xbc", d_xbc), ("w_dt", n_heads)]);
            cut(names, "in_proj.bias", &[("b_z", d_inner), ("b_xbc", d_xbc), ("b_dt_in", n_heads)])
        }
        _ => names,
    }
}
