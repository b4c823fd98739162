//! Which pairs of symbols a byte-pair encoding joins, in order.
//!
//! Where:  called by [`bpe`](super::bpe), which also serves WordPiece.
//! Idea:   words lie in one row and shrink in place. A pair knows how often it occurs and in which words, so a merge looks
//!         at those alone; a heap gives the commonest pair, and entries that became stale are put back with their count.
//!         A pair gets commoner only while one of its two tokens is made, so one that is too rare afterwards is forgotten:
//!         most pairs are.
//! Source: Sennrich, Haddow, Birch 2016, arXiv:1508.07909, alg. 1. Ties as in Hugging Face `tokenizers`: the pair with the
//!         smaller ids comes first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use foldhash::fast::RandomState;

/// No further place of a pair.
const END: u32 = u32::MAX;

/// Words as symbols, one after the other.
#[derive(Debug, Default)]
pub(super) struct Words {
    symbols: Vec<u32>,
    starts: Vec<u32>,
    lens: Vec<u32>,
    counts: Vec<u64>,
}

impl Words {
    /// Adds a word that occurs `count` times; `false` if there is no room for it. Words of one symbol teach nothing.
    pub(super) fn push(&mut self, symbols: impl IntoIterator<Item = u32>, count: u64) -> bool {
        let start = self.symbols.len();
        self.symbols.extend(symbols);
        let len = self.symbols.len() - start;
        let fits = self.symbols.len() < END as usize && self.starts.len() < END as usize;
        if len < 2 || !fits {
            self.symbols.truncate(start);
            return fits;
        }
        self.starts.push(start as u32);
        self.lens.push(len as u32);
        self.counts.push(count);
        true
    }

    fn word(&self, number: usize) -> &[u32] {
        &self.symbols[self.starts[number] as usize..][..self.lens[number] as usize]
    }
}

/// A pair as one number that orders as the pair does.
fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[derive(Debug)]
struct Pair {
    key: u64,
    count: u64,
    /// The newest of its places; those from the beginning are in `Learner::first_places`.
    places: u32,
    /// The merge that last made it commoner.
    changed_by: u32,
}

/// A word in which a pair occurs, and the next such word.
#[derive(Debug, Clone, Copy)]
struct Place {
    word: u32,
    next: u32,
}

/// The state of learning.
#[derive(Debug)]
pub(super) struct Learner {
    words: Words,
    pairs: Vec<Pair>,
    numbers: HashMap<u64, u32, RandomState>,
    /// Words of the pairs that there were at the beginning, and where each of those pairs' begin.
    first_words: Vec<u32>,
    first_places: Vec<u32>,
    places: Vec<Place>,
    /// Places that are free again.
    free: u32,
    queue: BinaryHeap<(u64, Reverse<u64>, u32)>,
    min_count: u64,
    /// Numbers of pairs that were forgotten.
    unused: Vec<u32>,
    n_merges: u32,
    /// The pair that is being joined, which must not be forgotten meanwhile.
    merging: u32,
    /// Pairs that the present merge made commoner.
    commoner: Vec<u32>,
}

impl Learner {
    /// Counts the pairs of words; those that occur less than `min_count` times, or never, are not joined.
    pub(super) fn new(words: Words, min_count: u64) -> Self {
        let mut learner = Self {
            words,
            pairs: Vec::new(),
            numbers: HashMap::default(),
            first_words: Vec::new(),
            first_places: Vec::new(),
            places: Vec::new(),
            free: END,
            queue: BinaryHeap::new(),
            min_count: min_count.max(1),
            unused: Vec::new(),
            n_merges: 0,
            merging: END,
            commoner: Vec::new(),
        };
        learner.count();
        learner
    }

    fn count(&mut self) {
        let mut n_places: Vec<u32> = Vec::new();
        for word in 0..self.words.starts.len() {
            for at in 1..self.words.lens[word] as usize {
                let symbols = self.words.word(word);
                let number = self.number_of(key(symbols[at - 1], symbols[at])) as usize;
                n_places.resize(self.pairs.len(), 0);
                n_places[number] += 1;
                self.pairs[number].count += self.words.counts[word];
            }
        }
        // Counting sort: the end of each pair's stretch moves back to its beginning.
        let mut end = 0;
        self.first_places = n_places.iter().map(|n| (end += n, end).1).collect();
        self.first_places.push(end);
        self.first_words = vec![0; end as usize];
        for word in (0..self.words.starts.len()).rev() {
            for pair in self.words.word(word).windows(2) {
                let place = &mut self.first_places[self.numbers[&key(pair[0], pair[1])] as usize];
                *place -= 1;
                self.first_words[*place as usize] = word as u32;
            }
        }
        let entries = self.pairs.iter().enumerate();
        self.queue = entries.map(|(number, pair)| (pair.count, Reverse(pair.key), number as u32)).collect();
    }

    fn number_of(&mut self, key: u64) -> u32 {
        *self.numbers.entry(key).or_insert_with(|| {
            let pair = Pair { key, count: 0, places: END, changed_by: 0 };
            if let Some(number) = self.unused.pop() {
                self.pairs[number as usize] = pair;
                return number;
            }
            self.pairs.push(pair);
            self.pairs.len() as u32 - 1
        })
    }

    /// The commonest pair and how often it occurs.
    pub(super) fn commonest(&mut self) -> Option<(u32, u32, u64)> {
        loop {
            let (count, Reverse(key), number) = self.queue.pop()?;
            let pair = &self.pairs[number as usize];
            if pair.key != key || pair.count < self.min_count {
                continue;
            }
            if pair.count == count {
                return Some(((key >> 32) as u32, key as u32, count));
            }
            self.queue.push((pair.count, Reverse(key), number));
        }
    }

    /// Leaves a pair as it is, for ever.
    pub(super) fn forget(&mut self, left: u32, right: u32) {
        if let Some(&number) = self.numbers.get(&key(left, right)) {
            self.drop_pair(number);
        }
    }

    /// Joins a pair to `result` wherever it occurs.
    pub(super) fn merge(&mut self, left: u32, right: u32, result: u32) {
        self.n_merges += 1;
        let number = self.numbers[&key(left, right)];
        self.merging = number;
        let first = number as usize;
        if first + 1 < self.first_places.len() {
            for at in self.first_places[first]..self.first_places[first + 1] {
                self.merge_in(self.first_words[at as usize] as usize, [left, right, result]);
            }
        }
        let mut place = std::mem::replace(&mut self.pairs[first].places, END);
        while place != END {
            let Place { word, next } = self.places[place as usize];
            self.free_place(place);
            self.merge_in(word as usize, [left, right, result]);
            place = next;
        }
        // Overlapping occurrences (`aaa`) were counted, but cannot all be joined.
        self.merging = END;
        self.drop_pair(number);
        for number in std::mem::take(&mut self.commoner) {
            let pair = &self.pairs[number as usize];
            if pair.count >= self.min_count {
                self.queue.push((pair.count, Reverse(pair.key), number));
            } else {
                self.drop_pair(number);
            }
        }
    }

    /// Forgets a pair and where it occurs.
    fn drop_pair(&mut self, number: u32) {
        let pair = &mut self.pairs[number as usize];
        if self.numbers.get(&pair.key) != Some(&number) {
            return;
        }
        self.numbers.remove(&pair.key);
        (pair.count, pair.changed_by) = (0, 0);
        let mut place = std::mem::replace(&mut pair.places, END);
        while place != END {
            let next = self.places[place as usize].next;
            self.free_place(place);
            place = next;
        }
        // The numbers of first pairs say where their words stand.
        if number as usize + 1 >= self.first_places.len() {
            self.unused.push(number);
        }
    }

    fn free_place(&mut self, place: u32) {
        self.places[place as usize].next = std::mem::replace(&mut self.free, place);
    }

    fn merge_in(&mut self, word: usize, [left, right, result]: [u32; 3]) {
        let (start, len) = (self.words.starts[word] as usize, self.words.lens[word] as usize);
        let count = self.words.counts[word];
        let (mut from, mut to) = (start, start);
        let end = start + len;
        while from < end {
            let symbol = self.words.symbols[from];
            let next = from + 1;
            if symbol != left || next == end || self.words.symbols[next] != right {
                self.words.symbols[to] = symbol;
                (from, to) = (next, to + 1);
                continue;
            }
            if to > start {
                let before = self.words.symbols[to - 1];
                self.less(before, left, count);
                self.more(before, result, count, word as u32);
            }
            from += 2;
            if from < end {
                let after = self.words.symbols[from];
                self.less(right, after, count);
                self.more(result, after, count, word as u32);
            }
            self.words.symbols[to] = result;
            to += 1;
        }
        self.words.lens[word] = (to - start) as u32;
    }

    fn less(&mut self, left: u32, right: u32, count: u64) {
        if let Some(&number) = self.numbers.get(&key(left, right)) {
            let pair = &mut self.pairs[number as usize];
            pair.count = pair.count.saturating_sub(count);
            // One that this merge makes may get commoner again.
            if pair.count < self.min_count && number != self.merging && pair.changed_by != self.n_merges {
                self.drop_pair(number);
            }
        }
    }

    fn more(&mut self, left: u32, right: u32, count: u64, word: u32) {
        let number = self.number_of(key(left, right));
        let pair = &mut self.pairs[number as usize];
        pair.count += count;
        if pair.changed_by != self.n_merges {
            pair.changed_by = self.n_merges;
            self.commoner.push(number);
        }
        if pair.places != END && self.places[pair.places as usize].word == word {
            return;
        }
        let place = Place { word, next: pair.places };
        if self.free == END {
            pair.places = self.places.len() as u32;
            self.places.push(place);
        } else {
            pair.places = self.free;
            self.free = std::mem::replace(&mut self.places[pair.places as usize], place).next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plain twin: count everything again before every merge.
    fn plainly(words: &[(Vec<u32>, u64)], n_merges: usize, first_new: u32) -> Vec<(u32, u32, u64)> {
        let mut words = words.to_vec();
        let mut merges = Vec::new();
        for result in first_new..first_new + n_merges as u32 {
            let mut counts: HashMap<(u32, u32), u64> = HashMap::new();
            for (word, count) in &words {
                word.windows(2).for_each(|pair| *counts.entry((pair[0], pair[1])).or_default() += count);
            }
            let best = counts.into_iter().max_by_key(|&(pair, count)| (count, Reverse(pair)));
            let Some(((left, right), count)) = best else { break };
            merges.push((left, right, count));
            for (word, _) in &mut words {
                let mut at = 0;
                while at + 1 < word.len() {
                    if word[at..at + 2] == [left, right] {
                        word.splice(at..at + 2, [result]);
                    }
                    at += 1;
                }
            }
        }
        merges
    }

    #[test]
    fn learning_agrees_with_counting_everything_again() {
        let mut state = 5_u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        for n_symbols in [2, 3, 7] {
            // Letters differ within a word: where they repeat, overlapping occurrences count differently.
            let words: Vec<(Vec<u32>, u64)> = (0..60)
                .map(|_| {
                    let len = 1 + random(9);
                    let mut word: Vec<u32> = Vec::new();
                    for _ in 0..len {
                        let symbol = random(n_symbols) as u32;
                        if word.last() != Some(&symbol) {
                            word.push(symbol);
                        }
                    }
                    (word, 1 + random(5))
                })
                .collect();
            let expected = plainly(&words, 12, 100);
            let mut all = Words::default();
            words.iter().for_each(|(word, count)| assert!(all.push(word.iter().copied(), *count)));
            let mut learner = Learner::new(all, 0);
            let mut merges = Vec::new();
            for result in 100..112 {
                let Some((left, right, count)) = learner.commonest() else { break };
                learner.merge(left, right, result);
                merges.push((left, right, count));
            }
            assert_eq!(merges, expected, "{n_symbols}");
        }
    }

    #[test]
    fn a_repeated_symbol_is_joined_from_the_left() {
        let mut words = Words::default();
        assert!(words.push([0, 0, 0, 0, 0], 2));
        let mut learner = Learner::new(words, 0);
        assert_eq!(learner.commonest(), Some((0, 0, 8)));
        learner.merge(0, 0, 1);
        assert_eq!(learner.words.word(0), [1, 1, 0]);
        // (1, 1) occurs once a word, (1, 0) once a word: the smaller pair first.
        assert_eq!(learner.commonest(), Some((1, 0, 2)));
    }

    #[test]
    fn rare_pairs_are_not_joined() {
        let mut words = Words::default();
        assert!(words.push([0, 1], 3));
        let mut learner = Learner::new(words, 4);
        assert_eq!(learner.commonest(), None);
    }
}
