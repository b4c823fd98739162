//! Byte-pair encoding, over bytes or characters; WordPiece is the same with another spelling.
//!
//! Where:  called by [`learn_tokenizer`](super::learn_tokenizer).
//! Idea:   ids are given in this order: special tokens, single bytes where they stand for unknown characters, the alphabet
//!         by code point, what merges make.
//! Source: Hugging Face `tokenizers`, `BpeTrainer` and `WordPieceTrainer`. Elsewhere: [`merges`](super::merges).

use std::collections::HashMap;

use serde_json::{Value, json};
use wootz_text::byte_spelling;

use super::merges::{Learner, Words};
use super::tokens::{INSIDE, Tokens};
use super::word_counts::WordCounts;
use super::{Algorithm, Cut, Stage, VocabularySettings, skeleton};
use crate::Error;

/// How many merges lie between two reports of progress.
const REPORT_EVERY: usize = 256;

/// The `model` of a `tokenizer.json`.
pub(super) fn learn(
    counts: WordCounts,
    settings: &VocabularySettings,
    progress: &mut dyn FnMut(Stage),
) -> Result<Value, Error> {
    let mut tokens = Tokens::default();
    for token in skeleton::reserved(settings) {
        tokens.add(token.as_bytes(), token.chars().count() as u32);
    }
    let words = match settings.cut {
        Cut::Metaspace | Cut::Bert => of_characters(&counts, settings, &mut tokens)?,
        Cut::Gpt2 | Cut::Llama3 | Cut::Qwen2 | Cut::O200k => of_bytes(&counts, &mut tokens)?,
    };
    drop(counts);
    if tokens.len() > settings.vocab_size {
        let message = format!(
            "expected at least {}, the special tokens and the alphabet, got {}",
            tokens.len(),
            settings.vocab_size
        );
        return Err(Error::setting("vocab_size", message));
    }
    let merges = merge(words, settings, &mut tokens, progress);
    Ok(model(settings, &tokens, &merges))
}

/// Words of bytes. An alphabet spelled in GPT-2's characters is ordered by them.
fn of_bytes(counts: &WordCounts, tokens: &mut Tokens) -> Result<Words, Error> {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.sort_by_key(|&byte| byte_spelling(&[byte]));
    let mut ids = [0; 256];
    bytes.into_iter().for_each(|byte| ids[usize::from(byte)] = tokens.add(&[byte], 1));
    let mut words = Words::default();
    for (word, count) in counts.iter() {
        if !words.push(word.iter().map(|&byte| ids[usize::from(byte)]), count) {
            return Err(too_large());
        }
    }
    Ok(words)
}

fn of_characters(
    counts: &WordCounts,
    settings: &VocabularySettings,
    tokens: &mut Tokens,
) -> Result<Words, Error> {
    let alphabet = alphabet(counts, settings.character_coverage);
    alphabet.iter().for_each(|c| _ = tokens.add(c.encode_utf8(&mut [0; 4]).as_bytes(), 1));
    let marks = settings.algorithm == Algorithm::WordPiece;
    if marks {
        alphabet.iter().for_each(|c| _ = tokens.add(format!("{INSIDE}{c}").as_bytes(), 1));
    }
    let mut words = Words::default();
    let mut symbols = Vec::new();
    for (word, count) in counts.iter() {
        symbols.clear();
        // A character outside the alphabet ends a word: no token may join what stands on its sides.
        let mut fits = true;
        for (at, c) in text_of(word).char_indices() {
            let mut spelled = [0; 4];
            let id = match c.encode_utf8(&mut spelled) {
                c if marks && at > 0 => tokens.id_of(format!("{INSIDE}{c}").as_bytes()),
                c => tokens.id_of(c.as_bytes()),
            };
            match id {
                Some(id) => symbols.push(id),
                None => fits &= words.push(symbols.drain(..), count),
            }
        }
        if !(fits & words.push(symbols.drain(..), count)) {
            return Err(too_large());
        }
    }
    Ok(words)
}

/// The commonest characters that together cover a share of all, by code point.
pub(super) fn alphabet(counts: &WordCounts, coverage: f64) -> Vec<char> {
    let mut n_of: HashMap<char, u64> = HashMap::new();
    for (word, count) in counts.iter() {
        text_of(word).chars().for_each(|c| *n_of.entry(c).or_default() += count);
    }
    let goal = n_of.values().sum::<u64>() as f64 * coverage;
    let mut by_count: Vec<(char, u64)> = n_of.into_iter().collect();
    by_count.sort_unstable_by_key(|&(c, n)| (std::cmp::Reverse(n), c));
    let mut covered = 0;
    let needed = by_count.iter().take_while(|(_, n)| {
        let is_needed = (covered as f64) < goal;
        covered += n;
        is_needed
    });
    let mut alphabet: Vec<char> = needed.map(|&(c, _)| c).collect();
    alphabet.sort_unstable();
    alphabet
}

/// Pieces come from texts, so they are text.
pub(super) fn text_of(word: &[u8]) -> &str {
    std::str::from_utf8(word).expect("pieces are cut between characters")
}

fn too_large() -> Error {
    Error::setting("max_words", "expected pieces of less than 4 billion symbols together, got more")
}

/// Pairs that became tokens, in order.
fn merge(
    words: Words,
    settings: &VocabularySettings,
    tokens: &mut Tokens,
    progress: &mut dyn FnMut(Stage),
) -> Vec<(u32, u32)> {
    let mark = if settings.algorithm == Algorithm::WordPiece { INSIDE } else { "" };
    let max_len = settings.max_token_len.map_or(u32::MAX, |len| len.try_into().unwrap_or(u32::MAX));
    let mut learner = Learner::new(words, settings.min_count);
    let mut merges: Vec<(u32, u32)> = Vec::new();
    let mut known = std::collections::HashSet::new();
    while tokens.len() < settings.vocab_size {
        let Some((left, right, _)) = learner.commonest() else { break };
        if tokens.len_of(left).saturating_add(tokens.len_of(right)) > max_len {
            learner.forget(left, right);
            continue;
        }
        let result = tokens.join(left, right, mark);
        learner.merge(left, right, result);
        if known.insert((left, right)) {
            merges.push((left, right));
        }
        if merges.len().is_multiple_of(REPORT_EVERY) {
            progress(Stage::Learning { n_tokens: tokens.len(), goal: settings.vocab_size });
        }
    }
    progress(Stage::Learning { n_tokens: tokens.len(), goal: settings.vocab_size });
    merges
}

fn model(settings: &VocabularySettings, tokens: &Tokens, merges: &[(u32, u32)]) -> Value {
    let n_reserved = skeleton::reserved(settings).len();
    let in_bytes = !matches!(settings.cut, Cut::Metaspace | Cut::Bert);
    let spelled: Vec<String> = tokens
        .texts()
        .iter()
        .enumerate()
        .map(|(id, text)| match in_bytes && id >= n_reserved {
            true => byte_spelling(text),
            false => text_of(text).to_owned(),
        })
        .collect();
    let vocab: serde_json::Map<String, Value> =
        spelled.iter().enumerate().map(|(id, text)| (text.clone(), Value::from(id))).collect();
    if settings.algorithm == Algorithm::WordPiece {
        return json!({
            "type": "WordPiece",
            "unk_token": skeleton::UNKNOWN_WORD,
            "continuing_subword_prefix": INSIDE,
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        });
    }
    let pair = |&(left, right): &(u32, u32)| json!([spelled[left as usize], spelled[right as usize]]);
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": skeleton::unknown(settings),
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": settings.cut == Cut::Metaspace,
        "byte_fallback": settings.byte_fallback,
        "ignore_merges": false,
        "vocab": vocab,
        "merges": merges.iter().map(pair).collect::<Vec<_>>(),
    })
}
