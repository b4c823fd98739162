//! ModernBERT: rotation, gates, and windows in most layers. Warner et al. 2024, arXiv:2412.13663.

use std::sync::Arc;

use wootz_graph::RopeStyle;

use super::{Architecture, activation, encoder};
use crate::config::{
    AttentionConfig, ClassifierConfig, Config, EmbedConfig, Ffn, Head, LayerConfig, Mixer, Norm, Position,
    Residual,
};
use crate::hf::Hf;
use crate::names::{Names, Part};
use crate::{Result, rope};

pub(super) const MODERNBERT: Architecture =
    Architecture { name: "modernbert", model_types: &["modernbert"], from_hf, hf_names };

fn from_hf(hf: &Hf) -> Result<Config> {
    let usual = encoder::usual(hf)?;
    let norm = Norm::Layer { eps: hf.f32_or("norm_eps", 1e-5)?, bias: hf.bool_or("norm_bias", false)? };
    let bias = hf.bool_or("attention_bias", false)?;
    let attention = |kind, old_key, theta| -> Result<AttentionConfig> {
        Ok(encoder::attention(&usual, position(hf, usual.head_dim, kind, old_key, theta)?, bias))
    };
    let global = attention("full_attention", "global_rope_theta", 160_000.0)?;
    let mut local = attention("sliding_attention", "local_rope_theta", 10_000.0)?;
    local.window = Some(hf.usize_or("local_attention", 128)?);
    let ffn = Ffn::Gated {
        d_ff: hf.positive("intermediate_size")?,
        activation: activation(hf, "hidden_activation", "gelu")?,
        bias: hf.bool_or("mlp_bias", false)?,
        inner_norm: None,
    };
    let layer = |is_global: bool| LayerConfig {
        residual: Residual::PreSkippingFirst,
        norm,
        mixer: Mixer::Attention(if is_global { global.clone() } else { local.clone() }),
        ffn: ffn.clone(),
        residual_scale: 1.0,
    };
    Ok(Config {
        arch: "modernbert",
        vocab_size: hf.positive("vocab_size")?,
        d_model: usual.d_model,
        max_seq_len: hf.usize_or("max_position_embeddings", 8192)?,
        embed: EmbedConfig { norm: Some(norm), ..EmbedConfig::default() },
        layers: are_global(hf, usual.n_layers)?.into_iter().map(layer).collect(),
        final_norm: Some(norm),
        head: head(hf, norm)?,
        bos_token: hf.token_ids("bos_token_id").first().copied(),
        eos_tokens: hf.token_ids("eos_token_id"),
    })
}

/// Which layers see everything: those that `layer_types` names, or every n-th.
fn are_global(hf: &Hf, n_layers: usize) -> Result<Vec<bool>> {
    let Some(types) = hf.strings("layer_types") else {
        let step = hf.usize_or("global_attn_every_n_layers", 3)?;
        if step == 0 {
            return Err(hf.error("global_attn_every_n_layers", "at least 1", "0"));
        }
        return Ok((0..n_layers).map(|i| i.is_multiple_of(step)).collect());
    };
    if types.len() != n_layers {
        return Err(hf.error("layer_types", &format!("{n_layers} types"), &types.len().to_string()));
    }
    let is_global = |kind: &&str| match *kind {
        "full_attention" => Ok(true),
        "sliding_attention" => Ok(false),
        other => Err(hf.error("layer_types", "`full_attention` or `sliding_attention`", other)),
    };
    types.iter().map(is_global).collect()
}

/// The rotation of one kind of layers, in transformers 5's spelling or the one before.
fn position(hf: &Hf, head_dim: usize, kind: &str, old_key: &str, theta: f64) -> Result<Position> {
    let theta = hf.find_f64(old_key)?.unwrap_or(theta);
    let by_kind = hf.object("rope_parameters").and_then(|all| all.object(kind));
    let parameters = by_kind.or_else(|| hf.object("rope_scaling"));
    let table = rope::from_parameters(hf, parameters.as_ref(), head_dim, theta)?;
    Ok(Position::Rope(Arc::new(table), RopeStyle::Halves))
}

fn head(hf: &Hf, norm: Norm) -> Result<Head> {
    let Some(n_labels) = encoder::n_labels(hf)? else { return Ok(Head::None) };
    let mean = match hf.str("classifier_pooling").unwrap_or("cls") {
        "cls" => false,
        "mean" => true,
        other => return Err(hf.error("classifier_pooling", "`cls` or `mean`", other)),
    };
    let activation = activation(hf, "classifier_activation", "gelu")?;
    let dense_bias = hf.bool_or("classifier_bias", false)?;
    Ok(Head::Classifier(ClassifierConfig { n_labels, activation, dense_bias, norm: Some(norm), mean }))
}

fn hf_names(config: &Config) -> Names {
    let c = config.d_model;
    let mut names = Names::whole(&[
        ("embed", "embeddings.tok_embeddings.weight"),
        ("embed_norm", "embeddings.norm.weight"),
        ("embed_norm_b", "embeddings.norm.bias"),
        ("layers.{}.attn_norm", "layers.{}.attn_norm.weight"),
        ("layers.{}.attn_norm_b", "layers.{}.attn_norm.bias"),
        ("layers.{}.wo", "layers.{}.attn.Wo.weight"),
        ("layers.{}.bo", "layers.{}.attn.Wo.bias"),
        ("layers.{}.ffn_norm", "layers.{}.mlp_norm.weight"),
        ("layers.{}.ffn_norm_b", "layers.{}.mlp_norm.bias"),
        ("layers.{}.w_down", "layers.{}.mlp.Wo.weight"),
        ("layers.{}.b_down", "layers.{}.mlp.Wo.bias"),
        ("final_norm", "final_norm.weight"),
        ("final_norm_b", "final_norm.bias"),
        ("classifier.dense", "head.dense.weight"),
        ("classifier.dense_b", "head.dense.bias"),
        ("classifier.norm", "head.norm.weight"),
        ("classifier.norm_b", "head.norm.bias"),
        ("classifier.out", "classifier.weight"),
        ("classifier.out_b", "classifier.bias"),
    ])
    .under(&["", "model."]);
    for (i, name) in ["q", "k", "v"].into_iter().enumerate() {
        let third = Part::Rows { groups: 1, start: i * c, len: c };
        names = names.part(&format!("layers.{{}}.w{name}"), "layers.{}.attn.Wqkv.weight", third).part(
            &format!("layers.{{}}.b{name}"),
            "layers.{}.attn.Wqkv.bias",
            third,
        );
    }
    let d_ff = config.layers.first().map_or(0, |layer| match layer.ffn {
        Ffn::Gated { d_ff, .. } => d_ff,
        _ => 0,
    });
    for (name, start) in [("gate", 0), ("up", d_ff)] {
        let half = Part::Rows { groups: 1, start, len: d_ff };
        names = names.part(&format!("layers.{{}}.w_{name}"), "layers.{}.mlp.Wi.weight", half).part(
            &format!("layers.{{}}.b_{name}"),
            "layers.{}.mlp.Wi.bias",
            half,
        );
    }
    names
}
