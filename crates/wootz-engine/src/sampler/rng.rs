//! Random numbers that depend on seed, choice and position alone.
//!
//! Where:  owned by a [`Sampler`](super::Sampler), handed to its steps.
//! Idea:   a counter instead of a state: the numbers of position 17 are the same whether positions 0 to 16 were drawn in this
//!         run, before a restart, or speculatively and twice.
//! Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (counter-based generators); the mixing
//!         function is that of Steele et al. 2014, SplitMix64.

/// The stream of one choice of one request.
#[derive(Debug, Clone)]
pub(super) struct Rng {
    key: u64,
    position: u64,
    n_drawn: u64,
}

impl Rng {
    pub(super) fn new(seed: u64, choice: usize) -> Self {
        let key = mix(mix(seed.wrapping_add(GAMMA)).wrapping_add(choice as u64));
        Self { key, position: 0, n_drawn: 0 }
    }

    /// Goes to the numbers of the `position`-th new token.
    pub(super) fn seek(&mut self, position: usize) {
        (self.position, self.n_drawn) = (position as u64, 0);
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    pub(super) fn uniform(&mut self) -> f64 {
        let counter = self.position << 8 | self.n_drawn; // a position needs two numbers at most
        self.n_drawn += 1;
        let bits = mix(self.key.wrapping_add(counter.wrapping_mul(GAMMA)));
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 / golden ratio, odd

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_pinned() {
        let mut rng = Rng::new(7, 0);
        let first: Vec<u64> = (0..3).map(|_| (rng.uniform() * (1_u64 << 53) as f64) as u64).collect();
        assert_eq!(first, [592_420_766_337_359, 8_558_292_891_254_773, 7_923_515_918_811_736]); // a change of these numbers changes every seeded answer
    }

    #[test]
    fn a_position_has_its_own_numbers() {
        let mut rng = Rng::new(7, 3);
        rng.seek(5);
        let (a, b) = (rng.uniform(), rng.uniform());
        rng.seek(6);
        let c = rng.uniform();
        rng.seek(5);
        assert_eq!((rng.uniform(), rng.uniform()), (a, b));
        assert!(a != b && b != c && a != c);
        assert_ne!(Rng::new(7, 0).uniform(), Rng::new(7, 1).uniform());
        assert_ne!(Rng::new(7, 0).uniform(), Rng::new(8, 0).uniform());
    }

    #[test]
    fn numbers_are_uniform_across_positions_and_seeds() {
        let mut counts = [0_u32; 16];
        for seed in 0..100 {
            let mut rng = Rng::new(seed, 0);
            for position in 0..160 {
                rng.seek(position);
                counts[(rng.uniform() * 16.0) as usize] += 1;
            }
        }
        let chi_square: f64 = counts.iter().map(|&n| (f64::from(n) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi_square < 37.7, "{chi_square}"); // 15 degrees of freedom, one in a thousand; the seeds are fixed
    }
}
