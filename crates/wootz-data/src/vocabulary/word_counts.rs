//! How often each piece occurs in a corpus.
//!
//! Where:  filled by [`learn_tokenizer`](super::learn_tokenizer), one for each thread.
//! Idea:   all words in one buffer, sixteen bytes of bookkeeping a word, a table of places beside it. Where there are too
//!         many different words, those that were rarest so far are forgotten and counted.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

/// Words with their counts.
#[derive(Debug, Default)]
pub(super) struct WordCounts {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// 1 + the number of an entry, or 0; a power of two.
    slots: Vec<u32>,
    hasher: RandomState,
    /// Occurrences that were forgotten.
    n_forgotten: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    len: u32,
    count: u64,
}

impl WordCounts {
    /// Counts a word `n` times.
    pub(super) fn add(&mut self, word: &[u8], n: u64) {
        if self.entries.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut place = self.hasher.hash_one(word) as usize & mask;
        while self.slots[place] != 0 {
            let entry = &mut self.entries[self.slots[place] as usize - 1];
            if self.bytes[entry.start as usize..][..entry.len as usize] == *word {
                entry.count += n;
                return;
            }
            place = (place + 1) & mask;
        }
        let (Ok(start), Ok(len)) = (u32::try_from(self.bytes.len()), u32::try_from(word.len())) else {
            self.n_forgotten += n;
            return;
        };
        self.bytes.extend(word);
        self.entries.push(Entry { start, len, count: n });
        self.slots[place] = self.entries.len() as u32;
    }

    /// Adds what another has counted.
    pub(super) fn absorb(&mut self, other: &Self) {
        other.iter().for_each(|(word, count)| self.add(word, count));
        self.n_forgotten += other.n_forgotten;
    }

    /// Forgets the rarest words until at most half of `max_words` are left, if there are more than `max_words`.
    pub(super) fn keep_at_most(&mut self, max_words: usize) {
        if self.entries.len() <= max_words {
            return;
        }
        let mut counts: Vec<u64> = self.entries.iter().map(|entry| entry.count).collect();
        let place = counts.len() - (max_words / 2).max(1);
        let (_, &mut threshold, _) = counts.select_nth_unstable(place);
        let old = std::mem::take(self);
        self.n_forgotten = old.n_forgotten;
        for (word, count) in old.iter() {
            if count > threshold { self.add(word, count) } else { self.n_forgotten += count }
        }
    }

    /// Different words.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Occurrences of words that were too rare to be kept.
    pub(super) fn n_forgotten(&self) -> u64 {
        self.n_forgotten
    }

    /// All words with their counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let word = |entry: &Entry| &self.bytes[entry.start as usize..][..entry.len as usize];
        self.entries.iter().map(move |entry| (word(entry), entry.count))
    }

    /// Puts words into an order that neither threads nor hashing decide: the commonest first, then by bytes.
    pub(super) fn sort(&mut self) {
        self.slots = Vec::new();
        let bytes = &self.bytes;
        let word = |entry: &Entry| &bytes[entry.start as usize..][..entry.len as usize];
        self.entries.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| word(a).cmp(word(b))));
    }

    fn grow(&mut self) {
        let n_slots = (self.slots.len() * 2).max(1 << 10);
        self.slots = vec![0; n_slots];
        for (number, entry) in self.entries.iter().enumerate() {
            let word = &self.bytes[entry.start as usize..][..entry.len as usize];
            let mut place = self.hasher.hash_one(word) as usize & (n_slots - 1);
            while self.slots[place] != 0 {
                place = (place + 1) & (n_slots - 1);
            }
            self.slots[place] = number as u32 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn counts_agree_with_a_map() {
        let (mut counts, mut expected) = (WordCounts::default(), HashMap::<String, u64>::new());
        for i in 0..20_000_u64 {
            let word = (i * i % 3001).to_string();
            counts.add(word.as_bytes(), i % 3);
            *expected.entry(word).or_default() += i % 3;
        }
        let mut twice = WordCounts::default();
        twice.absorb(&counts);
        twice.absorb(&counts);
        twice.sort();
        assert_eq!(twice.len(), expected.len());
        for (word, count) in twice.iter() {
            assert_eq!(count, 2 * expected[std::str::from_utf8(word).unwrap()]);
        }
        let sorted: Vec<u64> = twice.iter().map(|word| word.1).collect();
        assert!(sorted.is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn the_rarest_words_are_forgotten_first() {
        let mut counts = WordCounts::default();
        (1..=100_u64).for_each(|i| counts.add(i.to_string().as_bytes(), i));
        counts.keep_at_most(20);
        assert!((5..=10).contains(&counts.len()), "{}", counts.len());
        assert!(counts.iter().all(|(_, count)| count > 90));
        let kept: u64 = counts.iter().map(|word| word.1).sum();
        assert_eq!(kept + counts.n_forgotten(), 5050);
    }
}
