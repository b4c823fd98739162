//! Several measurements of one thing.

use serde::{Deserialize, Serialize};

/// Measurements in the order in which they were made; never empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Panics if there are none.
    pub fn new(numbers: Vec<f64>) -> Self {
        assert!(!numbers.is_empty(), "a case is measured at least once");
        Self(numbers)
    }

    /// These and others after them.
    pub fn with(&self, others: &Self) -> Self {
        Self([&self.0[..], &others.0].concat())
    }

    /// The middle one, or the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
    }

    /// How far the largest is from the smallest, in parts of the median.
    pub fn spread(&self) -> f64 {
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        (most - least) / self.median()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_spread_is_the_range() {
        let check = |numbers: &[f64], median: f64, spread: f64| {
            let samples = Samples::new(numbers.to_vec());
            assert_eq!((samples.median(), samples.spread()), (median, spread), "{numbers:?}");
        };
        check(&[4.0], 4.0, 0.0);
        check(&[3.0, 1.0, 2.0], 2.0, 1.0);
        check(&[1.0, 3.0], 2.0, 1.0);
        check(&[8.0, 2.0, 4.0, 4.0], 4.0, 1.5);
    }
}
