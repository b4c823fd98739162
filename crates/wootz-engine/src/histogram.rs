//! Counts by size, as metrics want them.
//!
//! Where:  part of [`ModelStats`](crate::ModelStats); Prometheus shows the same thing as `_bucket`, `_sum`, `_count`.
//! Idea:   bounds are powers of two, so that seconds and sequences share one type without settings.

/// Numbers sorted into buckets whose upper bounds double.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    buckets: [u64; Self::N_BUCKETS],
    sum: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; Self::N_BUCKETS], sum: 0.0 }
    }
}

impl Histogram {
    const N_BUCKETS: usize = 32;
    /// The first bound is 2 to this power, about 61 µs.
    const FIRST_POWER: i32 = -14;

    /// Adds a number, 0 or above.
    pub fn add(&mut self, x: f64) {
        let last = Self::N_BUCKETS - 1;
        let bucket = (0..last).find(|&bucket| x <= Self::bound(bucket)).unwrap_or(last);
        self.buckets[bucket] += 1;
        self.sum += x;
    }

    /// Upper bounds with how many numbers lie at or below each; the last bound is infinite.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let counts = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        counts.enumerate().map(|(bucket, count)| (Self::bound(bucket), count))
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All numbers added.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    fn bound(bucket: usize) -> f64 {
        if bucket == Self::N_BUCKETS - 1 {
            f64::INFINITY
        } else {
            2f64.powi(Self::FIRST_POWER + bucket as i32)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_counted_at_its_bound_and_above() {
        let mut histogram = Histogram::default();
        let numbers = [0.0, 0.001, 1.0, 1.5, 4096.0, 1e12];
        numbers.iter().for_each(|x| histogram.add(*x));
        for (bound, count) in histogram.cumulative() {
            assert_eq!(count, numbers.iter().filter(|x| **x <= bound).count() as u64, "{bound}");
        }
        assert_eq!(histogram.count(), 6);
        assert_eq!(histogram.sum(), numbers.iter().sum::<f64>());
    }
}
