//! The four algorithms that turn a piece of text into tokens.
//!
//! Where:  `model` in `tokenizer.json`, and whatever GGUF and SentencePiece files describe.
//! Idea:   one enum; the vocabulary lies beside it and is shared.

use super::bpe::{Bpe, Scratch};
use super::table::Tokens;
use super::unigram::Unigram;
use super::wordpiece::{WordLevel, WordPiece};
use crate::TokenId;

/// How pieces become tokens.
#[derive(Debug, Clone)]
pub(crate) enum Model {
    Bpe(Bpe),
    Unigram(Unigram),
    WordPiece(WordPiece),
    WordLevel(WordLevel),
}

impl Model {
    /// Appends the tokens of one piece.
    pub(crate) fn encode(&self, piece: &str, tokens: &Tokens, scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        match self {
            Self::Bpe(model) => model.encode(piece, tokens, scratch, out),
            Self::Unigram(model) => model.encode(piece, tokens, out),
            Self::WordPiece(model) => model.encode(piece, tokens, out),
            Self::WordLevel(model) => model.encode(piece, tokens, out),
        }
    }
}
