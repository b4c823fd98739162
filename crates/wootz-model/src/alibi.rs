//! Slopes of ALiBi, the linear penalty on distance.
//!
//! Where:  called by the architectures; the slopes go into [`Position::Alibi`](crate::config::Position).
//! Source: Press et al. 2022, arXiv:2108.12409, §3; heads that are not a power of two: the authors' code.

/// One slope for each head: `2^(−8i/n)` for the largest power of two `n`, then every other slope of `2n`.
pub(crate) fn slopes(n_heads: usize) -> Vec<f32> {
    let n = 1 << n_heads.max(1).ilog2();
    let slope = |i: usize, n: usize| 2f64.powf(-8.0 * i as f64 / n as f64) as f32;
    let first = (1..=n).map(|i| slope(i, n));
    first.chain((1..).step_by(2).map(|i| slope(i, 2 * n))).take(n_heads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_heads_have_those_of_eight_and_every_other_of_sixteen() {
        let expected: Vec<f32> = [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0, -0.5, -1.5, -2.5, -3.5]
            .iter()
            .map(|x| 2f32.powf(*x))
            .collect();
        assert_eq!(slopes(12), expected);
        assert_eq!(slopes(4), [0.25, 0.0625, 0.015625, 0.00390625]);
    }
}
