//! Byte-pair encoding: pairs of neighbours are merged, most urgent pair first.
//!
//! Where:  `model` in `tokenizer.json`, SentencePiece BPE and GGUF's `llama` and `gpt2` vocabularies.
//! Idea:   a piece that is a token is looked up as a whole. Any other becomes a row of symbols, and a table tells each
//!         mergeable pair's rank and result. Short rows look for the best pair in a loop over their ranks, long ones keep a
//!         heap, so that a megabyte without a space costs O(n log n).
//! Source: Sennrich et al. 2016; Hugging Face `tokenizers`, `models/bpe`, for prefixes, suffixes and the unknown.
//!
//! # Invariants
//! - Both ways of merging take the pair of lowest rank, the leftmost among equals.
//! - `words` holds only tokens that encoding their own bytes would give, or all if merges do not matter for tokens.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::byte_level;
use super::hash::{Seed, place};
use super::pairs::{Merge, Pairs};
use super::table::{Table, Tokens};
use super::words::{MAX_KEY_BYTES, Words, middle_key};
use crate::TokenId;

/// Rows up to this length are merged in a loop.
const SHORT: usize = 64;

/// A trained byte-pair encoding.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bpe {
    /// What a piece's characters (or bytes) are at first.
    symbols: Symbols,
    merges: Pairs,
    /// What the symbols of two neighbouring bytes become, by both bytes; empty unless symbols are bytes.
    byte_merges: Vec<Option<Merge>>,
    /// Pieces that are answered without merging.
    words: Words,
    /// Symbols from here on are characters that are no tokens; they only exist to be merged.
    first_pseudo: TokenId,
    /// What such a symbol becomes if it is left over.
    leftovers: HashMap<TokenId, Vec<TokenId>>,
}

/// Memory that encoding one text works in, used again for every piece.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    row: Vec<TokenId>,
    links: Vec<Link>,
    heap: Vec<Reverse<u64>>,
    recent: Vec<Recent>,
    n_recent: usize,
    seed: Seed,
}

/// A piece that was merged before: where its tokens stand in the output. The key 0 stands for none.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    key: u128,
    start: u32,
    len: u32,
}

/// Most pieces that are remembered, and bytes of text for each: a short text remembers few.
const MAX_RECENT: usize = 1 << 13;
const BYTES_PER_RECENT: usize = 16;

impl Scratch {
    /// For one text of `n_bytes`, whose tokens are only ever appended to one output.
    pub(crate) fn for_text(n_bytes: usize) -> Self {
        Self { n_recent: (n_bytes / BYTES_PER_RECENT).min(MAX_RECENT), ..Self::default() }
    }
}

/// The first symbols of a piece.
#[derive(Debug, Clone)]
pub(crate) enum Symbols {
    /// One per byte; a byte without a token vanishes.
    Bytes(Box<[Option<TokenId>; 256]>),
    /// One per character.
    Chars(Box<CharSymbols>),
}

impl Default for Symbols {
    fn default() -> Self {
        Self::Chars(Box::default())
    }
}

/// How characters become symbols.
#[derive(Debug, Clone, Default)]
pub(crate) struct CharSymbols {
    /// Characters that are no tokens but parts of some.
    pub(crate) pseudo: HashMap<char, TokenId>,
    /// Put before every character but the first.
    pub(crate) prefix: Option<String>,
    /// Put after the last character.
    pub(crate) suffix: Option<String>,
    /// Tokens of single bytes: an unknown character becomes its bytes if all of them have one.
    pub(crate) bytes: Option<Box<[Option<TokenId>; 256]>>,
    /// Stands for an unknown character; `None`: it vanishes.
    pub(crate) unk: Option<TokenId>,
    /// Whether neighbouring unknown characters are one.
    pub(crate) fuse_unk: bool,
}

impl Bpe {
    pub(crate) fn new(symbols: Symbols, merges: Pairs) -> Self {
        let byte_merges = match &symbols {
            Symbols::Chars(_) => Vec::new(),
            Symbols::Bytes(ids) => {
                let merge = |(left, right): (Option<TokenId>, Option<TokenId>)| merges.get(left?, right?);
                ids.iter().flat_map(|&left| ids.iter().map(move |&right| (left, right))).map(merge).collect()
            }
        };
        Self { symbols, merges, byte_merges, ..Self::default() }
    }

    /// With characters that are no tokens: their first symbol and what they become if they are left over.
    pub(crate) fn with_leftovers(
        self,
        first_pseudo: TokenId,
        leftovers: HashMap<TokenId, Vec<TokenId>>,
    ) -> Self {
        Self { first_pseudo, leftovers, ..self }
    }

    /// Appends the tokens of one piece.
    pub(crate) fn encode(&self, piece: &str, tokens: &Tokens, scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        if !piece.is_empty() {
            self.encode_part(piece.as_bytes(), 0, piece.len(), tokens, scratch, out);
        }
    }

    /// The same for a part of a text that is not empty, whose bytes need not be UTF-8; only byte symbols know those.
    #[inline]
    pub(crate) fn encode_part(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        tokens: &Tokens,
        scratch: &mut Scratch,
        out: &mut Vec<TokenId>,
    ) {
        match self.words.get(text, start, end) {
            Some(id) => out.push(id),
            None => self.encode_unknown(text, start, end, tokens, scratch, out),
        }
    }

    /// A piece that is no token: copied from where it was encoded before, or merged.
    #[inline(never)]
    fn encode_unknown(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        tokens: &Tokens,
        scratch: &mut Scratch,
        out: &mut Vec<TokenId>,
    ) {
        let piece = &text[start..end];
        if end - start > MAX_KEY_BYTES || scratch.n_recent == 0 {
            return self.merge(piece, tokens, scratch, out);
        }
        if scratch.recent.is_empty() {
            scratch.recent.resize(scratch.n_recent, Recent::default());
        }
        let key = middle_key(text, start, end);
        let at = place(scratch.seed.hash_words(key), scratch.n_recent);
        let recent = scratch.recent[at];
        if recent.key == key {
            return out.extend_from_within(recent.start as usize..(recent.start + recent.len) as usize);
        }
        let before = out.len();
        self.merge(piece, tokens, scratch, out);
        if let Ok(start) = u32::try_from(out.len()).map(|_| before as u32) {
            scratch.recent[at] = Recent { key, start, len: (out.len() - before) as u32 };
        }
    }

    /// Whether pieces are taken byte by byte.
    pub(crate) fn takes_bytes(&self) -> bool {
        matches!(self.symbols, Symbols::Bytes(_))
    }

    /// Fills `words`: with the tokens that their own text encodes to, or with all if the file says that merges do not
    /// matter for pieces that are tokens.
    pub(crate) fn learn_words(&mut self, tokens: &Tokens, ignores_merges: bool) {
        let mut spelled = Table::with_capacity(tokens.len(), tokens.n_bytes());
        let mut ids = Vec::with_capacity(tokens.len());
        let (mut word, mut merged, mut scratch) = (Vec::new(), Vec::new(), Scratch::default());
        for (id, token) in tokens.iter() {
            word.clear();
            if self.takes_bytes() {
                if !byte_level::push_bytes_of(token, &mut word) {
                    continue;
                }
            } else {
                word.extend_from_slice(token.as_bytes());
            }
            if !ignores_merges {
                if word.len() > SHORT {
                    continue;
                }
                merged.clear();
                self.merge(&word, tokens, &mut scratch, &mut merged);
            }
            if !word.is_empty() && (ignores_merges || merged == [id]) && spelled.insert(&word).is_some() {
                ids.push(id);
            }
        }
        self.words = Words::new(ids.iter().enumerate().map(|(number, &id)| (spelled.key(number as u32), id)));
    }

    /// Appends the tokens that merging makes of a piece.
    #[inline(never)]
    fn merge(&self, piece: &[u8], tokens: &Tokens, scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        let start = out.len();
        match &self.symbols {
            Symbols::Bytes(ids) => {
                out.extend(piece.iter().filter_map(|&byte| ids[usize::from(byte)]));
                let n_symbols = out.len() - start;
                if n_symbols == piece.len() && n_symbols <= SHORT {
                    // PERF: first merges from a table by bytes, of which few lines are ever used.
                    let first =
                        |i: usize| self.byte_merges[usize::from(piece[i]) << 8 | usize::from(piece[i + 1])];
                    let n_left = self.merge_short(&mut out[start..], first);
                    return out.truncate(start + n_left);
                }
            }
            Symbols::Chars(chars) => chars.symbols(&String::from_utf8_lossy(piece), tokens, out),
        }
        if out.len() - start <= SHORT {
            scratch.row.clear();
            scratch.row.extend_from_slice(&out[start..]);
            let first = |i: usize| self.merges.get(scratch.row[i], scratch.row[i + 1]);
            let n_left = self.merge_short(&mut out[start..], first);
            out.truncate(start + n_left);
        } else {
            self.merge_long(scratch, out, start);
        }
        if !self.leftovers.is_empty() && out[start..].iter().any(|&id| id >= self.first_pseudo) {
            let symbols = out.split_off(start);
            for id in symbols {
                match self.leftovers.get(&id) {
                    Some(ids) => out.extend(ids),
                    None => out.push(id),
                }
            }
        }
    }

    /// Looks for the best pair again and again: O(n²) with a tiny constant. `first(i)` is the merge of symbols `i` and
    /// `i + 1`. Symbols stay where they are, and a bit each says whether they live; the number of those that are left at
    /// the front of the row is returned.
    fn merge_short(&self, row: &mut [TokenId], first: impl Fn(usize) -> Option<Merge>) -> usize {
        const NONE: u32 = u32::MAX;
        const LANES: usize = 8;
        let n = row.len();
        // A pair's rank and, in the last six bits, its place: the smallest is the most urgent and leftmost.
        let (mut keys, mut ids) = ([NONE; SHORT], [0; SHORT]);
        let set = |keys: &mut [u32; SHORT], ids: &mut [TokenId; SHORT], at: usize, merge: Option<Merge>| {
            keys[at] = merge.map_or(NONE, |merge| merge.rank << 6 | at as u32);
            ids[at] = merge.map_or(0, |merge| merge.id);
        };
        (1..n).for_each(|i| set(&mut keys, &mut ids, i - 1, first(i - 1)));
        let n_lanes = n.div_ceil(LANES) * LANES;
        let mut alive = u64::MAX >> (SHORT - n.max(1));
        loop {
            let best = keys[..n_lanes].iter().fold(NONE, |best, &key| best.min(key));
            if best == NONE {
                break;
            }
            let at = (best & 63) as usize;
            let after = alive & (u64::MAX << at << 1);
            let right = after.trailing_zeros() as usize;
            let next = (after & (after - 1)).trailing_zeros() as usize; // SHORT if there is none
            row[at] = ids[at];
            alive &= !(1 << right);
            keys[right] = NONE;
            let merge = row.get(next).and_then(|&next| self.merges.get(row[at], next));
            set(&mut keys, &mut ids, at, merge);
            let before = alive & ((1 << at) - 1);
            if before != 0 {
                let left = before.ilog2() as usize;
                set(&mut keys, &mut ids, left, self.merges.get(row[left], row[at]));
            }
        }
        let mut n_left = 0;
        while alive != 0 {
            let at = alive.trailing_zeros() as usize;
            alive &= alive - 1;
            if at < n {
                row[n_left] = row[at];
                n_left += 1;
            }
        }
        n_left
    }

    /// A linked row and a heap of ranks and places; an entry whose place has another rank by now is stale.
    fn merge_long(&self, scratch: &mut Scratch, symbols: &mut Vec<TokenId>, start: usize) {
        let links = &mut scratch.links;
        let row = &symbols[start..];
        let n = row.len() as u32;
        let merge_of =
            |left: TokenId, right: Option<&TokenId>| right.and_then(|&right| self.merges.get(left, right));
        links.clear();
        links.extend(row.iter().zip(1_u32..).map(|(&id, after)| Link {
            id,
            before: after.checked_sub(2),
            after,
            merge: merge_of(id, row.get(after as usize)),
        }));
        let entry = |merge: Merge, at: u32| Reverse(u64::from(merge.rank) << 32 | u64::from(at));
        let mut entries = std::mem::take(&mut scratch.heap);
        entries.clear();
        entries.extend(links.iter().zip(0..).filter_map(|(link, at)| Some(entry(link.merge?, at))));
        let mut heap = BinaryHeap::from(entries);
        while let Some(Reverse(best)) = heap.pop() {
            let (rank, at) = ((best >> 32) as u32, best as u32);
            let link = links[at as usize];
            let Some(merge) = link.merge.filter(|merge| merge.rank == rank) else { continue };
            let right = links[link.after as usize];
            links[link.after as usize].merge = None;
            let next = links.get(right.after as usize).map(|next| next.id);
            let merged = merge_of(merge.id, next.as_ref());
            links[at as usize] = Link { id: merge.id, after: right.after, merge: merged, ..link };
            heap.extend(merged.map(|merge| entry(merge, at)));
            if let Some(next) = links.get_mut(right.after as usize) {
                next.before = Some(at);
            }
            if let Some(before) = link.before {
                let left = &mut links[before as usize];
                left.merge = merge_of(left.id, Some(&merge.id));
                heap.extend(left.merge.map(|merge| entry(merge, before)));
            }
        }
        scratch.heap = heap.into_vec();
        symbols.truncate(start);
        let mut at = 0;
        while at < n {
            symbols.push(links[at as usize].id);
            at = links[at as usize].after;
        }
    }
}

/// A symbol of a long row; the last one's `after` is the row's length.
#[derive(Debug, Clone, Copy)]
struct Link {
    id: TokenId,
    before: Option<u32>,
    after: u32,
    /// What it becomes with the one after it.
    merge: Option<Merge>,
}

impl CharSymbols {
    fn symbols(&self, piece: &str, tokens: &Tokens, out: &mut Vec<TokenId>) {
        let mut chars = piece.char_indices().peekable();
        let mut spelled = String::new();
        let mut after_unk = false;
        while let Some((at, c)) = chars.next() {
            spelled.clear();
            spelled.extend(self.prefix.iter().filter(|_| at > 0).map(String::as_str));
            spelled.push(c);
            spelled.extend(self.suffix.iter().filter(|_| chars.peek().is_none()).map(String::as_str));
            let known = tokens.id_of(&spelled).or_else(|| self.pseudo.get(&c).copied());
            if let Some(id) = known {
                out.push(id);
                after_unk = false;
            } else if let Some(ids) = self.fallback(&spelled) {
                // COMPAT: bytes do not end a fused run of unknown characters, and the unknown comes after them.
                if after_unk {
                    let unk = out.pop().expect("a run of unknown characters has left one symbol");
                    out.extend(ids);
                    out.push(unk);
                } else {
                    out.extend(ids);
                }
            } else if let Some(unk) = self.unk {
                if !(after_unk && self.fuse_unk) {
                    out.push(unk);
                }
                after_unk = true;
            }
        }
    }

    fn fallback(&self, spelled: &str) -> Option<Vec<TokenId>> {
        let bytes = self.bytes.as_ref()?;
        spelled.bytes().map(|byte| bytes[usize::from(byte)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges of a toy language over the letters `a` to `d`, ids 0 to 3.
    fn toy() -> Bpe {
        let mut ids = Box::new([None; 256]);
        (0..4).for_each(|i| ids[usize::from(b'a' + i)] = Some(TokenId::from(i)));
        let merges = [(0, 1, 4), (1, 2, 5), (4, 2, 6), (0, 0, 7), (7, 7, 8), (6, 3, 9), (5, 3, 10)];
        let merges =
            merges.iter().zip(0..).map(|(&(left, right, id), rank)| (left, right, Merge { rank, id }));
        Bpe::new(Symbols::Bytes(ids), merges.collect())
    }

    /// The most urgent pair, the leftmost of equals, until there is none.
    fn plain(bpe: &Bpe, mut row: Vec<TokenId>) -> Vec<TokenId> {
        loop {
            let merges = row
                .windows(2)
                .enumerate()
                .filter_map(|(i, pair)| Some((bpe.merges.get(pair[0], pair[1])?, i)));
            let Some((merge, at)) = merges.min_by_key(|(merge, at)| (merge.rank, *at)) else { return row };
            row.splice(at..at + 2, [merge.id]);
        }
    }

    #[test]
    fn the_loop_the_heap_and_the_plain_way_agree() {
        let bpe = toy();
        let mut seed = 3_u64;
        for n in 0..=SHORT {
            for _ in 0..50 {
                let row: Vec<TokenId> = (0..n)
                    .map(|_| {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (seed >> 60) as TokenId % 4
                    })
                    .collect();
                let (mut short, mut long) = (row.clone(), row.clone());
                let n_left = bpe.merge_short(&mut short, |i| bpe.merges.get(row[i], row[i + 1]));
                bpe.merge_long(&mut Scratch::default(), &mut long, 0);
                assert_eq!(short[..n_left], long);
                assert_eq!(long, plain(&bpe, row));
            }
        }
    }

    #[test]
    fn a_megabyte_without_a_space_does_not_hang() {
        let mut out = Vec::new();
        toy().encode(&"a".repeat(1 << 20), &Tokens::default(), &mut Scratch::default(), &mut out);
        assert_eq!(out.len(), 1 << 18);
    }

    #[test]
    fn unknown_characters_fuse_vanish_or_become_bytes() {
        let mut tokens = Tokens::default();
        tokens.push("a", 0).unwrap();
        tokens.push("b", 1).unwrap();
        let check = |chars: CharSymbols, expected: &[TokenId]| {
            let mut out = Vec::new();
            chars.symbols("axyb", &tokens, &mut out);
            assert_eq!(out, expected);
        };
        check(CharSymbols::default(), &[0, 1]);
        check(CharSymbols { unk: Some(9), ..CharSymbols::default() }, &[0, 9, 9, 1]);
        check(CharSymbols { unk: Some(9), fuse_unk: true, ..CharSymbols::default() }, &[0, 9, 1]);
        let mut bytes = Box::new([None; 256]);
        (bytes[usize::from(b'x')], bytes[usize::from(b'y')]) = (Some(7), Some(8));
        check(CharSymbols { bytes: Some(bytes), unk: Some(9), ..CharSymbols::default() }, &[0, 7, 8, 1]);
    }
}
