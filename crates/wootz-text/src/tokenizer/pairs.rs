//! Merges by their pairs: what two neighbouring symbols become, and how urgent that is.
//!
//! Where:  filled by whoever reads a vocabulary with merges; asked by [`bpe`](super::bpe) for every pair of neighbours.
//! Idea:   a table of slots of sixteen bytes, a place found by hashing and then by walking on, so that most questions touch
//!         one cache line. Half of the slots stay free: most pairs of neighbours have no merge, and that is then known at once.

use super::hash::{Seed, place};
use crate::TokenId;

/// Most merges; the largest vocabulary that is known has 514,906.
pub(crate) const MAX_MERGES: usize = 1 << 21;

/// A merge's place in the order and its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Merge {
    pub(crate) rank: u32,
    pub(crate) id: TokenId,
}

/// Merges by left and right symbol.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pairs {
    slots: Vec<Slot>,
    n_taken: usize,
    seed: Seed,
}

/// One pair; a free slot has a merge of [`FREE`] rank.
#[derive(Debug, Clone, Copy)]
struct Slot {
    left: TokenId,
    right: TokenId,
    merge: Merge,
}

const FREE: u32 = u32::MAX;
const FREE_SLOT: Slot = Slot { left: 0, right: 0, merge: Merge { rank: FREE, id: 0 } };

impl Pairs {
    /// Room for `n_pairs` without growing.
    pub(crate) fn with_capacity(n_pairs: usize) -> Self {
        Self { slots: vec![FREE_SLOT; 2 * n_pairs + 2], ..Self::default() }
    }

    /// What a pair becomes.
    #[inline]
    pub(crate) fn get(&self, left: TokenId, right: TokenId) -> Option<Merge> {
        if self.slots.is_empty() {
            return None;
        }
        let slot = self.slots[self.find(left, right)];
        (slot.merge.rank != FREE).then_some(slot.merge)
    }

    /// Sets what a pair becomes; the merge that it had before is returned.
    pub(crate) fn insert(&mut self, left: TokenId, right: TokenId, merge: Merge) -> Option<Merge> {
        if (self.n_taken + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let at = self.find(left, right);
        let before = std::mem::replace(&mut self.slots[at], Slot { left, right, merge }).merge;
        self.n_taken += usize::from(before.rank == FREE);
        (before.rank != FREE).then_some(before)
    }

    /// The slot of a pair, or the free one where it would stand.
    fn find(&self, left: TokenId, right: TokenId) -> usize {
        let key = u64::from(left) << 32 | u64::from(right);
        let mut at = place(self.seed.hash_word(key), self.slots.len());
        loop {
            let slot = &self.slots[at];
            if slot.left == left && slot.right == right || slot.merge.rank == FREE {
                return at;
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }

    fn grow(&mut self) {
        let n_slots = (self.slots.len() * 2).max(16);
        let slots = std::mem::replace(&mut self.slots, vec![FREE_SLOT; n_slots]);
        for slot in slots.into_iter().filter(|slot| slot.merge.rank != FREE) {
            let at = self.find(slot.left, slot.right);
            self.slots[at] = slot;
        }
    }
}

impl FromIterator<(TokenId, TokenId, Merge)> for Pairs {
    fn from_iter<T: IntoIterator<Item = (TokenId, TokenId, Merge)>>(merges: T) -> Self {
        let merges = merges.into_iter();
        let mut pairs = Self::with_capacity(merges.size_hint().0);
        for (left, right, merge) in merges {
            pairs.insert(left, right, merge);
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_agree_with_a_map() {
        let mut map = std::collections::HashMap::new();
        for capacity in [0, 100, 5000] {
            let mut pairs = Pairs::with_capacity(capacity);
            let mut seed = 5_u64;
            for rank in 0..4000 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (left, right) = ((seed >> 60) as TokenId, (seed >> 50) as TokenId % 300);
                let merge = Merge { rank, id: left + right };
                let before = if capacity == 0 { map.insert((left, right), merge) } else { None };
                assert!(capacity > 0 || pairs.insert(left, right, merge) == before);
                pairs.insert(left, right, merge);
            }
            for left in 0..16 {
                (0..310)
                    .for_each(|right| assert_eq!(pairs.get(left, right), map.get(&(left, right)).copied()));
            }
        }
        assert_eq!(Pairs::default().get(0, 0), None);
    }
}
