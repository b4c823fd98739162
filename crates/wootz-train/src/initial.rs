//! What the weights of a new model are before the first step.
//!
//! Where:  pretraining from scratch.
//! Idea:   a number depends on seed, weight and place alone.
//! Source: normal with a deviation of 0.02, layers that write to the residual stream divided by √(2·layers): Radford et al.
//!         2019 (GPT-2), §2.3. Recurrences as their authors: Gu & Dao 2023, arXiv:2312.00752, §3.6.

use wootz_graph::{ParamKind, ParamSpec};

use crate::rng::{normal, uniform};

/// Draws the numbers of new weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Initial {
    /// Standard deviation of matrices and tables
    pub deviation: f64,
    /// Layers of the model
    pub n_layers: usize,
    /// Another model for each
    pub seed: u64,
}

impl Initial {
    /// The numbers of one weight.
    pub fn numbers(&self, spec: &ParamSpec) -> Vec<f32> {
        let n = spec.n_elements() as u64;
        let seed = spec.name.bytes().fold(self.seed, |seed, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7)
        });
        let last = spec.name.rsplit('.').next().unwrap_or_default();
        let width = spec.shape.last().copied().unwrap_or(1).max(1) as u64;
        if spec.kind == ParamKind::Vector {
            return match last {
                "conv" => {
                    let bound = 1.0 / (width as f32).sqrt();
                    (0..n).map(|i| bound * (2.0 * uniform(seed, i) - 1.0)).collect()
                }
                // −1, −2, …, −N: S4D-real.
                "a" if spec.shape.len() == 2 => (0..n).map(|i| -((i % width + 1) as f32)).collect(),
                "a" => (0..n).map(|i| -(1.0 + 15.0 * uniform(seed, i))).collect(),
                // Steps between 0.001 and 0.1 behind a softplus.
                "b_dt" => (0..n).map(|i| inverse_softplus(log_uniform(seed, i))).collect(),
                name if name.contains("norm") && !name.ends_with("_b") => vec![1.0; n as usize],
                "d" => vec![1.0; n as usize],
                _ => vec![0.0; n as usize],
            };
        }
        let writes = matches!(last, "wo" | "w_down" | "out_proj" | "out");
        let by = if writes { (2.0 * self.n_layers.max(1) as f64).sqrt() } else { 1.0 };
        let deviation = (self.deviation / by) as f32;
        (0..n).map(|i| deviation * normal(seed, i)).collect()
    }
}

fn log_uniform(seed: u64, at: u64) -> f64 {
    (0.001_f64.ln() + f64::from(uniform(seed, at)) * (0.1_f64 / 0.001).ln()).exp()
}

fn inverse_softplus(y: f64) -> f32 {
    (y + (-(-y).exp_m1()).ln()) as f32
}
