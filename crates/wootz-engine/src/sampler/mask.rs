//! Which tokens a grammar allows next: one bit per token.
//!
//! Where:  given to [`Sampler::sample`](super::Sampler::sample) by whoever holds a grammar.
//! Idea:   a borrowed slice of 32-bit words, lowest bit first: the layout that grammar engines fill in place.

use wootz_text::TokenId;

/// Allowed tokens; those beyond the last word are forbidden.
#[derive(Debug, Clone, Copy)]
pub struct TokenMask<'a> {
    words: &'a [u32],
}

impl<'a> TokenMask<'a> {
    /// Token `id` is allowed if bit `id % 32` of word `id / 32` is set.
    pub fn new(words: &'a [u32]) -> Self {
        Self { words }
    }

    /// Whether `id` is allowed.
    pub fn allows(self, id: TokenId) -> bool {
        self.words.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
    }

    /// Allowed tokens below `n`, ascending.
    pub(super) fn ids(self, n: usize) -> impl Iterator<Item = TokenId> {
        let word_ids = |(i, &word): (usize, &u32)| Bits(word).map(move |bit| (i * 32) as TokenId + bit);
        self.words.iter().enumerate().flat_map(word_ids).take_while(move |&id| (id as usize) < n)
    }
}

/// Positions of the set bits, ascending.
struct Bits(u32);

impl Iterator for Bits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let bit = self.0.trailing_zeros();
        let rest = self.0.checked_sub(1)?;
        self.0 &= rest;
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_are_allowed() {
        let words = [0x8000_0001, 0, u32::MAX];
        let mask = TokenMask::new(&words);
        for n in [0, 1, 31, 32, 70, 96, 200] {
            let want: Vec<TokenId> = (0..n).filter(|&id| mask.allows(id)).collect();
            assert_eq!(mask.ids(n as usize).collect::<Vec<_>>(), want);
        }
    }
}
