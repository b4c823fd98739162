//! The pieces that a Unigram vocabulary is cut down from: what occurs more than once.
//!
//! Where:  called by [`unigram`](super::unigram).
//! Idea:   all places of all words are sorted by what follows there, up to the longest piece. Neighbours that share their
//!         beginnings make nested stretches; each stretch is a piece and how often it occurs is the sum of its words' counts.
//!         Only the longest of pieces that always occur together is a candidate.
//! Source: Kudo 2018, arXiv:1804.10959, §3.2, which takes them from a suffix array; candidates score frequency × length.

use super::unigram::Corpus;

/// A candidate: where it stands in the corpus, its length in characters, how often it occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed {
    pub(super) start: u32,
    pub(super) len: u32,
    pub(super) count: u64,
}

/// The `max_seeds` best candidates of 2 to `max_len` characters, best first.
pub(super) fn seeds(corpus: &Corpus, max_len: usize, max_seeds: usize) -> Vec<Seed> {
    let ahead = |place: u32| corpus.ahead(place as usize, max_len);
    let mut places: Vec<u32> = (0..corpus.symbols.len() as u32).collect();
    places.sort_unstable_by(|&a, &b| ahead(a).cmp(ahead(b)).then(a.cmp(&b)));
    let mut seeds = Vec::new();
    // Stretches that are open: (length of what they share, count before them, one of their places).
    let mut open: Vec<(usize, u64, u32)> = Vec::new();
    let mut n_before = 0_u64;
    let mut last: &[u32] = &[];
    for &place in &places {
        let here = ahead(place);
        let shared = last.iter().zip(here).take_while(|(a, b)| a == b).count();
        let mut start = n_before;
        while let Some(&(len, first, at)) = open.last().filter(|stretch| stretch.0 > shared) {
            open.pop();
            push(&mut seeds, Seed { start: at, len: len as u32, count: n_before - first });
            start = first;
        }
        if shared > 0 && open.last().is_none_or(|stretch| stretch.0 < shared) {
            open.push((shared, start, place));
        }
        // What follows here to its end may be longer than what neighbours share.
        if here.len() > shared {
            open.push((here.len(), n_before, place));
        }
        n_before += corpus.count_at(place as usize);
        last = here;
    }
    while let Some((len, first, at)) = open.pop() {
        push(&mut seeds, Seed { start: at, len: len as u32, count: n_before - first });
    }
    // Equal scores in the order of the text.
    seeds.sort_unstable_by_key(|seed| {
        let text = &corpus.symbols[seed.start as usize..][..seed.len as usize];
        (std::cmp::Reverse(seed.count * u64::from(seed.len)), text)
    });
    seeds.truncate(max_seeds);
    seeds
}

fn push(seeds: &mut Vec<Seed>, seed: Seed) {
    if seed.len >= 2 && seed.count >= 2 {
        seeds.push(seed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::vocabulary::word_counts::WordCounts;

    #[test]
    fn candidates_are_the_longest_of_those_that_occur_together() {
        let mut counts = WordCounts::default();
        let words = [("banana", 3), ("bandana", 2), ("an", 1), ("nab", 1)];
        words.iter().for_each(|&(word, count)| counts.add(word.as_bytes(), count));
        counts.sort();
        let corpus = Corpus::new(&counts, &['a', 'b', 'd', 'n']);
        let found: HashMap<String, u64> =
            seeds(&corpus, 16, 100).iter().map(|seed| (corpus.text(*seed), seed.count)).collect();
        // Every substring, counted plainly.
        let mut expected: HashMap<String, u64> = HashMap::new();
        for (word, count) in words {
            for start in 0..word.len() {
                for end in start + 2..=word.len() {
                    *expected.entry(word[start..end].to_owned()).or_default() += count;
                }
            }
        }
        for (text, count) in &found {
            assert_eq!(expected[text], *count, "{text}");
        }
        for (text, count) in &expected {
            // What is missing occurs once, or is the beginning of something that occurs as often.
            let goes_on = found.iter().any(|(other, n)| other.starts_with(text.as_str()) && n == count);
            assert!(found.contains_key(text) || *count < 2 || goes_on, "{text}: {count}");
        }
        assert!(found.contains_key("banana") && found.contains_key("ana"));
    }
}
