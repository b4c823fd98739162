//! Strings and their numbers, both ways, in little memory.
//!
//! Where:  the vocabulary of every tokenizer, and the pieces that BPE answers without merging.
//! Idea:   all strings lie in one buffer; a hash table of 32-bit numbers finds them. A vocabulary of 262,144 tokens takes
//!         about 7 MB instead of the 40 MB of a map of owned strings.
//!
//! # Invariants
//! - Strings are numbered from 0 in the order of insertion; no string occurs twice.
//! - `slots` is at most half full.

use super::TokenizerError;
use super::hash::{Seed, place};
use crate::TokenId;

const EMPTY: u32 = u32::MAX;
/// Most tokens of a vocabulary; the largest that are known have 901,629 and 262,144.
pub(crate) const MAX_TOKENS: usize = 1 << 20;
/// Holes that a numbering may have besides three for each token.
const MAX_HOLES: usize = 1 << 20;

/// A set of byte strings, numbered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    arena: Vec<u8>,
    ends: Vec<u32>,
    slots: Vec<u32>,
    seed: Seed,
}

impl Table {
    /// Room for so many strings with so many bytes in all.
    pub(crate) fn with_capacity(n_keys: usize, n_bytes: usize) -> Self {
        Self {
            arena: Vec::with_capacity(n_bytes),
            ends: Vec::with_capacity(n_keys),
            slots: vec![EMPTY; n_slots(n_keys)],
            seed: Seed::default(),
        }
    }

    /// The number of a string that is there.
    pub(crate) fn get(&self, key: &[u8]) -> Option<u32> {
        let number = *self.slots.get(self.find(key))?;
        (number != EMPTY).then_some(number)
    }

    /// Numbers a new string; `None` if it is there already.
    pub(crate) fn insert(&mut self, key: &[u8]) -> Option<u32> {
        if n_slots(self.ends.len() + 1) > self.slots.len() {
            self.grow();
        }
        let at = self.find(key);
        if self.slots[at] != EMPTY {
            return None;
        }
        let number = u32::try_from(self.ends.len()).ok().filter(|&number| number != EMPTY)?;
        let end = u32::try_from(self.arena.len() + key.len()).ok()?;
        self.arena.extend_from_slice(key);
        self.ends.push(end);
        self.slots[at] = number;
        Some(number)
    }

    /// The string of that number.
    pub(crate) fn key(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.arena[start as usize..self.ends[number] as usize]
    }

    /// The slot of a key, or the empty one where it would stand.
    fn find(&self, key: &[u8]) -> usize {
        let mut at = place(self.seed.hash(key), self.slots.len());
        while self.slots.get(at).is_some_and(|&number| number != EMPTY && self.key(number) != key) {
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        at
    }

    fn grow(&mut self) {
        self.slots = vec![EMPTY; n_slots((self.ends.len() * 2).max(8))];
        for number in 0..self.ends.len() as u32 {
            let at = self.find(self.key(number));
            self.slots[at] = number;
        }
    }
}

/// Slots for so many keys: half of them stay empty.
fn n_slots(n_keys: usize) -> usize {
    2 * n_keys + 2
}

/// A vocabulary: tokens as spelled, with their ids.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens {
    table: Table,
    ids: Vec<TokenId>,
    numbers: Vec<u32>,
    /// Ids whose spelling a later token has taken.
    shadowed: Vec<(TokenId, u32)>,
}

impl Tokens {
    /// Room for so many tokens with so many bytes in all.
    pub(crate) fn with_capacity(n_tokens: usize, n_bytes: usize) -> Self {
        let (table, ids) = (Table::with_capacity(n_tokens, n_bytes), Vec::with_capacity(n_tokens));
        Self { table, ids, ..Self::default() }
    }

    /// Adds a token; call [`finish`](Tokens::finish) after the last.
    ///
    /// # Errors
    /// A spelling that occurred before, or too many tokens.
    pub(crate) fn push(&mut self, text: &str, id: TokenId) -> Result<(), TokenizerError> {
        if self.ids.len() == MAX_TOKENS {
            let message = format!("expected at most {MAX_TOKENS} tokens");
            return Err(TokenizerError::field("model.vocab", message));
        }
        if self.table.insert(text.as_bytes()).is_none() {
            let before = self.table.get(text.as_bytes()).map(|number| self.ids[number as usize]);
            let message = format!("token `{}` has the ids {} and {id}", shorten(text), before.unwrap_or(id));
            return Err(TokenizerError::field("model.vocab", message));
        }
        self.ids.push(id);
        Ok(())
    }

    /// The same where spellings may occur twice: the spelling then leads to the later token.
    pub(crate) fn push_over(&mut self, text: &str, id: TokenId) {
        match self.table.get(text.as_bytes()) {
            Some(number) => {
                let shadowed = std::mem::replace(&mut self.ids[number as usize], id);
                self.shadowed.push((shadowed, number));
            }
            None => {
                self.table.insert(text.as_bytes());
                self.ids.push(id);
            }
        }
    }

    /// Builds the way back from ids.
    ///
    /// # Errors
    /// An id that two tokens share, or ids so far apart that the numbering is mostly holes.
    pub(crate) fn finish(&mut self) -> Result<(), TokenizerError> {
        let shadowed = self.shadowed.iter().map(|shadowed| shadowed.0);
        let n_ids = self.ids.iter().copied().chain(shadowed).max().map_or(0, |max| max as usize + 1);
        let limit = self.ids.len() * 4 + self.shadowed.len() + MAX_HOLES;
        if n_ids > limit {
            let message =
                format!("expected ids below {limit} for {} tokens, got {}", self.ids.len(), n_ids - 1);
            return Err(TokenizerError::field("model.vocab", message));
        }
        self.numbers = vec![EMPTY; n_ids];
        for (number, &id) in self.ids.iter().enumerate() {
            let place = &mut self.numbers[id as usize];
            if *place != EMPTY {
                let (one, other) = (text(&self.table, *place), text(&self.table, number as u32));
                let message = format!("tokens `{}` and `{}` share the id {id}", shorten(one), shorten(other));
                return Err(TokenizerError::field("model.vocab", message));
            }
            *place = number as u32;
        }
        for &(id, number) in &self.shadowed {
            self.numbers[id as usize] = number;
        }
        Ok(())
    }

    pub(crate) fn id_of(&self, text: &str) -> Option<TokenId> {
        Some(self.ids[self.table.get(text.as_bytes())? as usize])
    }

    pub(crate) fn text_of(&self, id: TokenId) -> Option<&str> {
        let number = *self.numbers.get(id as usize)?;
        (number != EMPTY).then(|| text(&self.table, number))
    }

    /// Tokens that there are.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Bytes of all tokens as spelled.
    pub(crate) fn n_bytes(&self) -> usize {
        self.table.arena.len()
    }

    /// One more than the largest id.
    pub(crate) fn n_ids(&self) -> usize {
        self.numbers.len()
    }

    /// All tokens in the order in which they were added.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TokenId, &str)> {
        self.ids.iter().enumerate().map(|(number, &id)| (id, text(&self.table, number as u32)))
    }
}

fn text(table: &Table, number: u32) -> &str {
    std::str::from_utf8(table.key(number)).expect("only text goes into a vocabulary's table")
}

/// The beginning of a text, for messages.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", text[..end].escape_debug()),
        None => text.escape_debug().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_numbers_go_both_ways() {
        let mut table = Table::default();
        for i in 0..1000_u32 {
            assert_eq!(table.insert(format!("key {i}").as_bytes()), Some(i));
        }
        assert_eq!(table.insert(b"key 7"), None);
        for i in 0..1000 {
            assert_eq!(table.get(format!("key {i}").as_bytes()), Some(i));
            assert_eq!(table.key(i), format!("key {i}").as_bytes());
        }
        assert_eq!((table.get(b"key"), Table::default().get(b"")), (None, None));
    }

    #[test]
    fn vocabularies_refuse_doubles_and_wild_numberings() {
        let build = |tokens: &[(&str, TokenId)]| {
            let mut all = Tokens::default();
            tokens.iter().try_for_each(|&(text, id)| all.push(text, id))?;
            all.finish().map(|()| all)
        };
        let good = build(&[("b", 5), ("a", 0)]).unwrap();
        assert_eq!(
            (good.id_of("b"), good.text_of(0), good.text_of(1), good.text_of(9)),
            (Some(5), Some("a"), None, None)
        );
        assert_eq!((good.len(), good.n_ids()), (2, 6));
        assert!(build(&[("a", 0), ("a", 1)]).unwrap_err().to_string().contains("ids 0 and 1"));
        assert!(build(&[("a", 0), ("b", 0)]).unwrap_err().to_string().contains("share the id 0"));
        assert!(build(&[("a", 4_000_000_000)]).unwrap_err().to_string().contains("expected ids below"));
    }
}
