//! Rotary frequencies as configurations describe them: plain, linear, dynamic, llama3, YaRN, longrope.
//!
//! Where:  called by the architectures; the tables go into [`Position::Rope`](crate::config::Position).
//! Source: YaRN: Peng et al. 2023, arXiv:2309.00071, §3; llama3: Meta's reference code; longrope: Ding et al.
//!         2024, arXiv:2402.13753; names of the keys: transformers.

use std::f64::consts::PI;

use wootz_graph::{RopeScale, RopeTable};

use crate::Result;
use crate::hf::Hf;

/// The frequencies for a rotated width of `n_rot`, from `rope_parameters` (transformers 5) or `rope_theta` and
/// `rope_scaling` (before).
pub(crate) fn from_hf(hf: &Hf, n_rot: usize) -> Result<RopeTable> {
    let theta = hf.find_f64("rope_theta")?.unwrap_or(10_000.0);
    from_parameters(hf, parameters(hf).as_ref(), n_rot, theta)
}

/// The parameters of all layers alike.
pub(crate) fn parameters(hf: &Hf) -> Option<Hf> {
    hf.object("rope_scaling").or_else(|| hf.object("rope_parameters"))
}

/// The kind of scaling that parameters name.
pub(crate) fn kind(parameters: &Hf) -> &str {
    parameters.str("rope_type").or_else(|| parameters.str("type")).unwrap_or("default")
}

/// The rotated share of a head: `partial_rotary_factor` at either level, or under an older key.
pub(crate) fn rotated_width(hf: &Hf, head_dim: usize, old_key: &str, default: f64) -> Result<usize> {
    let nested = parameters(hf);
    let nested = nested.as_ref().map(|p| p.find_f64("partial_rotary_factor")).transpose()?.flatten();
    let outer = match hf.find_f64("partial_rotary_factor")? {
        Some(factor) => Some(factor),
        None => hf.find_f64(old_key)?,
    };
    let factor = nested.or(outer).unwrap_or(default);
    if !(0.0..=1.0).contains(&factor) {
        return Err(hf.error("partial_rotary_factor", "a share from 0 to 1", &factor.to_string()));
    }
    Ok((head_dim as f64 * factor) as usize / 2 * 2)
}

/// The frequencies that one set of parameters describes; `theta` is the base where it names none.
pub(crate) fn from_parameters(
    hf: &Hf,
    parameters: Option<&Hf>,
    n_rot: usize,
    theta: f64,
) -> Result<RopeTable> {
    let nested_theta = parameters.map(|p| p.find_f64("rope_theta")).transpose()?.flatten();
    let theta = nested_theta.unwrap_or(theta);
    if theta <= 0.0 {
        return Err(hf.error("rope_theta", "a positive number", &theta.to_string()));
    }
    if n_rot > 1 << 16 {
        return Err(hf.error("head_dim", "at most 65,536 rotated numbers", &n_rot.to_string()));
    }
    let mut table = RopeTable::plain(theta, n_rot);
    let Some(p) = parameters else { return Ok(table) };
    if let Some((layers, _)) = p.map().iter().find(|(_, value)| value.is_object()) {
        return Err(p.error(layers, "one set of parameters for all layers", "a set of its own"));
    }
    let max_len = || hf.positive("max_position_embeddings");
    // COMPAT: where both levels name it, transformers takes the outer one.
    let original_len = || match hf.find_usize("original_max_position_embeddings")? {
        Some(len) if len > 0 => Ok(len),
        _ => match p.find_usize("original_max_position_embeddings")? {
            Some(len) if len > 0 => Ok(len),
            _ => max_len(),
        },
    };
    match kind(p) {
        "default" => {}
        "linear" => {
            let factor = p.f64("factor")?;
            table.inv_freq.iter_mut().for_each(|freq| *freq = (f64::from(*freq) / factor) as f32);
        }
        "dynamic" => {
            table.scale = RopeScale::Dynamic { theta, factor: p.f64("factor")?, beyond: max_len()? };
        }
        "llama3" => {
            let llama3 = Llama3 {
                factor: p.f64("factor")?,
                low: p.f64("low_freq_factor")?,
                high: p.f64("high_freq_factor")?,
                original_len: original_len()? as f64,
            };
            table.inv_freq.iter_mut().for_each(|freq| *freq = llama3.scale(f64::from(*freq)) as f32);
        }
        "yarn" => {
            let original_len = original_len()? as f64;
            let factor = match p.find_f64("factor")? {
                Some(factor) => factor,
                None => max_len()? as f64 / original_len,
            };
            let yarn = Yarn {
                theta,
                factor,
                original_len,
                beta_fast: p.find_f64("beta_fast")?.unwrap_or(32.0),
                beta_slow: p.find_f64("beta_slow")?.unwrap_or(1.0),
                truncate: p.bool_or("truncate", true)?,
            };
            yarn.apply(&mut table.inv_freq);
            let attention_factor = p.find_f64("attention_factor")?;
            let mscale = (p.find_f64("mscale")?, p.find_f64("mscale_all_dim")?);
            table.factor = attention_factor.unwrap_or_else(|| match mscale {
                (Some(m), Some(all)) if m != 0.0 && all != 0.0 => {
                    yarn_mscale(factor, m) / yarn_mscale(factor, all)
                }
                _ => yarn_mscale(factor, 1.0),
            }) as f32;
        }
        "longrope" | "su" => {
            let original = original_len()?;
            let factors = |key: &str| -> Result<Vec<f64>> {
                let factors = p.numbers(key)?.unwrap_or_default();
                if factors.len() != n_rot / 2 {
                    let expected = format!("{} numbers", n_rot / 2);
                    return Err(p.error(key, &expected, &factors.len().to_string()));
                }
                Ok(factors)
            };
            let scaled = |factors: Vec<f64>| {
                let pairs = table.inv_freq.iter().zip(factors);
                pairs.map(|(freq, factor)| (f64::from(*freq) / factor) as f32).collect()
            };
            let (short, long) = (scaled(factors("short_factor")?), scaled(factors("long_factor")?));
            let factor = match p.find_f64("factor")? {
                Some(factor) => factor,
                None => max_len()? as f64 / original as f64,
            };
            let derived =
                if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
            table = RopeTable {
                inv_freq: short,
                scale: RopeScale::Long { beyond: original, inv_freq: long },
                factor: p.find_f64("attention_factor")?.unwrap_or(derived) as f32,
            };
        }
        other => {
            let known = "default, linear, dynamic, llama3, yarn or longrope";
            return Err(p.error("rope_type", known, other));
        }
    }
    Ok(table)
}

/// YaRN's temperature: `0.1·m·ln(factor) + 1`.
pub(crate) fn yarn_mscale(factor: f64, m: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 }
}

/// Meta's scaling: long waves are stretched, short ones kept, those between blended.
pub(crate) struct Llama3 {
    pub factor: f64,
    pub low: f64,
    pub high: f64,
    pub original_len: f64,
}

impl Llama3 {
    pub(crate) fn scale(&self, freq: f64) -> f64 {
        let wavelen = 2.0 * PI / freq;
        if wavelen > self.original_len / self.low {
            freq / self.factor
        } else if wavelen < self.original_len / self.high {
            freq
        } else {
            let smooth = (self.original_len / wavelen - self.low) / (self.high - self.low);
            (1.0 - smooth) * freq / self.factor + smooth * freq
        }
    }
}

/// YaRN's frequencies: interpolated where a wave turns seldom within the original context, kept where often.
pub(crate) struct Yarn {
    pub theta: f64,
    pub factor: f64,
    pub original_len: f64,
    pub beta_fast: f64,
    pub beta_slow: f64,
    pub truncate: bool,
}

impl Yarn {
    pub(crate) fn apply(&self, inv_freq: &mut [f32]) {
        let n_rot = 2.0 * inv_freq.len() as f64;
        let correction =
            |turns: f64| n_rot * (self.original_len / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln());
        let (mut low, mut high) = (correction(self.beta_fast), correction(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(n_rot - 1.0));
        if low == high {
            high += 0.001;
        }
        for (i, freq) in inv_freq.iter_mut().enumerate() {
            let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            let kept = f64::from(*freq);
            *freq = (kept / self.factor * ramp + kept * (1.0 - ramp)) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_scaling_names_key_and_file() {
        let hf = Hf::parse("config.json", br#"{"rope_scaling":{"rope_type":"spiral"}}"#).unwrap();
        let error = from_hf(&hf, 8).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains("spiral"), "{error}");
    }

    #[test]
    fn parameters_by_layer_type_are_refused_where_all_layers_turn_alike() {
        let text = br#"{"rope_parameters":{"full_attention":{"rope_theta":1e6}}}"#;
        let error = from_hf(&Hf::parse("config.json", text).unwrap(), 8).unwrap_err().to_string();
        assert!(error.contains("full_attention"), "{error}");
    }

    #[test]
    fn linear_scaling_divides_every_frequency() {
        let hf = Hf::parse("config.json", br#"{"rope_scaling":{"type":"linear","factor":4.0}}"#).unwrap();
        let (scaled, plain) = (from_hf(&hf, 8).unwrap(), RopeTable::plain(10_000.0, 8));
        for (a, b) in scaled.inv_freq.iter().zip(&plain.inv_freq) {
            assert!((a * 4.0 - b).abs() < 1e-7);
        }
    }
}
