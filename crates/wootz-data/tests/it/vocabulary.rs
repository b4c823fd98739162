//! Tokenizers learned here beside those that Hugging Face `tokenizers` learned from the same texts.

use std::num::NonZeroUsize;

use serde_json::Value;
use wootz_data::{Algorithm, Cut, Error, Learned, VocabularySettings, learn_tokenizer};

use crate::golden;

fn texts() -> Vec<String> {
    serde_json::from_slice(&std::fs::read(golden("tokenizers/texts.json")).unwrap()).unwrap()
}

fn settings(algorithm: Algorithm, cut: Cut, vocab_size: usize, special: &[&str]) -> VocabularySettings {
    VocabularySettings {
        algorithm,
        vocab_size,
        cut,
        min_count: 2,
        max_token_len: None,
        special_tokens: special.iter().map(|&token| token.to_owned()).collect(),
        byte_fallback: false,
        character_coverage: 1.0,
        lowercase: false,
        max_words: 1 << 20,
        n_threads: NonZeroUsize::new(2).unwrap(),
    }
}

fn learn(texts: &[String], settings: &VocabularySettings) -> Result<Learned, Error> {
    learn_tokenizer(texts.iter().cloned().map(Ok), settings, &mut |_| ())
}

#[test]
fn merges_are_those_of_hugging_face() {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(golden("vocabulary/merges.json")).unwrap()).unwrap();
    for (name, cut) in
        [("gpt2", Cut::Gpt2), ("llama3", Cut::Llama3), ("qwen2", Cut::Qwen2), ("o200k", Cut::O200k)]
    {
        let learned = learn(&texts(), &settings(Algorithm::Bpe, cut, 900, &["<|nothing|>"])).unwrap();
        let json: Value = serde_json::from_slice(&learned.json).unwrap();
        assert_eq!(json["model"]["merges"], expected[name], "{name}");
        assert_eq!(learned.tokenizer.vocab_size(), 257 + expected[name].as_array().unwrap().len());
    }
    let plain: Vec<String> = texts().into_iter().filter(|text| !text.contains("<unk>")).collect();
    let learned = learn(&plain, &settings(Algorithm::Bpe, Cut::Metaspace, 2000, &["<unk>"])).unwrap();
    let json: Value = serde_json::from_slice(&learned.json).unwrap();
    assert_eq!(json["model"]["merges"], expected["spaces"]);
}

#[test]
fn what_is_learned_depends_on_neither_threads_nor_order() {
    let mut reversed = texts();
    reversed.reverse();
    for (algorithm, cut) in [
        (Algorithm::Bpe, Cut::Llama3),
        (Algorithm::Unigram, Cut::Metaspace),
        (Algorithm::WordPiece, Cut::Bert),
    ] {
        let mut settings = settings(algorithm, cut, 2200, &["<s>"]);
        let first = learn(&texts(), &settings).unwrap();
        settings.n_threads = NonZeroUsize::new(5).unwrap();
        let second = learn(&reversed, &settings).unwrap();
        assert!(first.json == second.json, "{algorithm:?}");
    }
}

#[test]
fn texts_come_back_from_what_was_learned() {
    let texts = texts();
    let mut bytes = settings(Algorithm::Unigram, Cut::Metaspace, 2400, &["<unk>"]);
    (bytes.byte_fallback, bytes.character_coverage) = (true, 0.98);
    for settings in [
        settings(Algorithm::Bpe, Cut::O200k, 700, &["<|endoftext|>"]),
        settings(Algorithm::Unigram, Cut::Metaspace, 2200, &["<unk>", "<s>"]),
        bytes,
        settings(Algorithm::WordPiece, Cut::Bert, 2400, &["[PAD]", "[UNK]", "[CLS]", "[SEP]"]),
    ] {
        let tokenizer = learn(&texts, &settings).unwrap().tokenizer;
        assert!(tokenizer.vocab_size() <= settings.vocab_size);
        for text in ["they saw a big blue sky.", "we went to the park"] {
            let ids = tokenizer.encode(text, false, false);
            let back = tokenizer.decode(&ids, false);
            assert_eq!(back.trim(), text, "{:?}", settings.algorithm);
            assert!(ids.len() < text.len() - 3, "{:?}: {} tokens", settings.algorithm, ids.len());
        }
    }
}

#[test]
fn what_cannot_be_learned_is_refused_by_name() {
    let texts = texts();
    let check = |settings: &VocabularySettings, said: &str| {
        let error = learn(&texts, settings).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    };
    check(&settings(Algorithm::Bpe, Cut::Llama3, 200, &["<s>"]), "`vocab_size`: expected at least 257");
    check(
        &settings(Algorithm::Unigram, Cut::Llama3, 2000, &["<s>"]),
        "`cut`: Llama3 does not go with Unigram",
    );
    check(&settings(Algorithm::Bpe, Cut::Llama3, 2000, &["<s>", "<s>"]), "`<s>` is there twice");
    check(&settings(Algorithm::Unigram, Cut::Metaspace, 20, &["<s>"]), "`vocab_size`: expected at least");
    let nothing = learn(&[], &settings(Algorithm::Bpe, Cut::Llama3, 2000, &["<s>"]));
    assert!(matches!(nothing, Err(Error::Empty)));
}
