//! Fast hashing of small keys, seeded so that no file can choose its collisions.
//!
//! Where:  the pair table of [`bpe`](super::bpe) and the string tables of [`table`](super::table), asked for every piece.
//! Idea:   multiply by an odd constant and fold the two halves of the product, eight bytes at a time. The seed is drawn
//!         from the standard library's; nothing that a tokenizer gives out depends on it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A map from integers with a fast hasher.
pub(crate) type FastMap<K, V> = HashMap<K, V, Seed>;

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
}

impl BuildHasher for Seed {
    type Hasher = FoldHasher;

    fn build_hasher(&self) -> FoldHasher {
        FoldHasher(self.0)
    }
}

/// The hasher of [`FastMap`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoldHasher(u64);

impl Hasher for FoldHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = fold(self.0 ^ key);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn fold(key: u64) -> u64 {
    let product = u128::from(key) * 0x9e37_79b9_7f4a_7c15;
    (product as u64 ^ (product >> 64) as u64).rotate_left(23)
}
