//! The order in which examples of several stores are read, epoch after epoch.
//!
//! Where:  the trainer's loader, over [`Prepared`](crate::Prepared) stores.
//! Idea:   without weights, all examples are one row of numbers, shuffled anew each epoch. With weights, sources take turns in
//!         proportion, and each goes through its own examples in its own epochs, as often as its share asks for. What comes next
//!         depends on the seed and on how many came before; a run resumes by saying how many.
//! Elsewhere: the orders themselves ([`Shuffle`], [`Mixture`]).

use crate::order::mix;
use crate::{Mixture, Shuffle};

/// An endless iterator over (source, number of the example in it).
#[derive(Debug, Clone)]
pub struct Blend {
    lens: Vec<u64>,
    total: u64,
    mixture: Option<Mixture>,
    /// Of each source, how many were taken; used with weights
    n_taken: Vec<u64>,
    seed: Option<u64>,
    position: u64,
}

impl Blend {
    /// Of sources with so many examples. `seed`: shuffle by it. `weights`: shares, one a source; `None` unless they are fit for
    /// a [`Mixture`] and no source with a weight is empty; `None` as well if there are no examples at all.
    pub fn new(lens: &[u64], weights: Option<&[f64]>, seed: Option<u64>) -> Option<Self> {
        let mixture = match weights {
            None => None,
            Some(weights) => {
                let is_fine = weights.len() == lens.len()
                    && weights.iter().zip(lens).all(|(weight, len)| *weight == 0.0 || *len > 0);
                Some(Mixture::new(weights).filter(|_| is_fine)?)
            }
        };
        let total = lens.iter().sum();
        let blend =
            Self { lens: lens.to_vec(), total, mixture, n_taken: vec![0; lens.len()], seed, position: 0 };
        (total > 0).then_some(blend)
    }

    /// Examples of an epoch: as many as there are.
    pub fn epoch_len(&self) -> u64 {
        self.total
    }

    /// How many came.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on after so many. With weights, the turns before are counted again: a few nanoseconds each.
    pub fn resume(&mut self, position: u64) {
        let fresh = self.mixture.as_ref().map(Mixture::restarted);
        self.mixture = fresh;
        self.n_taken.fill(0);
        if let Some(mixture) = &mut self.mixture {
            (0..position).for_each(|_| self.n_taken[mixture.next_source()] += 1);
        }
        self.position = position;
    }

    /// Place `at` of `n` examples that are gone through again and again.
    fn place(&self, n: u64, at: u64, stream: u64) -> u64 {
        match self.seed {
            None => at % n,
            Some(seed) => Shuffle::new(n, seed ^ mix(stream), at / n).at(at % n),
        }
    }
}

impl Iterator for Blend {
    type Item = (usize, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let found = match &mut self.mixture {
            Some(mixture) => {
                let source = mixture.next_source();
                let at = self.n_taken[source];
                self.n_taken[source] += 1;
                (source, self.place(self.lens[source], at, source as u64 + 1))
            }
            None => {
                let mut at = self.place(self.total, self.position, 0);
                let mut source = 0;
                while at >= self.lens[source] {
                    at -= self.lens[source];
                    source += 1;
                }
                (source, at)
            }
        };
        self.position += 1;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_comes_once_an_epoch() {
        for seed in [None, Some(3)] {
            let mut blend = Blend::new(&[5, 0, 8], None, seed).unwrap();
            let epoch = |blend: &mut Blend| blend.take(13).collect::<Vec<_>>();
            let (first, second) = (epoch(&mut blend), epoch(&mut blend));
            let sorted = |epoch: &[(usize, u64)]| {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                sorted
            };
            let expected: Vec<_> = (0..5).map(|i| (0, i)).chain((0..8).map(|i| (2, i))).collect();
            assert_eq!((sorted(&first), sorted(&second)), (expected.clone(), expected.clone()));
            assert_eq!(seed.is_none(), first == expected);
            assert_eq!(seed.is_none(), first == second);
        }
    }

    #[test]
    fn weights_are_shares_and_small_sources_come_again() {
        let blend = Blend::new(&[4, 1000], Some(&[1.0, 3.0]), Some(1)).unwrap();
        let taken: Vec<_> = blend.take(400).collect();
        let of_first: Vec<u64> = taken.iter().filter(|found| found.0 == 0).map(|found| found.1).collect();
        assert_eq!(of_first.len(), 100);
        for epoch in of_first.chunks(4) {
            assert_eq!(epoch.iter().sum::<u64>(), 6, "each of four once: {epoch:?}");
        }
        let mut of_second: Vec<u64> =
            taken.iter().filter(|found| found.0 == 1).map(|found| found.1).collect();
        of_second.sort_unstable();
        of_second.dedup();
        assert_eq!(of_second.len(), 300, "no example comes twice in an epoch of its source");
    }

    #[test]
    fn a_resumed_order_is_the_same_order() {
        for weights in [None, Some(&[1.0, 2.5, 0.0][..])] {
            let blend = Blend::new(&[7, 30, 2], weights, Some(9)).unwrap();
            let all: Vec<_> = blend.clone().take(200).collect();
            for position in [0, 1, 63, 150] {
                let mut resumed = blend.clone();
                resumed.next();
                resumed.resume(position);
                assert_eq!(
                    resumed.take(50).collect::<Vec<_>>(),
                    all[position as usize..][..50],
                    "{position}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_blended_is_nothing() {
        assert!(Blend::new(&[0, 0], None, None).is_none());
        assert!(Blend::new(&[1, 0], Some(&[1.0, 1.0]), None).is_none());
        assert!(Blend::new(&[1], Some(&[1.0, 1.0]), None).is_none());
        assert!(Blend::new(&[1, 0], Some(&[1.0, 0.0]), None).is_some());
    }
}
