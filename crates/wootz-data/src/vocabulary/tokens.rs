//! The vocabulary while it grows.
//!
//! Where:  filled by [`bpe`](super::bpe).
//! Idea:   a token is its bytes and its length in characters; a spelling has one id.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// What begins the spelling of a token inside a word, for WordPiece.
pub(super) const INSIDE: &str = "##";

/// Tokens by id.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    texts: Vec<Box<[u8]>>,
    /// Characters of each, or bytes of a byte-level vocabulary.
    lens: Vec<u32>,
    ids: HashMap<Box<[u8]>, u32, RandomState>,
}

impl Tokens {
    /// The id of a spelling, new or known.
    pub(super) fn add(&mut self, text: &[u8], len: u32) -> u32 {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = self.texts.len() as u32;
        self.texts.push(text.into());
        self.lens.push(len);
        self.ids.insert(text.into(), id);
        id
    }

    /// The token that two make; what marks the right one as inside of a word is left out.
    pub(super) fn join(&mut self, left: u32, right: u32, mark: &str) -> u32 {
        let (first, second) = (&self.texts[left as usize], &self.texts[right as usize]);
        let second = second.strip_prefix(mark.as_bytes()).unwrap_or(second);
        let text = [first, second].concat();
        self.add(&text, self.len_of(left) + self.len_of(right))
    }

    /// A token's length.
    pub(super) fn len_of(&self, id: u32) -> u32 {
        self.lens[id as usize]
    }

    pub(super) fn id_of(&self, text: &[u8]) -> Option<u32> {
        self.ids.get(text).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn texts(&self) -> &[Box<[u8]>] {
        &self.texts
    }
}
