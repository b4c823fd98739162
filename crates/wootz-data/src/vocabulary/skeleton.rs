//! A `tokenizer.json` without what is learned.
//!
//! Where:  read by `wootz-text` to cut the corpus, and filled when learning is done.
//! Source: the files that Hugging Face `tokenizers` writes for GPT-2, Llama 3, Llama 2, T5 and BERT.

use serde_json::{Value, json};
use wootz_text::{byte_spelling, expression_of};

use super::tokens::INSIDE;
use super::{Algorithm, Cut, VocabularySettings};

/// The token of unknown characters, where there can be any.
pub(super) const UNKNOWN: &str = "<unk>";
/// The token of words that WordPiece cannot spell.
pub(super) const UNKNOWN_WORD: &str = "[UNK]";
/// What stands for a space.
pub(super) const SPACE: char = '\u{2581}';

/// The token that stands for what the vocabulary lacks; byte-level vocabularies lack nothing.
pub(super) fn unknown(settings: &VocabularySettings) -> Option<&'static str> {
    match settings.cut {
        Cut::Metaspace => Some(UNKNOWN),
        Cut::Bert => Some(UNKNOWN_WORD),
        Cut::Gpt2 | Cut::Llama3 | Cut::Qwen2 | Cut::O200k => None,
    }
}

/// Special tokens as ids are given: the unknown one first if nobody named it, then those asked for.
pub(super) fn special(settings: &VocabularySettings) -> Vec<String> {
    let named = |token: &&str| !settings.special_tokens.iter().any(|special| special == token);
    let unknown = unknown(settings).filter(named).map(str::to_owned);
    unknown.into_iter().chain(settings.special_tokens.iter().cloned()).collect()
}

/// All tokens that are there before anything is learned: special ones, then bytes to fall back to.
pub(super) fn reserved(settings: &VocabularySettings) -> Vec<String> {
    let mut tokens = special(settings);
    if settings.byte_fallback {
        tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    }
    tokens
}

/// A tokenizer that cuts as the trained one will.
pub(super) fn untrained(settings: &VocabularySettings) -> Value {
    let reserved = reserved(settings);
    let mut vocab: serde_json::Map<String, Value> =
        reserved.iter().enumerate().map(|(id, token)| (token.clone(), Value::from(id))).collect();
    let model = match settings.algorithm {
        Algorithm::Unigram => {
            let pieces: Vec<Value> = reserved.iter().map(|token| json!([token, 0.0])).collect();
            let unk_id = reserved.iter().position(|token| token == UNKNOWN);
            json!({"type": "Unigram", "unk_id": unk_id, "vocab": pieces, "byte_fallback": settings.byte_fallback})
        }
        Algorithm::WordPiece => json!({
            "type": "WordPiece", "unk_token": UNKNOWN_WORD, "continuing_subword_prefix": INSIDE,
            "max_input_chars_per_word": 100, "vocab": vocab,
        }),
        Algorithm::Bpe => {
            if settings.cut != Cut::Metaspace {
                // With all bytes there, pieces come as they are written.
                for byte in 0..=255_u8 {
                    let id = vocab.len();
                    vocab.insert(byte_spelling(&[byte]), Value::from(id));
                }
            }
            json!({
                "type": "BPE", "unk_token": unknown(settings), "byte_fallback": settings.byte_fallback,
                "vocab": vocab, "merges": [],
            })
        }
    };
    with_model(settings, model)
}

/// The whole file around a model.
pub(super) fn with_model(settings: &VocabularySettings, model: Value) -> Value {
    let added: Vec<Value> = special(settings)
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": normalizer(settings),
        "pre_tokenizer": pre_tokenizer(settings.cut),
        "post_processor": null,
        "decoder": decoder(settings),
        "model": model,
    })
}

fn normalizer(settings: &VocabularySettings) -> Value {
    match (settings.cut, settings.algorithm) {
        (Cut::Bert, _) => json!({
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": settings.lowercase,
        }),
        (Cut::Metaspace, Algorithm::Unigram) => json!({"type": "NFKC"}),
        _ => Value::Null,
    }
}

fn pre_tokenizer(cut: Cut) -> Value {
    let by = |name| {
        let regex = expression_of(name).expect("a name that wootz-text knows");
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]})
    };
    match cut {
        Cut::Gpt2 => {
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})
        }
        Cut::Llama3 => by("llama3"),
        Cut::Qwen2 => by("qwen2"),
        Cut::O200k => by("o200k"),
        Cut::Metaspace => metaspace(),
        Cut::Bert => json!({"type": "BertPreTokenizer"}),
    }
}

fn metaspace() -> Value {
    json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": true})
}

fn decoder(settings: &VocabularySettings) -> Value {
    match settings.cut {
        Cut::Bert => json!({"type": "WordPiece", "prefix": INSIDE, "cleanup": true}),
        Cut::Metaspace if settings.byte_fallback => json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]}),
        Cut::Metaspace => metaspace(),
        Cut::Gpt2 | Cut::Llama3 | Cut::Qwen2 | Cut::O200k => {
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})
        }
    }
}
