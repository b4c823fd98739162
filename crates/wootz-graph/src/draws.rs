//! Random numbers that are a function of their place: the same in forward and backward, on every device and thread.
//!
//! Where:  dropout and noise of training graphs ([`ops::dropout`](crate::ops::dropout), [`ops::noise`](crate::ops::noise)).
//! Idea:   a key from seed, step, operator and row starts a counter; what is drawn for a column is a hash of it. Nothing is kept.
//! Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; the hash is SplitMix64's, Steele et al. 2014.

/// The numbers of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    /// Of a row of the operator that stands at `site`.
    pub(crate) fn of_row([seed, step]: [u32; 2], site: u32, row: usize) -> Self {
        let key = mix(u64::from(seed) << 32 | u64::from(step));
        let key = mix(key ^ mix(u64::from(site)));
        Draws(mix(key ^ mix(row as u64 | 1 << 63)))
    }

    /// Sixty-four bits, by number.
    pub(crate) fn bits(self, index: usize) -> u64 {
        mix(self.0.wrapping_add((index as u64).wrapping_mul(GOLDEN)))
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(GOLDEN);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_bits_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for (seed, step, site) in [(1, 2, 3), (2, 1, 3), (1, 3, 2), (1, 2, 4), (0, 0, 0)] {
            for row in 0..40 {
                let draws = Draws::of_row([seed, step], site, row);
                (0..40).for_each(|index| assert!(seen.insert(draws.bits(index))));
            }
        }
        // Each bit is set about half of the time: 8,000 draws, five deviations.
        for bit in 0..64 {
            let n_set = seen.iter().filter(|bits| *bits >> bit & 1 == 1).count();
            assert!((3776..=4224).contains(&n_set), "bit {bit} is set {n_set} times of 8000");
        }
    }
}
