//! `rope.*`: a rotation written as a GGUF says it.

use wootz_graph::{HostTensor, RopeTable};
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
    let parameters = rope::parameters(hf);
    let nested = parameters.as_ref().map(|p| p.find_f64("rope_theta")).transpose()?.flatten();
    let theta = match nested {
        Some(theta) => theta,
        None => hf.find_f64("rope_theta")?.unwrap_or(10_000.0),
    };
    out.f32("rope.freq_base", theta as f32);
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
            // What multiplies sine and cosine beyond YaRN's own temperature.
            let attention = f64::from(table.factor) / rope::yarn_mscale(factor, 1.0);
            if (attention - 1.0).abs() > 1e-6 {
                out.f32("rope.scaling.yarn_attn_factor", attention as f32);
            }
        }
        "llama3" => {
            let plain = RopeTable::plain(theta, 2 * table.inv_freq.len());
            write_factors("rope_freqs.weight", &plain.inv_freq, &table.inv_freq, out);
        }
        "longrope" | "su" => {
            let plain = RopeTable::plain(theta, 2 * table.inv_freq.len());
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

fn write_factors(name: &str, plain: &[f32], scaled: &[f32], out: &mut KeyWriter) {
    let factors: Vec<f32> = plain.iter().zip(scaled).map(|(plain, scaled)| plain / scaled).collect();
    let info = TensorInfo::new(name, vec![factors.len()], TensorType::F32);
    let bytes = cast::bytes_of(&factors).to_vec().into();
    out.tensors.push((info, HostTensor { ty: TensorType::F32, bytes }));
}
