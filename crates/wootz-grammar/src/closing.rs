//! The short way to the end of a document.
//!
//! Where:  a [`Guide`](crate::Guide) takes it when the tokens that are left are just enough.
//! Idea:   of what the grammar allows, end tokens come first, then brackets that close, quotes, commas, and what joins the
//!         parts of a text with a pattern. Inside a string, where brackets are allowed as letters are, they do not count. Which of them lead to the end, the grammar knows: it is only asked.
//!
//! # Invariants
//! - A closing mask is a subset of the mask, and empty only where that is.

use llguidance::toktrie::TokTrie;
use wootz_text::TokenId;

/// Tokens that lead towards the end of a JSON document.
#[derive(Debug)]
pub(crate) struct Closers {
    ends: Vec<u32>,
    /// Each kind before the next.
    brackets: Vec<u32>,
    quotes: Vec<u32>,
    commas: Vec<u32>,
    /// Characters behind which a text with a pattern goes on to its next part, such as the `@` of an address.
    joints: Vec<Vec<u32>>,
    /// Tokens that are allowed together inside a text only.
    in_string: Option<[TokenId; 2]>,
}

impl Closers {
    pub(crate) fn new(trie: &TokTrie) -> Self {
        let size = trie.vocab_size();
        let all = |is_one: &dyn Fn(TokenId) -> bool| {
            let mut words = vec![0_u32; size.div_ceil(32)];
            for id in (0..size as TokenId).filter(|&id| is_one(id)) {
                words[id as usize / 32] |= 1 << (id % 32);
            }
            words
        };
        let starts = |first: &'static [u8], rest: &'static [u8]| {
            all(&|id| match trie.token(id) {
                [byte, others @ ..] => first.contains(byte) && others.iter().all(|byte| rest.contains(byte)),
                [] => false,
            })
        };
        let both = [b"x".as_slice(), b"}"].map(|text| trie.token_id_at_bytes(text));
        Self {
            ends: all(&|id| trie.eos_tokens().contains(&id)),
            brackets: starts(b"}]", b"}]"),
            quotes: starts(b"\"", b"}]"),
            commas: starts(b",:", b", :\""),
            joints: [b"@", b":", b".", b"-", b"/"]
                .map(|joint| all(&|id| trie.token(id) == joint))
                .into_iter()
                .collect(),
            in_string: both[0].zip(both[1]).map(|(letter, bracket)| [letter, bracket]),
        }
    }

    /// Of these allowed tokens, those that lead to the end.
    pub(crate) fn narrow(&self, mask: &[u32]) -> Vec<u32> {
        let has = |id: TokenId| mask.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1);
        let is_in_string = self.in_string.is_some_and(|ids| ids.into_iter().all(has));
        let outside = |words| Some(words).filter(|_: &&Vec<u32>| !is_in_string);
        let ends = [&self.ends].into_iter().chain(outside(&self.brackets)).chain([&self.quotes]);
        let parts = outside(&self.commas).into_iter().chain(&self.joints);
        let common = |kind: &Vec<u32>| -> Vec<u32> { mask.iter().zip(kind).map(|(a, b)| a & b).collect() };
        let first = ends.chain(parts).map(common).find(|words| words.iter().any(|word| *word != 0));
        first.unwrap_or_else(|| mask.to_vec())
    }
}
