//! Temperature, fixed or following the distribution's entropy.
//!
//! Where:  [`Sampling::temperature`](wootz_text::Sampling::temperature) and
//!         [`Sampling::dynamic_temperature`](wootz_text::Sampling::dynamic_temperature).
//! Idea:   logits are divided by the temperature; at 0 the likeliest token alone remains. The dynamic one is low where the
//!         model is sure and high where it is not.
//! Source: Ackley et al. 1985 (fixed); llama.cpp's `dynatemp`, after kalomaze 2023 (dynamic).

use wootz_text::DynamicTemperature;

use super::candidates::Candidates;
use super::exp::{ln, pow};
use super::rng::Rng;
use super::step::Step;

/// The temperature, 0 or above.
#[derive(Clone)]
pub(super) struct TemperatureScale(pub(super) f32);

impl Step for TemperatureScale {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        scale(candidates, self.0);
    }
}

/// `low + (high - low) · (entropy / largest possible entropy)^exponent`.
#[derive(Clone)]
pub(super) struct DynamicTemperatureScale {
    low: f64,
    high: f64,
    exponent: f64,
}

impl DynamicTemperatureScale {
    pub(super) fn new(temperature: f32, dynamic: DynamicTemperature) -> Self {
        let (middle, range) = (f64::from(temperature), f64::from(dynamic.range));
        Self { low: middle - range, high: middle + range, exponent: f64::from(dynamic.exponent) }
    }
}

impl Step for DynamicTemperatureScale {
    fn apply(&mut self, candidates: &mut Candidates, _rng: &mut Rng) {
        if candidates.len() == 1 {
            return;
        }
        let entropy = candidates.softmax().entropy(candidates.logits());
        let normalised = (entropy / ln(candidates.len() as f64)).clamp(0.0, 1.0);
        let share = if normalised < f64::MIN_POSITIVE { 0.0 } else { pow(normalised, self.exponent) };
        scale(candidates, (self.low + (self.high - self.low) * share) as f32);
    }
}

fn scale(candidates: &mut Candidates, temperature: f32) {
    let largest = candidates.logits().iter().fold(0.0_f32, |max, logit| max.max(logit.abs()));
    // A temperature so small that quotients are beyond f32 is 0.
    if temperature > 0.0 && (largest / temperature).is_finite() {
        candidates.change_all(|logit| logit / temperature);
    } else {
        candidates.keep_one(candidates.best());
    }
}
