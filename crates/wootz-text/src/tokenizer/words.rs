//! Whole words and their tokens: pieces that are answered without merging.
//!
//! Where:  part of [`bpe`](super::bpe), asked first for every piece of a text.
//! Idea:   nine of ten pieces are a token as they are, and short. A piece of up to 7 bytes is one word with its length in
//!         the eighth byte, up to 15 bytes two words: such keys lie in the slots themselves, so that a question is one
//!         load of the text, one multiplication and mostly one cache line. Longer ones are looked up as byte strings.

use std::ops::Range;

use super::hash::{Seed, place};
use super::table::Table;
use crate::TokenId;

/// Longest piece that is a key of two words.
pub(crate) const MAX_KEY_BYTES: usize = 15;

/// Words by their bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Words {
    short: Vec<Slot>,
    middle: Vec<u128>,
    middle_ids: Vec<TokenId>,
    long: Table,
    long_ids: Vec<TokenId>,
    seed: Seed,
}

/// A short word; a free slot has the key 0, which no word has.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u64,
    id: TokenId,
}

impl Words {
    /// Words that are all different and not empty, with their tokens.
    pub(crate) fn new<'a>(words: impl Iterator<Item = (&'a [u8], TokenId)> + Clone) -> Self {
        let n_slots = |lengths: Range<usize>| {
            2 * words.clone().filter(|(word, _)| lengths.contains(&word.len())).count() + 2
        };
        let (n_short, n_middle) = (n_slots(1..8), n_slots(8..16));
        let mut table = Self {
            short: vec![Slot::default(); n_short],
            middle: vec![0; n_middle],
            middle_ids: vec![0; n_middle],
            ..Self::default()
        };
        words.for_each(|(word, id)| table.insert(word, id));
        table
    }

    fn insert(&mut self, word: &[u8], id: TokenId) {
        match word.len() {
            0 => {}
            1..8 => {
                let key = short_key(word, 0, word.len());
                let at = self.find_short(key);
                self.short[at] = Slot { key, id };
            }
            8..16 => {
                let key = middle_key(word, 0, word.len());
                let at = self.find_middle(key);
                (self.middle[at], self.middle_ids[at]) = (key, id);
            }
            _ => {
                if self.long.insert(word).is_some() {
                    self.long_ids.push(id);
                }
            }
        }
    }

    /// The token of `text[start..end]`, which is not empty. What follows in the text may be read, too.
    #[inline]
    pub(crate) fn get(&self, text: &[u8], start: usize, end: usize) -> Option<TokenId> {
        match end - start {
            0..8 => {
                let key = short_key(text, start, end);
                let slot = self.short.get(self.find_short(key))?;
                (slot.key == key).then_some(slot.id)
            }
            8..16 => {
                let key = middle_key(text, start, end);
                let at = self.find_middle(key);
                (*self.middle.get(at)? == key).then(|| self.middle_ids[at])
            }
            _ => Some(self.long_ids[self.long.get(&text[start..end])? as usize]),
        }
    }

    /// Where a key is or would be; half of the slots are free, so the walk ends.
    #[inline]
    fn find_short(&self, key: u64) -> usize {
        let mut at = place(self.seed.hash_word(key), self.short.len());
        while self.short.get(at).is_some_and(|slot| slot.key != key && slot.key != 0) {
            at = if at + 1 == self.short.len() { 0 } else { at + 1 };
        }
        at
    }

    #[inline]
    fn find_middle(&self, key: u128) -> usize {
        let mut at = place(self.seed.hash_words(key), self.middle.len());
        while self.middle.get(at).is_some_and(|&slot| slot != key && slot != 0) {
            at = if at + 1 == self.middle.len() { 0 } else { at + 1 };
        }
        at
    }
}

/// Up to seven bytes and their number in one word.
#[inline]
fn short_key(text: &[u8], start: usize, end: usize) -> u64 {
    let len = end - start;
    let word = match text.get(start..start + 8).and_then(|bytes| bytes.first_chunk()) {
        // PERF: one load where the text goes on; what is too much is masked away.
        Some(bytes) => u64::from_le_bytes(*bytes) & ((1 << (8 * len)) - 1),
        None => {
            let mut bytes = [0; 8];
            bytes[..len].copy_from_slice(&text[start..end]);
            u64::from_le_bytes(bytes)
        }
    };
    word | (len as u64) << 56
}

/// Up to fifteen bytes and their number in two words.
#[inline]
pub(crate) fn middle_key(text: &[u8], start: usize, end: usize) -> u128 {
    let len = end - start;
    let word = match text.get(start..start + 16).and_then(|bytes| bytes.first_chunk()) {
        Some(bytes) => u128::from_le_bytes(*bytes) & ((1 << (8 * len)) - 1),
        None => {
            let mut bytes = [0; 16];
            bytes[..len].copy_from_slice(&text[start..end]);
            u128::from_le_bytes(bytes)
        }
    };
    word | (len as u128) << 120
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_every_length_are_found_anywhere_in_a_text() {
        let text: Vec<u8> = (0..600_u32).map(|i| (i * i % 5) as u8 + 97 * u8::from(i % 7 > 0)).collect();
        let mut words: Vec<&[u8]> = (1..40)
            .flat_map(|len| (0..200).map(move |at| (at, len)))
            .map(|(at, len)| &text[at..at + len])
            .collect();
        words.sort_unstable();
        words.dedup();
        let (known, unknown): (Vec<_>, Vec<_>) = words.iter().enumerate().partition(|(i, _)| i % 3 > 0);
        let table = Words::new(known.iter().map(|&(i, &word)| (word, i as TokenId)));
        for tail in [&b""[..], b"a", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
            for (is_known, words) in [(true, &known), (false, &unknown)] {
                for &(i, &word) in words {
                    let text = [b"xy", word, tail].concat();
                    let found = table.get(&text, 2, 2 + word.len());
                    assert_eq!(found, is_known.then_some(i as TokenId), "{word:?}");
                }
            }
        }
        assert_eq!(Words::default().get(b"a", 0, 1), None);
    }
}
