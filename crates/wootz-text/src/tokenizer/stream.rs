//! Decoding token by token, for output that appears while it is generated.
//!
//! Where:  one per choice in the engine and wherever tokens arrive singly.
//! Idea:   a byte-level tokenizer just buffers bytes up to a whole character. Others depend on neighbours (spaces before
//!         words, runs of byte tokens), so a short window is decoded again and what is new is given out.
//!
//! # Invariants
//! - All that `push` and `flush` give out, joined, is what [`Tokenizer::decode`] makes of all tokens at once, as long as
//!   the decoder never takes back text that a prefix already had (none of those in use does).

use super::Tokenizer;
use super::decoder::fallback_byte;
use crate::TokenId;

/// Turns tokens into text one at a time, never splitting a character.
#[derive(Debug, Clone, Default)]
pub struct StreamDecoder {
    skip_special: bool,
    /// Bytes of an incomplete character.
    bytes: Vec<u8>,
    /// Tokens that are decoded together; the first `n_shown` gave `shown`, which was given out.
    window: Vec<TokenId>,
    n_shown: usize,
    shown: String,
}

impl StreamDecoder {
    /// A decoder at the beginning of a text.
    pub fn new(skip_special: bool) -> Self {
        Self { skip_special, ..Self::default() }
    }

    /// The text that is certain after one more token; may be empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: TokenId) -> String {
        if let Some(texts) = &tokenizer.byte_texts {
            self.bytes.extend_from_slice(texts.get(id, self.skip_special));
            return self.complete_characters();
        }
        let Some(spelled) = tokenizer.spelled(id, self.skip_special) else { return String::new() };
        let joins_bytes = tokenizer.parts.decoder.as_ref().is_some_and(|decoder| decoder.joins_bytes());
        self.window.push(id);
        if joins_bytes && fallback_byte(spelled).is_some() {
            return String::new(); // a run of bytes is decoded as a whole
        }
        self.show(tokenizer)
    }

    /// The rest at the end of a text; incomplete characters become U+FFFD. Begins anew.
    pub fn flush(&mut self, tokenizer: &Tokenizer) -> String {
        let mut rest = String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned();
        if self.window.len() > self.n_shown {
            rest.push_str(&self.show(tokenizer));
        }
        *self = Self::new(self.skip_special);
        rest
    }

    fn show(&mut self, tokenizer: &Tokenizer) -> String {
        let text = tokenizer.decode(&self.window, self.skip_special);
        let Some(new) = text.strip_prefix(self.shown.as_str()).filter(|new| !new.is_empty()) else {
            return String::new();
        };
        let new = new.to_owned();
        // What was new becomes the context of what follows.
        self.window.drain(..self.n_shown);
        self.n_shown = self.window.len();
        self.shown = tokenizer.decode(&self.window, self.skip_special);
        new
    }

    /// Takes all bytes up to the last incomplete character; broken ones become U+FFFD as in [`String::from_utf8_lossy`].
    fn complete_characters(&mut self) -> String {
        let mut text = String::new();
        let mut done = 0;
        for chunk in self.bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let is_last = done + chunk.invalid().len() == self.bytes.len();
            if chunk.invalid().is_empty() || is_last && is_incomplete(chunk.invalid()) {
                break;
            }
            text.push('\u{fffd}');
            done += chunk.invalid().len();
        }
        self.bytes.drain(..done);
        text
    }
}

/// Whether more bytes could make this a character.
fn is_incomplete(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.error_len().is_none())
}
