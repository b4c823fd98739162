//! Numbers that look like chance and depend on a seed and a place alone.
//!
//! Source: Steele, Lea, Flood 2014, SplitMix64; normal numbers by Box and Muller 1958.

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// In 0..1, 24 bits.
pub(crate) fn uniform(seed: u64, at: u64) -> f32 {
    (mix(seed ^ mix(at)) >> 40) as f32 / (1_u32 << 24) as f32
}

/// Mean 0, variance 1.
pub(crate) fn normal(seed: u64, at: u64) -> f32 {
    let (a, b) = (uniform(seed, 2 * at), uniform(seed, 2 * at + 1));
    let radius = (-2.0 * f64::from(1.0 - a).ln()).sqrt();
    (radius * (2.0 * std::f64::consts::PI * f64::from(b)).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        let numbers: Vec<f64> = (0..20_000).map(|at| f64::from(normal(3, at))).collect();
        let mean = numbers.iter().sum::<f64>() / 2e4;
        let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2e4;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
    }
}
