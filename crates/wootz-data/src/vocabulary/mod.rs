//! Tokenizers learned from a corpus: BPE, Unigram, WordPiece.
//!
//! Where:  called by `wootz tokenizer train`.
//! Idea:   an untrained tokenizer ([`skeleton`]) cuts texts into pieces, exactly as the trained one will; pieces are counted by
//!         all threads; the algorithm sees counted pieces alone, in an order that no thread decides; what it learned fills the
//!         skeleton, a `tokenizer.json`.
//! Source: Hugging Face `tokenizers` 0.23, whose merges byte-level BPE gives.

mod bpe;
mod lexicon;
mod merges;
mod seeds;
mod skeleton;
mod tokens;
mod unigram;
mod word_counts;

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use wootz_text::Tokenizer;

use self::word_counts::WordCounts;
use crate::Error;

/// Bytes of text that a thread counts at a time.
const BATCH_BYTES: usize = 1 << 18;
/// Most tokens of a vocabulary.
const MAX_VOCAB: usize = 4 << 20;

/// How a vocabulary is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Byte-pair encoding: the commonest pair becomes a token. Sennrich et al. 2016.
    Bpe,
    /// A distribution over pieces, pruned from many to few. Kudo 2018, arXiv:1804.10959.
    Unigram,
    /// BPE whose tokens inside a word begin with `##`, read greedily. Schuster & Nakajima 2012.
    WordPiece,
}

/// How texts are cut and spelled before anything is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// By GPT-2's expression, in bytes
    Gpt2,
    /// By Llama 3's expression, in bytes
    Llama3,
    /// By Qwen2's expression (single digits), in bytes
    Qwen2,
    /// By the expression of GPT-4o, in bytes
    O200k,
    /// At spaces, which become `▁`, in characters, as SentencePiece does
    Metaspace,
    /// At spaces and punctuation, in characters, as BERT does
    Bert,
}

/// What to learn.
#[derive(Debug, Clone, PartialEq)]
pub struct VocabularySettings {
    /// BPE, Unigram or WordPiece
    pub algorithm: Algorithm,
    /// Tokens in all, special tokens and alphabet included
    pub vocab_size: usize,
    /// How texts are cut; BPE takes all but [`Cut::Bert`], Unigram [`Cut::Metaspace`], WordPiece [`Cut::Bert`]
    pub cut: Cut,
    /// Pairs that occur less often are not joined (BPE, WordPiece)
    pub min_count: u64,
    /// Most characters of a token, bytes for byte-level vocabularies; 16 for Unigram if `None`
    pub max_token_len: Option<usize>,
    /// Special tokens, which get the first ids, in order
    pub special_tokens: Vec<String>,
    /// Whether characters outside the vocabulary become tokens of single bytes (`Cut::Metaspace`)
    pub byte_fallback: bool,
    /// Share of all characters of the corpus that the alphabet covers, where it is one of characters
    pub character_coverage: f64,
    /// Whether texts are made lower-case (`Cut::Bert`)
    pub lowercase: bool,
    /// Different pieces held in memory; beyond them the rarest are forgotten
    pub max_words: usize,
    /// Threads that count
    pub n_threads: NonZeroUsize,
}

/// What is being done, for progress.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stage {
    /// Texts are read and counted
    Counting {
        /// Bytes of text so far
        bytes: u64,
    },
    /// Tokens are added (BPE, WordPiece) or pieces left out (Unigram)
    Learning {
        /// Tokens there are
        n_tokens: usize,
        /// Tokens there will be
        goal: usize,
    },
}

/// A tokenizer that was learned.
#[derive(Debug, Clone)]
pub struct Learned {
    /// `tokenizer.json`
    pub json: Vec<u8>,
    /// The same, ready for use
    pub tokenizer: Tokenizer,
    /// What it was learned from
    pub stats: LearnedStats,
}

/// Numbers of a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LearnedStats {
    /// Texts
    pub n_texts: u64,
    /// Bytes of them
    pub n_bytes: u64,
    /// Different pieces
    pub n_words: usize,
    /// Occurrences of pieces that were forgotten for want of room
    pub n_forgotten: u64,
}

/// Learns a tokenizer from texts.
///
/// The result depends on the texts' contents alone, not on threads or order, unless pieces had to be forgotten.
///
/// # Errors
/// A setting out of its range, a text that cannot be read, a corpus without text, a vocabulary smaller than its alphabet.
pub fn learn_tokenizer(
    texts: impl Iterator<Item = Result<String, Error>>,
    settings: &VocabularySettings,
    progress: &mut dyn FnMut(Stage),
) -> Result<Learned, Error> {
    check(settings)?;
    let untrained = Tokenizer::from_json(skeleton::untrained(settings).to_string().into_bytes())?;
    let (mut words, mut stats) = count(texts, &untrained, settings, progress)?;
    if words.len() == 0 {
        return Err(Error::Empty);
    }
    words.sort();
    (stats.n_words, stats.n_forgotten) = (words.len(), words.n_forgotten());
    let model: Value = match settings.algorithm {
        Algorithm::Bpe | Algorithm::WordPiece => bpe::learn(words, settings, progress)?,
        Algorithm::Unigram => unigram::learn(&words, settings, progress)?,
    };
    let json = skeleton::with_model(settings, model);
    let json = serde_json::to_vec_pretty(&json).expect("a value without maps of odd keys is JSON");
    let tokenizer = Tokenizer::from_json(json.clone())?;
    Ok(Learned { json, tokenizer, stats })
}

fn check(settings: &VocabularySettings) -> Result<(), Error> {
    let VocabularySettings { algorithm, cut, vocab_size, .. } = *settings;
    if !(1..=MAX_VOCAB).contains(&vocab_size) {
        return Err(Error::setting("vocab_size", format!("expected 1 to {MAX_VOCAB}, got {vocab_size}")));
    }
    let fits = match algorithm {
        Algorithm::Bpe => cut != Cut::Bert,
        Algorithm::Unigram => cut == Cut::Metaspace,
        Algorithm::WordPiece => cut == Cut::Bert,
    };
    if !fits {
        return Err(Error::setting("cut", format!("{cut:?} does not go with {algorithm:?}")));
    }
    if settings.byte_fallback && cut != Cut::Metaspace {
        let message = "goes with texts cut at spaces alone: byte-level vocabularies have all bytes anyway";
        return Err(Error::setting("byte_fallback", message));
    }
    if !(0.0..=1.0).contains(&settings.character_coverage) || settings.character_coverage == 0.0 {
        let got = settings.character_coverage;
        return Err(Error::setting(
            "character_coverage",
            format!("expected more than 0 and at most 1, got {got}"),
        ));
    }
    if settings.max_token_len == Some(0) {
        return Err(Error::setting("max_token_len", "expected at least 1, got 0"));
    }
    let mut special: Vec<&String> = settings.special_tokens.iter().collect();
    special.sort();
    if let Some(pair) = special.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::setting("special_tokens", format!("`{}` is there twice", pair[0])));
    }
    if special.iter().any(|token| token.is_empty()) {
        return Err(Error::setting("special_tokens", "expected a text, got an empty one"));
    }
    Ok(())
}

/// Counts the pieces of all texts: this thread reads, the others cut and count.
fn count(
    texts: impl Iterator<Item = Result<String, Error>>,
    untrained: &Tokenizer,
    settings: &VocabularySettings,
    progress: &mut dyn FnMut(Stage),
) -> Result<(WordCounts, LearnedStats), Error> {
    let n_threads = settings.n_threads.get();
    let max_words = (settings.max_words / n_threads).max(1);
    let (sender, receiver) = sync_channel::<Vec<String>>(2 * n_threads);
    let receiver = Arc::new(Mutex::new(receiver));
    let mut stats = LearnedStats { n_texts: 0, n_bytes: 0, n_words: 0, n_forgotten: 0 };
    let counts = std::thread::scope(|scope| {
        let counters: Vec<_> = (0..n_threads)
            .map(|_| {
                let receiver = Arc::clone(&receiver);
                scope.spawn(move || count_batches(&receiver, untrained, max_words))
            })
            .collect();
        let mut batch = Vec::new();
        let (mut n_bytes, mut error) = (0, None);
        for text in texts {
            let text = match text {
                Ok(text) => text,
                Err(failed) => {
                    error = Some(failed);
                    break;
                }
            };
            (stats.n_texts, stats.n_bytes) = (stats.n_texts + 1, stats.n_bytes + text.len() as u64);
            n_bytes += text.len();
            batch.push(text);
            if n_bytes >= BATCH_BYTES {
                n_bytes = 0;
                sender.send(std::mem::take(&mut batch)).expect("counters live until the sender is gone");
                progress(Stage::Counting { bytes: stats.n_bytes });
            }
        }
        sender.send(batch).expect("counters live until the sender is gone");
        drop(sender);
        progress(Stage::Counting { bytes: stats.n_bytes });
        let mut all = WordCounts::default();
        for counter in counters {
            let counts = counter.join().expect("counting does not panic");
            if all.len() == 0 { all = counts } else { all.absorb(&counts) }
        }
        error.map_or(Ok(all), Err)
    })?;
    Ok((counts, stats))
}

fn count_batches(
    receiver: &Mutex<Receiver<Vec<String>>>,
    tokenizer: &Tokenizer,
    max_words: usize,
) -> WordCounts {
    let mut counts = WordCounts::default();
    loop {
        let batch = receiver.lock().expect("nobody panics while receiving").recv();
        let Ok(batch) = batch else { return counts };
        for text in batch {
            tokenizer.each_piece(&text, |piece| counts.add(piece.as_bytes(), 1));
        }
        counts.keep_at_most(max_words);
    }
}
