//! Unigram vocabularies: many candidates, each with a probability, left out by how little they would be missed.
//!
//! Where:  called by [`learn_tokenizer`](super::learn_tokenizer).
//! Idea:   twice expectation–maximization, then a quarter of the pieces goes, until a tenth too many are left; characters
//!         stay. Words are summed in eight stretches whatever the threads, so the result does not depend on them.
//! Source: Kudo 2018, arXiv:1804.10959, §3.2; constants and the sparse prior (digamma) as in SentencePiece's trainer.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use serde_json::{Value, json};

use super::bpe::{alphabet, text_of};
use super::lexicon::{Lattice, Lexicon};
use super::seeds::{Seed, seeds};
use super::word_counts::WordCounts;
use super::{Stage, VocabularySettings, skeleton};
use crate::Error;

/// Candidates to begin with.
const MAX_SEEDS: usize = 1_000_000;
/// Longest piece, if nothing is said.
const MAX_LEN: usize = 16;
/// Share of the pieces that a round keeps.
const KEPT: f64 = 0.75;
/// Expectation–maximizations between two prunings.
const N_ITERATIONS: usize = 2;
/// A piece that is expected less often goes.
const MIN_EXPECTED: f64 = 0.5;
/// Stretches of words that are summed apart.
const N_STRETCHES: usize = 8;
/// What an unlearned character scores below the rarest piece.
const PENALTY: f64 = 1e-4;

/// Words as symbols, one after the other. A symbol is a place in the alphabet.
#[derive(Debug, Default)]
pub(super) struct Corpus {
    pub(super) symbols: Vec<u32>,
    /// Where each word begins, and at last where all end.
    starts: Vec<u32>,
    counts: Vec<u64>,
    /// The word of each symbol.
    word_of: Vec<u32>,
    alphabet: Vec<char>,
}

impl Corpus {
    /// Words cut where a character is outside the alphabet, which is ordered.
    pub(super) fn new(counts: &WordCounts, alphabet: &[char]) -> Self {
        let mut corpus = Self { alphabet: alphabet.to_vec(), starts: vec![0], ..Self::default() };
        for (word, count) in counts.iter() {
            for c in text_of(word).chars() {
                match alphabet.binary_search(&c) {
                    Ok(symbol) => corpus.symbols.push(symbol as u32),
                    Err(_) => corpus.end_word(count),
                }
            }
            corpus.end_word(count);
        }
        corpus
    }

    fn end_word(&mut self, count: u64) {
        let word = self.counts.len() as u32;
        if self.symbols.len() > self.word_of.len() {
            self.word_of.resize(self.symbols.len(), word);
            self.starts.push(self.symbols.len() as u32);
            self.counts.push(count);
        }
    }

    /// What follows at a place, to the end of its word or `max_len`.
    pub(super) fn ahead(&self, place: usize, max_len: usize) -> &[u32] {
        let end = self.starts[self.word_of[place] as usize + 1] as usize;
        &self.symbols[place..end.min(place + max_len)]
    }

    /// How often the word at a place occurs.
    pub(super) fn count_at(&self, place: usize) -> u64 {
        self.counts[self.word_of[place] as usize]
    }

    /// A candidate's text.
    #[cfg(test)]
    pub(super) fn text(&self, seed: Seed) -> String {
        self.spell(&self.symbols[seed.start as usize..][..seed.len as usize])
    }

    fn spell(&self, symbols: &[u32]) -> String {
        symbols.iter().map(|&symbol| self.alphabet[symbol as usize]).collect()
    }

    fn word(&self, number: usize) -> &[u32] {
        &self.symbols[self.starts[number] as usize..self.starts[number + 1] as usize]
    }

    /// Sums over all words: `each` gets a word, its count and the sums of its stretch.
    fn sum<T: Send>(
        &self,
        n_threads: NonZeroUsize,
        empty: impl Fn() -> T + Sync,
        each: impl Fn(&[u32], u64, &mut T) + Sync,
    ) -> Vec<T> {
        let n_words = self.counts.len();
        let stretch = |i: usize| n_words * i / N_STRETCHES..n_words * (i + 1) / N_STRETCHES;
        let sum_of = |i: usize| {
            let mut sums = empty();
            stretch(i).for_each(|word| each(self.word(word), self.counts[word], &mut sums));
            sums
        };
        let n_threads = n_threads.get().min(N_STRETCHES);
        let mut sums: Vec<(usize, T)> = std::thread::scope(|scope| {
            let sum_of = &sum_of;
            let threads: Vec<_> = (0..n_threads)
                .map(|first| {
                    let own = (first..N_STRETCHES).step_by(n_threads);
                    scope.spawn(move || own.map(|i| (i, sum_of(i))).collect::<Vec<_>>())
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("sums do not panic")).collect()
        });
        sums.sort_unstable_by_key(|sum| sum.0);
        sums.into_iter().map(|sum| sum.1).collect()
    }
}

/// A piece while it is learned.
#[derive(Debug, Clone)]
struct Piece {
    symbols: Box<[u32]>,
    logprob: f64,
}

/// The `model` of a `tokenizer.json`.
pub(super) fn learn(
    counts: &WordCounts,
    settings: &VocabularySettings,
    progress: &mut dyn FnMut(Stage),
) -> Result<Value, Error> {
    let alphabet = alphabet(counts, settings.character_coverage);
    let reserved = skeleton::reserved(settings);
    let needed = reserved.len() + alphabet.len();
    if needed > settings.vocab_size {
        let message = format!(
            "expected at least {needed}, the special tokens and the alphabet, got {}",
            settings.vocab_size
        );
        return Err(Error::setting("vocab_size", message));
    }
    let corpus = Corpus::new(counts, &alphabet);
    let goal = settings.vocab_size - reserved.len();
    let mut pieces = candidates(&corpus, settings.max_token_len.unwrap_or(MAX_LEN));
    loop {
        for _ in 0..N_ITERATIONS {
            pieces = maximize(&pieces, &expectations(&corpus, &pieces, settings.n_threads));
        }
        progress(Stage::Learning { n_tokens: pieces.len(), goal });
        if pieces.len() <= goal + goal / 10 {
            break;
        }
        pieces = prune(&corpus, &pieces, goal + goal / 10, settings.n_threads);
    }
    Ok(model(&reserved, settings, &corpus, finish(pieces, goal, alphabet.len())))
}

/// Characters and what occurs more than once.
fn candidates(corpus: &Corpus, max_len: usize) -> Vec<Piece> {
    let mut n_of = vec![0_u64; corpus.alphabet.len()];
    for (place, &symbol) in corpus.symbols.iter().enumerate() {
        n_of[symbol as usize] += corpus.count_at(place);
    }
    let characters = n_of.iter().enumerate().map(|(symbol, &n)| (Box::from([symbol as u32]), n as f64));
    let longer = seeds(corpus, max_len, MAX_SEEDS);
    let longer = longer.iter().map(|&Seed { start, len, count }| {
        let symbols = corpus.symbols[start as usize..][..len as usize].into();
        (symbols, count as f64 * f64::from(len))
    });
    let scored: Vec<(Box<[u32]>, f64)> = characters.chain(longer).collect();
    let logsum = scored.iter().map(|piece| piece.1).sum::<f64>().ln();
    scored.into_iter().map(|(symbols, n)| Piece { symbols, logprob: n.ln() - logsum }).collect()
}

fn lexicon(pieces: &[Piece]) -> Lexicon {
    let symbols: Vec<&[u32]> = pieces.iter().map(|piece| &*piece.symbols).collect();
    Lexicon::new(&symbols, pieces.iter().map(|piece| piece.logprob).collect())
}

/// How often each piece is expected in the corpus.
fn expectations(corpus: &Corpus, pieces: &[Piece], n_threads: NonZeroUsize) -> Vec<f64> {
    let lexicon = lexicon(pieces);
    let empty = || (Lattice::default(), vec![0.0; pieces.len()]);
    let sums = corpus.sum(n_threads, empty, |word, count, (lattice, expected)| {
        lexicon.expect(word, count as f64, lattice, expected);
    });
    let mut expected = vec![0.0; pieces.len()];
    for (_, sum) in sums {
        expected.iter_mut().zip(sum).for_each(|(all, part)| *all += part);
    }
    expected
}

/// New probabilities, under a prior that favours few pieces; characters stay.
fn maximize(pieces: &[Piece], expected: &[f64]) -> Vec<Piece> {
    let kept = || {
        let pieces = pieces.iter().zip(expected);
        pieces.filter(|(piece, n)| **n >= MIN_EXPECTED || piece.symbols.len() == 1)
    };
    let n_of = |n: &f64| n.max(MIN_EXPECTED);
    let logsum = digamma(kept().map(|(_, n)| n_of(n)).sum());
    kept()
        .map(|(piece, n)| Piece { symbols: piece.symbols.clone(), logprob: digamma(n_of(n)) - logsum })
        .collect()
}

/// Leaves out the pieces whose loss would make the corpus least unlikely, were each replaced by its second-best reading.
fn prune(corpus: &Corpus, pieces: &[Piece], goal: usize, n_threads: NonZeroUsize) -> Vec<Piece> {
    let lexicon = lexicon(pieces);
    let empty = || (Lattice::default(), vec![0_u64; pieces.len()]);
    let sums = corpus.sum(n_threads, empty, |word, count, (lattice, n_of)| {
        let best = lexicon.best(word, None, lattice).expect("every character is a piece");
        best.into_iter().for_each(|piece| n_of[piece as usize] += count);
    });
    let mut n_of = vec![0_u64; pieces.len()];
    for (_, sum) in sums {
        n_of.iter_mut().zip(sum).for_each(|(all, part)| *all += part);
    }
    let total = n_of.iter().sum::<u64>() as f64;
    let mut lattice = Lattice::default();
    let (mut kept, mut candidates) = (Vec::new(), Vec::new());
    for (id, piece) in pieces.iter().enumerate() {
        if piece.symbols.len() == 1 {
            kept.push(id);
            continue;
        }
        let n = n_of[id] as f64;
        let instead = lexicon.best(&piece.symbols, Some(id as u32), &mut lattice);
        let instead = instead.expect("every character is a piece");
        if n > 0.0 {
            let logsum = (total + n * (instead.len() as f64 - 1.0)).ln();
            let logprob: f64 = instead.iter().map(|&id| (n_of[id as usize] as f64 + n).ln() - logsum).sum();
            candidates.push((id, n * (n.ln() - total.ln() - logprob)));
        }
    }
    candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let n_kept = goal.max((pieces.len() as f64 * KEPT) as usize);
    kept.extend(candidates.iter().map(|candidate| candidate.0).take(n_kept.saturating_sub(kept.len())));
    kept.sort_unstable();
    kept.into_iter().map(|id| pieces[id].clone()).collect()
}

/// Exactly `goal` pieces where there are as many: all characters, then the likeliest; best first.
fn finish(mut pieces: Vec<Piece>, goal: usize, n_characters: usize) -> Vec<Piece> {
    let by_score = |a: &Piece, b: &Piece| b.logprob.total_cmp(&a.logprob).then(a.symbols.cmp(&b.symbols));
    pieces.sort_unstable_by(by_score);
    let mut n_longer = goal - n_characters;
    pieces.retain(|piece| {
        let stays = piece.symbols.len() == 1 || n_longer > 0;
        n_longer -= usize::from(piece.symbols.len() > 1 && stays);
        stays
    });
    // Characters that hardly occur by themselves come after all others, in an order.
    let lowest = pieces.iter().filter(|piece| piece.symbols.len() > 1).map(|piece| piece.logprob);
    let lowest = lowest.fold(0.0, f64::min);
    let mut n_below = 0.0;
    for piece in pieces.iter_mut().filter(|piece| piece.logprob < lowest) {
        n_below += 1.0;
        piece.logprob = lowest - n_below * PENALTY;
    }
    pieces
}

fn model(reserved: &[String], settings: &VocabularySettings, corpus: &Corpus, pieces: Vec<Piece>) -> Value {
    let learned = pieces.iter().map(|piece| (corpus.spell(&piece.symbols), piece.logprob));
    let all = reserved.iter().map(|token| (token.clone(), 0.0)).chain(learned);
    let mut ids: HashMap<String, usize> = HashMap::new();
    let mut vocab = Vec::new();
    for (text, score) in all {
        // A special token that is a single character of the corpus is there once.
        if ids.insert(text.clone(), vocab.len()).is_none() {
            vocab.push(json!([text, score]));
        }
    }
    json!({
        "type": "Unigram",
        "unk_id": ids.get(skeleton::UNKNOWN),
        "vocab": vocab,
        "byte_fallback": settings.byte_fallback,
    })
}

/// The derivative of log Γ, for x > 0, to about 1e-9.
fn digamma(mut x: f64) -> f64 {
    let mut result = 0.0;
    while x < 12.0 {
        result -= 1.0 / x;
        x += 1.0;
    }
    let y = 1.0 / (x * x);
    result + x.ln() - 0.5 / x - y * (1.0 / 12.0 - y * (1.0 / 120.0 - y * (1.0 / 252.0 - y / 240.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digamma_is_what_tables_say() {
        // Abramowitz & Stegun, table 6.1 and ψ(1/2) = −γ − 2 ln 2.
        for (x, expected) in [(1.0, -0.577_215_664_9), (0.5, -1.963_510_026_0), (2.0, 0.422_784_335_1)] {
            assert!((digamma(x) - expected).abs() < 1e-9, "{x}");
        }
        assert!((digamma(1e6) - (1e6_f64.ln() - 0.5e-6)).abs() < 1e-9);
    }
}
