//! `rope.*`: a rotation written as a GGUF says it.

use wootz_graph::{HostTensor, RopeStyle, RopeTable};
use wootz_kernels::{TensorType, cast};
use wootz_weights::TensorInfo;
use wootz_weights::gguf::Value;

use super::KeyWriter;
use crate::config::{Config, Mixer, Position};
use crate::hf::Hf;
use crate::{Error, Result, rope};

/// Base, scaling and factors of the first rotating layer.
///
/// # Errors
/// [`Error::NoGguf`] for scalings that GGUF cannot say (dynamic NTK).
pub(crate) fn write_rope(hf: &Hf, config: &Config, out: &mut KeyWriter) -> Result<()> {
    let rotation = config.layers.iter().find_map(|layer| match &layer.mixer {
        Mixer::Attention(attention) => match &attention.position {
            Position::Rope(table, _) => Some(table.clone()),
            _ => None,
        },
        Mixer::Latent(latent) => Some(latent.rope.clone()),
        _ => None,
    });
    let Some(table) = rotation else { return Ok(()) };
    let turns_halves =
        |mixer: &Mixer| matches!(mixer, Mixer::Latent(latent) if latent.rope_style == RopeStyle::Halves);
    if config.layers.iter().any(|layer| turns_halves(&layer.mixer)) {
        return Err(Error::NoGguf("GGUF cannot say a latent attention that rotates halves".to_owned()));
    }
    // By layer type in transformers 5, where layers turn differently.
    let by_type = |layer_type: &str| hf.object("rope_parameters").and_then(|all| all.object(layer_type));
    let parameters = match by_type("full_attention") {
        Some(full) => Some(full),
        None => rope::parameters(hf),
    };
    let theta = match parameters.as_ref().map(|p| p.find_f64("rope_theta")).transpose()?.flatten() {
        Some(theta) => theta,
        None => match hf.find_f64("rope_theta")? {
            Some(theta) => theta,
            None => base_of(&table).unwrap_or(10_000.0),
        },
    };
    out.f32("rope.freq_base", theta as f32);
    if let Some(local) = windowed(config).filter(|local| local.inv_freq != table.inv_freq) {
        let theta = by_type("sliding_attention").map(|p| p.find_f64("rope_theta")).transpose()?.flatten();
        out.f32("rope.freq_base_swa", theta.or_else(|| base_of(local)).unwrap_or(10_000.0) as f32);
    }
    let Some(p) = parameters else { return Ok(()) };
    let original = p.find_usize("original_max_position_embeddings")?;
    let original = original.or(hf.find_usize("original_max_position_embeddings")?);
    match rope::kind(&p) {
        "default" => {}
        "linear" => {
            out.value("rope.scaling.type", Value::from("linear"));
            out.f32("rope.scaling.factor", p.f64("factor")? as f32);
        }
        "yarn" => {
            out.value("rope.scaling.type", Value::from("yarn"));
            let factor = match p.find_f64("factor")? {
                Some(factor) => factor,
                None => config.max_seq_len as f64 / original.unwrap_or(config.max_seq_len) as f64,
            };
            out.f32("rope.scaling.factor", factor as f32);
            out.size("rope.scaling.original_context_length", original.unwrap_or(config.max_seq_len));
            for (key, ours) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
                if let Some(beta) = p.find_f64(key)? {
                    out.f32(&format!("rope.scaling.{ours}"), beta as f32);
                }
            }
            // What multiplies sine and cosine beyond YaRN's own temperature; DeepSeek says it by another key.
            let all_dim = p.find_f64("mscale_all_dim")?.filter(|&all_dim| all_dim != 0.0);
            let attention = f64::from(table.factor) / rope::yarn_mscale(factor, 1.0);
            match all_dim {
                Some(all_dim) => out.f32("rope.scaling.yarn_log_multiplier", 0.1 * all_dim as f32),
                None if (attention - 1.0).abs() > 1e-6 => {
                    out.f32("rope.scaling.attn_factor", attention as f32)
                }
                None => {}
            }
        }
        "llama3" => {
            let plain = RopeTable::plain(theta, 2 * table.inv_freq.len());
            write_factors("rope_freqs.weight", &plain.inv_freq, &table.inv_freq, out);
        }
        "longrope" | "su" => {
            let plain = RopeTable::plain(theta, 2 * table.inv_freq.len());
            out.value("rope.scaling.type", Value::from("longrope"));
            out.size("rope.scaling.original_context_length", original.unwrap_or(config.max_seq_len));
            out.f32("rope.scaling.attn_factor", table.factor);
            write_factors("rope_factors_short.weight", &plain.inv_freq, &table.inv_freq, out);
            if let wootz_graph::RopeScale::Long { inv_freq, .. } = &table.scale {
                write_factors("rope_factors_long.weight", &plain.inv_freq, inv_freq, out);
            }
        }
        other => return Err(Error::NoGguf(format!("GGUF cannot say the rotary scaling `{other}`"))),
    }
    Ok(())
}

/// The rotation of the first layer with a window.
fn windowed(config: &Config) -> Option<&RopeTable> {
    config.layers.iter().find_map(|layer| match &layer.mixer {
        Mixer::Attention(attention) if attention.window.is_some() => match &attention.position {
            Position::Rope(table, _) => Some(table.as_ref()),
            _ => None,
        },
        _ => None,
    })
}

/// The base of plain frequencies, for configurations that leave it to their architecture; six digits of it.
fn base_of(table: &RopeTable) -> Option<f64> {
    let n_rot = 2.0 * table.inv_freq.len() as f64;
    let last = f64::from(*table.inv_freq.last()?);
    let base = last.powf(-n_rot / (n_rot - 2.0));
    format!("{base:.5e}").parse().ok().filter(|base: &f64| base.is_finite())
}

fn write_factors(name: &str, plain: &[f32], scaled: &[f32], out: &mut KeyWriter) {
    let factors: Vec<f32> = plain.iter().zip(scaled).map(|(plain, scaled)| plain / scaled).collect();
    let info = TensorInfo::new(name, vec![factors.len()], TensorType::F32);
    let bytes = cast::bytes_of(&factors).to_vec().into();
    out.tensors.push((info, HostTensor { ty: TensorType::F32, bytes }));
}
