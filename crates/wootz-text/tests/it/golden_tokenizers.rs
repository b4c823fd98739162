//! Tokenizers give the ids and the text that Hugging Face's `tokenizers` recorded in `golden/tokenizers`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use wootz_text::{TokenId, Tokenizer};

use crate::memory::alone;

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/tokenizers")
}

pub fn open(name: &str) -> Tokenizer {
    let bytes = std::fs::read(folder().join(format!("{name}.json"))).unwrap();
    Tokenizer::from_json(bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn texts() -> Vec<String> {
    let bytes = std::fs::read(folder().join("texts.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

pub const NAMES: [&str; 11] = [
    "bpe-llama3",
    "bpe-gpt2",
    "bpe-qwen2",
    "bpe-o200k",
    "bpe-llama2",
    "bpe-clip",
    "bpe-prefix",
    "unigram",
    "unigram-bytes",
    "wordpiece",
    "wordlevel",
];

fn check(name: &str) {
    let tokenizer = open(name);
    let rows = std::fs::read(folder().join(format!("{name}.ids.json"))).unwrap();
    let rows: Vec<Value> = serde_json::from_slice(&rows).unwrap();
    let texts = texts();
    assert_eq!(rows.len(), texts.len());
    for (row, text) in rows.iter().zip(&texts) {
        let ids: Vec<TokenId> = serde_json::from_value(row["ids"].clone()).unwrap();
        let plain: Option<Vec<TokenId>> = serde_json::from_value(row["plain"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text, true, true), ids, "{name}: {text:?}");
        assert_eq!(&tokenizer.encode(text, false, false), plain.as_ref().unwrap_or(&ids), "{name}: {text:?}");
        assert_eq!(tokenizer.decode(&ids, false), row["text"].as_str().unwrap_or(text), "{name}");
        assert_eq!(tokenizer.decode(&ids, true), row["skipped"].as_str().unwrap_or(text), "{name}");
    }
}

#[test]
fn all_kinds_agree_with_hugging_face() {
    let _alone = alone();
    NAMES.iter().for_each(|name| check(name));
}

#[test]
fn sentencepiece_models_agree_with_sentencepiece() {
    let _alone = alone();
    for name in ["sp-bpe", "sp-unigram"] {
        let bytes = std::fs::read(folder().join(format!("{name}.model"))).unwrap();
        let tokenizer = Tokenizer::from_sentencepiece(bytes).unwrap();
        let rows = std::fs::read(folder().join(format!("{name}.ids.json"))).unwrap();
        let rows: Vec<Value> = serde_json::from_slice(&rows).unwrap();
        for (row, text) in rows.iter().zip(texts()).filter(|(row, _)| !row.is_null()) {
            let ids: Vec<TokenId> = serde_json::from_value(row["ids"].clone()).unwrap();
            assert_eq!(tokenizer.encode(&text, false, false), ids, "{name}: {text:?}");
            if !ids.contains(&0) {
                assert_eq!(tokenizer.decode(&ids, false), row["text"], "{name}: {text:?}");
            }
        }
    }
}

#[test]
fn byte_level_round_trips_any_bytes() {
    let _alone = alone();
    for name in ["bpe-llama3", "bpe-o200k"] {
        let tokenizer = open(name);
        for text in texts() {
            // Tokens that swallow spaces, or match more than one spelling, are not reversible.
            if !text.contains("<l>")
                && !text.contains("<r>")
                && !text.contains("[MASK]")
                && !text.contains("nïcode")
            {
                assert_eq!(tokenizer.decode(&tokenizer.encode(&text, false, true), false), text);
            }
            let mut bytes = text.into_bytes();
            bytes.reverse(); // breaks every character of more than one byte
            let ids = tokenizer.encode_bytes(&bytes, false, false);
            if ids.iter().all(|&id| tokenizer.added_tokens().iter().all(|added| added.0 != id)) {
                assert_eq!(tokenizer.decode_bytes(&ids, false), bytes);
            }
        }
    }
}

#[test]
fn a_pair_gets_its_special_tokens_and_types() {
    let _alone = alone();
    let tokenizer = open("wordpiece");
    let (ids, types) = tokenizer.encode_pair("a", "b");
    let [a, b] = ["a", "b"].map(|text| tokenizer.encode(text, false, false)[0]);
    assert_eq!((ids, types), (vec![2, a, 3, b, 3], vec![0, 0, 0, 1, 1]));
}

#[test]
fn long_texts_without_spaces_do_not_hang() {
    let _alone = alone();
    for name in NAMES {
        let tokenizer = open(name);
        for text in
            [" ".repeat(1 << 20), "a".repeat(1 << 20), "한".repeat(1 << 18), "\u{301}".repeat(1 << 18)]
        {
            let start = std::time::Instant::now();
            let ids = tokenizer.encode(&text, true, true);
            assert!(ids.len() <= text.len() + 8);
            assert!(start.elapsed().as_secs() < 20, "{name} took {:?} for {:?}", start.elapsed(), &text[..3]);
        }
    }
}

#[test]
fn a_vocabulary_for_gguf_gives_the_same_ids() {
    let _alone = alone();
    for name in ["bpe-llama3", "bpe-qwen2", "bpe-o200k", "bpe-llama2", "wordpiece"] {
        let tokenizer = open(name);
        let vocab =
            tokenizer.to_vocab(tokenizer.vocab_size()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = Tokenizer::from_vocab(&vocab).unwrap_or_else(|error| panic!("{name}: {error}"));
        for text in texts() {
            // What GGUF does not carry: whitespace around added tokens, whole words, normalized tokens, NFC.
            let is_lost = [
                "<l>", "<r>", "[MASK]", "lone", "nïcode", "\u{301}", "\u{303}", "\u{307}", "\u{308}",
                "\u{323}",
            ];
            if is_lost.iter().any(|part| text.contains(part)) || name == "bpe-qwen2" && !text.is_ascii() {
                continue;
            }
            let (ours, theirs) = (again.encode(&text, false, false), tokenizer.encode(&text, false, false));
            assert_eq!(ours, theirs, "{name}: {text:?}");
            assert_eq!(again.decode(&ours, false), tokenizer.decode(&theirs, false), "{name}");
        }
    }
}
