//! Fast hashing of small keys, seeded so that no file can choose its collisions.
//!
//! Where:  the tables of pairs, words and strings ([`pairs`](super::pairs), [`words`](super::words),
//!         [`table`](super::table)), asked for every piece of a text.
//! Idea:   multiply by an odd constant and fold the two halves of the product, eight bytes at a time. The seed is drawn
//!         from the standard library's; nothing that a tokenizer gives out depends on it.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A random start for hashing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seed(u64);

impl Default for Seed {
    fn default() -> Self {
        Self(RandomState::new().build_hasher().finish() | 1)
    }
}

impl Seed {
    /// Hashes a byte string.
    pub(crate) fn hash(self, bytes: &[u8]) -> u64 {
        let (words, tail) = bytes.as_chunks::<8>();
        let mut hash = self.0 ^ bytes.len() as u64;
        for word in words {
            hash = fold(hash ^ u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        fold(hash ^ u64::from_le_bytes(last))
    }

    /// Hashes one word.
    pub(crate) fn hash_word(self, word: u64) -> u64 {
        fold(self.0 ^ word)
    }

    /// Hashes two words.
    pub(crate) fn hash_words(self, words: u128) -> u64 {
        fold(fold(self.0 ^ words as u64) ^ (words >> 64) as u64)
    }
}

/// A hash as a place in a table of `n_slots`.
pub(crate) fn place(hash: u64, n_slots: usize) -> usize {
    ((u128::from(hash) * n_slots as u128) >> 64) as usize
}

fn fold(key: u64) -> u64 {
    let product = u128::from(key) * 0x9e37_79b9_7f4a_7c15;
    (product as u64 ^ (product >> 64) as u64).rotate_left(23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_similar_keys_are_spread() {
        let seed = Seed::default();
        for step in [1_u64, 8, 256, 1 << 32, 1 << 50] {
            let mut n_keys = [0; 64];
            (0..6400).for_each(|i| n_keys[place(seed.hash_word(i * step), 64)] += 1);
            assert!(n_keys.iter().all(|&n| (20..400).contains(&n)), "{step}: {n_keys:?}");
        }
    }
}
