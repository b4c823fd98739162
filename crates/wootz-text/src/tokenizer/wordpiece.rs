//! WordPiece and whole words: the longest known beginning, then the longest continuation, and so on.
//!
//! Where:  `model` in `tokenizer.json` (BERT and its kin), GGUF's `bert` vocabularies.
//! Idea:   greedy longest match; a word with any unknown part is unknown as a whole.
//! Source: Schuster & Nakajima 2012; Devlin et al. 2019, BERT, `tokenization.py`.

use super::table::Tokens;
use crate::TokenId;

/// A WordPiece model.
#[derive(Debug, Clone)]
pub(crate) struct WordPiece {
    /// Begins every part of a word but the first (`##`).
    pub(crate) prefix: String,
    /// Stands for an unknown word; `None`: it vanishes.
    pub(crate) unk: Option<TokenId>,
    /// Longer words are unknown.
    pub(crate) max_word_chars: usize,
    /// Longest token in bytes: no longer part needs to be tried.
    pub(crate) max_token_bytes: usize,
}

impl WordPiece {
    pub(crate) fn encode(&self, word: &str, tokens: &Tokens, out: &mut Vec<TokenId>) {
        let before = out.len();
        if word.chars().count() > self.max_word_chars || !self.encode_parts(word, tokens, out) {
            out.truncate(before);
            out.extend(self.unk);
        }
    }

    /// Whether all parts of the word are known.
    fn encode_parts(&self, word: &str, tokens: &Tokens, out: &mut Vec<TokenId>) -> bool {
        let mut start = 0;
        let mut part = String::new();
        while start < word.len() {
            part.clear();
            let n_prefix = if start > 0 { self.prefix.len() } else { 0 };
            part.push_str(&self.prefix[..n_prefix]);
            let mut end = (start + self.max_token_bytes).min(word.len());
            while !word.is_char_boundary(end) {
                end -= 1;
            }
            part.push_str(&word[start..end]);
            loop {
                if part.len() <= n_prefix {
                    return false;
                }
                if let Some(id) = tokens.id_of(&part) {
                    out.push(id);
                    start += part.len() - n_prefix;
                    break;
                }
                part.pop();
            }
        }
        true
    }
}

/// A vocabulary of whole words.
#[derive(Debug, Clone)]
pub(crate) struct WordLevel {
    /// Stands for an unknown word; `None`: it vanishes.
    pub(crate) unk: Option<TokenId>,
}

impl WordLevel {
    pub(crate) fn encode(&self, word: &str, tokens: &Tokens, out: &mut Vec<TokenId>) {
        out.extend(tokens.id_of(word).or(self.unk));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_part_wins_and_one_unknown_part_spoils_the_word() {
        let words = ["[UNK]", "un", "##aff", "##able", "##a"];
        let mut tokens = Tokens::default();
        words.iter().enumerate().for_each(|(id, word)| tokens.push(word, id as TokenId).unwrap());
        let model = WordPiece { prefix: "##".into(), unk: Some(0), max_word_chars: 20, max_token_bytes: 6 };
        let check = |word: &str, expected: &[TokenId]| {
            let mut out = Vec::new();
            model.encode(word, &tokens, &mut out);
            assert_eq!(out, expected, "{word}");
        };
        check("unaffable", &[1, 2, 3]);
        check("una", &[1, 4]);
        check("unx", &[0]);
        check(&"un".repeat(11), &[0]);
    }
}
