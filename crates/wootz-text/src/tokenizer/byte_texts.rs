//! The bytes of every token of a byte-level vocabulary, ready to be joined.
//!
//! Where:  built with a tokenizer whose decoder only spells bytes; used by decoding, at once or token by token.
//! Idea:   all bytes lie in one buffer in the order of ids, so that decoding a token copies a range of it.
//! Elsewhere: the decoder itself is the plain twin; a test holds both against each other.

use super::Parts;
use super::decoder::{Decoder, spelled_bytes};
use crate::TokenId;

/// What each id adds to a text.
#[derive(Debug, Clone)]
pub(crate) struct ByteTexts {
    bytes: Vec<u8>,
    /// Where the bytes of each id end; they begin where those of the id before it end.
    ends: Vec<u32>,
    /// Ids of special tokens, sorted.
    special: Vec<TokenId>,
}

impl ByteTexts {
    /// `None` if tokens do more than to spell bytes.
    pub(crate) fn new(parts: &Parts, n_ids: usize) -> Option<Self> {
        if !parts.decoder.as_ref().is_some_and(Decoder::is_byte_level) {
            return None;
        }
        let mut texts = Self { bytes: Vec::new(), ends: Vec::with_capacity(n_ids), special: Vec::new() };
        for id in 0..n_ids as TokenId {
            if let Some(spelled) = parts.spelled(id) {
                texts.bytes.extend(spelled_bytes(spelled));
                texts.special.extend(parts.added.is_special(spelled).then_some(id));
            }
            texts.ends.push(u32::try_from(texts.bytes.len()).ok()?);
        }
        Some(texts)
    }

    /// The bytes of one token; none if it is unknown, or special and to be skipped.
    pub(crate) fn get(&self, id: TokenId, skip_special: bool) -> &[u8] {
        let Some(&end) = self.ends.get(id as usize) else { return &[] };
        if skip_special && self.special.binary_search(&id).is_ok() {
            return &[];
        }
        let start = (id as usize).checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..end as usize]
    }

    /// The bytes of all tokens.
    pub(crate) fn join(&self, ids: &[TokenId], skip_special: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 * ids.len());
        ids.iter().for_each(|&id| bytes.extend_from_slice(self.get(id, skip_special)));
        bytes
    }
}
