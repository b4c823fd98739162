//! Exponential and logarithm that give the same bits on every platform.
//!
//! Where:  every sampler that needs probabilities.
//! Idea:   `f32::exp` is the platform's C library, so the same seed could give other tokens elsewhere. Here only
//!         additions, multiplications and bits are used: `e^x = 2^n · e^r` with `|r| ≤ ln 2 / 2` and Taylor's series for `e^r`.
//! Source: Cody & Waite 1980, "Software Manual for the Elementary Functions" (the split of ln 2 into two parts).

/// `e^x` for `x ≤ 88`, within 2 units in the last place; 0 below -87, where f32 would become subnormal.
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to a whole number
    const LN_2_HI: f32 = 0.693_359_4; // 9 bits, so that `n · LN_2_HI` is exact
    const LN_2_LO: f32 = -2.121_944_4e-4;
    let clamped = if x > -87.0 { x } else { -87.0 };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN_2_HI) - n * LN_2_LO;
    let series = 1.0 / 5040.0;
    let series = series * r + 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = series * r + 1.0;
    let series = series * r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()) << 23;
    let y = f32::from_bits(series.to_bits().wrapping_add(exponent));
    if x > -87.0 { y } else { 0.0 }
}

/// `ln x` for finite `x > 0` that is not subnormal.
pub(super) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0); // ln m = 2 artanh s, |s| < 0.172
    let (s_squared, mut term, mut series) = (s * s, s, 0.0);
    for odd in (1..=23).step_by(2) {
        series += term / f64::from(odd);
        term *= s_squared;
    }
    2.0 * series + exponent as f64 * std::f64::consts::LN_2
}

/// `x^y` for finite `x > 0`; infinite or 0 where the result is too large or too small.
pub(super) fn pow(x: f64, y: f64) -> f64 {
    exp_f64(y * ln(x))
}

fn exp_f64(x: f64) -> f64 {
    if x > 700.0 {
        return f64::INFINITY;
    }
    if x < -700.0 {
        return 0.0;
    }
    let n = (x * std::f64::consts::LOG2_E).round();
    let r = x - n * std::f64::consts::LN_2;
    let (mut term, mut series) = (1.0, 1.0);
    for k in 1..=16 {
        term *= r / f64::from(k);
        series += term;
    }
    series * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_library() {
        for i in 0..=200_000 {
            let x = -87.0 + i as f32 * (175.0 / 200_000.0);
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            // 2 units in the last place of f32.
            assert!(((got - want) / want).abs() < 2.4e-7 || x <= -87.0, "exp({x}): {got}, not {want}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!([exp(-88.0), exp(-1e30), exp(f32::NEG_INFINITY), exp(f32::MIN)], [0.0; 4]);
    }

    #[test]
    fn ln_and_pow_agree_with_the_library() {
        for x in [1e-300, 1e-9, 0.1, 0.5, 0.999, 1.0, 1.001, 2.0, 3.0, 1e6, 1e300] {
            let want = f64::ln(x);
            assert!((ln(x) - want).abs() <= 4e-16 * want.abs().max(1.0), "ln({x})");
            for y in [-2.5, -1.0, 0.0, 0.3, 1.0, 2.0] {
                let want = x.powf(y);
                let relative = (pow(x, y) - want) / want;
                assert!(relative.abs() < 1e-12 || !want.is_normal() || want > 1e303, "{x}^{y}");
            }
        }
        assert_eq!([pow(1e300, 2.0), pow(1e300, -2.0)], [f64::INFINITY, 0.0]);
    }
}
