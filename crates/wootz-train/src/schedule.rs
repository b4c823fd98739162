//! The learning rate of each step.
//!
//! Where:  asked by the trainer before every step.
//! Idea:   a rate is a function of the step alone, so that a run resumes anywhere.
//! Source: linear warm-up with linear or cosine decay as in `transformers`' schedules; warm-up, stable, decay: Hu et al. 2024,
//!         arXiv:2404.06395, §4; inverse square root: Vaswani et al. 2017, §5.3.

use std::f64::consts::PI;

use crate::Error;

/// How the rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decay {
    /// It stays
    Constant,
    /// In a straight line
    Linear,
    /// Along half a cosine
    Cosine,
    /// It stays, then falls along half a cosine over the last share of all steps
    WarmupStableDecay {
        /// Share of the steps that fall, in 0..=1
        share: f64,
    },
    /// With the inverse square root of the step
    InverseSqrt,
}

/// A rate for each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate
    pub lr: f64,
    /// Steps of a straight rise from 0
    pub n_warmup: u64,
    /// Steps in all
    pub n_steps: u64,
    /// What follows the rise
    pub decay: Decay,
    /// The lowest rate of a decay that ends, as a share of the highest
    pub min_share: f64,
}

impl Schedule {
    /// Checks the settings.
    ///
    /// # Errors
    /// A rate, a share or a number of steps out of its range, by name.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |name, message| Err(Error::Setting { name, message });
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return refuse("lr", format!("expected more than 0, got {}", self.lr));
        }
        if !(0.0..=1.0).contains(&self.min_share) {
            return refuse("min_share", format!("expected 0 to 1, got {}", self.min_share));
        }
        if self.n_warmup > self.n_steps {
            return refuse(
                "n_warmup",
                format!("expected at most {} steps, got {}", self.n_steps, self.n_warmup),
            );
        }
        match self.decay {
            Decay::WarmupStableDecay { share } if !(0.0..=1.0).contains(&share) => {
                refuse("share", format!("expected 0 to 1, got {share}"))
            }
            _ => Ok(()),
        }
    }

    /// The rate of step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.n_warmup {
            return self.lr * step as f64 / self.n_warmup as f64;
        }
        let share = |from: u64| {
            let n = self.n_steps.saturating_sub(from).max(1);
            (step.saturating_sub(from) as f64 / n as f64).min(1.0)
        };
        let cosine = |at: f64| 0.5 * (1.0 + (PI * at).cos());
        let falls = |left: f64| self.min_share + (1.0 - self.min_share) * left;
        self.lr
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Linear => falls(1.0 - share(self.n_warmup)),
                Decay::Cosine => falls(cosine(share(self.n_warmup))),
                Decay::WarmupStableDecay { share: tail } => {
                    let n_tail = ((self.n_steps as f64 * tail) as u64).min(self.n_steps - self.n_warmup);
                    falls(cosine(share(self.n_steps - n_tail)))
                }
                // COMPAT: transformers counts from the warm-up's length, which is 10,000 where there is none.
                Decay::InverseSqrt => {
                    let n_warmup = if self.n_warmup == 0 { 10_000 } else { self.n_warmup } as f64;
                    let shift = n_warmup - self.n_warmup as f64;
                    (n_warmup / (step as f64 + shift)).sqrt()
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_stay_and_fall() {
        let schedule = |decay| Schedule { lr: 2.0, n_warmup: 10, n_steps: 110, decay, min_share: 0.1 };
        let check = |decay, expected: [f64; 5]| {
            let got = [0, 5, 10, 60, 110].map(|step| schedule(decay).at(step));
            let close = got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-12);
            assert!(close, "{decay:?}: {got:?}");
        };
        check(Decay::Constant, [0.0, 1.0, 2.0, 2.0, 2.0]);
        check(Decay::Linear, [0.0, 1.0, 2.0, 1.1, 0.2]);
        check(Decay::Cosine, [0.0, 1.0, 2.0, 1.1, 0.2]);
        check(
            Decay::WarmupStableDecay { share: 0.5 },
            [0.0, 1.0, 2.0, 2.0 * (0.1 + 0.9 * 0.5 * (1.0 + (PI * 5.0 / 55.0).cos())), 0.2],
        );
        check(Decay::InverseSqrt, [0.0, 1.0, 2.0, 2.0 / 6.0_f64.sqrt(), 2.0 / 11.0_f64.sqrt()]);
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let fine = Schedule { lr: 1.0, n_warmup: 1, n_steps: 9, decay: Decay::Linear, min_share: 0.0 };
        assert!(fine.check().is_ok());
        for (schedule, name) in [
            (Schedule { lr: f64::NAN, ..fine }, "lr"),
            (Schedule { min_share: 1.5, ..fine }, "min_share"),
            (Schedule { n_warmup: 10, ..fine }, "n_warmup"),
            (Schedule { decay: Decay::WarmupStableDecay { share: -0.1 }, ..fine }, "share"),
        ] {
            assert!(schedule.check().unwrap_err().to_string().contains(name));
        }
    }
}
