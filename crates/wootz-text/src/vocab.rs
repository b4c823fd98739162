//! A plain vocabulary, as GGUF files carry it: tokens, scores, types, merges, special ids.
//!
//! Where:  filled by `wootz-model` from a GGUF's `tokenizer.ggml.*` keys; `Tokenizer::from_vocab` makes it work.
//! Idea:   words know no file formats of weights: this is the hand-over, all fields public, checked when used.
//! Source: ggml's `docs/gguf.md`, section "Tokenizer"; llama.cpp's reader for defaults.

use crate::TokenId;

/// The contents of `tokenizer.ggml.*`. Fields that a file lacks stay empty or `None`, which means the kind's default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vocab {
    /// `tokenizer.ggml.model`.
    pub kind: VocabKind,
    /// `tokenizer.ggml.pre`: names the pre-tokenizer of byte-level BPE (`llama-bpe`, `qwen2` …).
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`; a token's index is its id.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`: empty or one per token.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.token_type`: empty (all normal) or one per token.
    pub types: Vec<TokenType>,
    /// `tokenizer.ggml.merges`: two tokens with a space between, most urgent first.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`: start of a text.
    pub bos: Option<TokenId>,
    /// `tokenizer.ggml.eos_token_id`: end of a text.
    pub eos: Option<TokenId>,
    /// `tokenizer.ggml.eot_token_id`: end of a turn; generation ends here too.
    pub eot: Option<TokenId>,
    /// `tokenizer.ggml.eom_token_id`: end of a message that calls a tool.
    pub eom: Option<TokenId>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<TokenId>,
    /// `tokenizer.ggml.seperator_token_id` (spelled so).
    pub sep: Option<TokenId>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<TokenId>,
    /// `tokenizer.ggml.cls_token_id`; llama.cpp uses BOS in its place.
    pub cls: Option<TokenId>,
    /// `tokenizer.ggml.mask_token_id`.
    pub mask: Option<TokenId>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_sep_token`.
    pub add_sep: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.ggml.remove_extra_whitespaces`.
    pub remove_extra_whitespaces: Option<bool>,
    /// `tokenizer.ggml.precompiled_charsmap`: SentencePiece's normalization table.
    pub precompiled_charsmap: Vec<u8>,
}

/// Which algorithm a vocabulary is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VocabKind {
    /// `llama`: SentencePiece BPE, merges by score, bytes as `<0x41>`.
    #[default]
    SentencePiece,
    /// `gpt2`: byte-level BPE with merges.
    Bpe,
    /// `bert`: WordPiece; words begin with `▁`.
    WordPiece,
    /// `t5`: SentencePiece Unigram.
    Unigram,
}

impl VocabKind {
    /// From the value of `tokenizer.ggml.model`.
    pub fn from_ggml(model: &str) -> Option<Self> {
        Some(match model {
            "llama" => Self::SentencePiece,
            "gpt2" => Self::Bpe,
            "bert" => Self::WordPiece,
            "t5" => Self::Unigram,
            _ => return None,
        })
    }

    /// The value of `tokenizer.ggml.model`.
    pub fn as_ggml(self) -> &'static str {
        match self {
            Self::SentencePiece => "llama",
            Self::Bpe => "gpt2",
            Self::WordPiece => "bert",
            Self::Unigram => "t5",
        }
    }
}

/// What a token is, `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TokenType {
    /// A piece of text.
    #[default]
    Normal,
    /// Stands for what cannot be encoded.
    Unknown,
    /// Has a meaning instead of a text: BOS, EOS, end of turn.
    Control,
    /// Added by the user; text that is matched before anything else.
    UserDefined,
    /// A hole in the numbering.
    Unused,
    /// One byte, spelled `<0x41>`.
    Byte,
}

impl TokenType {
    /// From GGUF's number, 1 to 6.
    pub fn from_ggml(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }

    /// GGUF's number.
    pub fn as_ggml(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Unknown => 2,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
            Self::Byte => 6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ggml_numbers_and_names_go_both_ways() {
        for number in 1..=6 {
            assert_eq!(TokenType::from_ggml(number).map(TokenType::as_ggml), Some(number as i32));
        }
        assert_eq!(TokenType::from_ggml(0), None);
        for name in ["llama", "gpt2", "bert", "t5"] {
            assert_eq!(VocabKind::from_ggml(name).map(VocabKind::as_ggml), Some(name));
        }
    }
}
