//! Byte-pair encoding: pairs of neighbours are merged, most urgent pair first.
//!
//! Where:  `model` in `tokenizer.json`, SentencePiece BPE and GGUF's `llama` and `gpt2` vocabularies.
//! Idea:   a piece becomes a row of symbols; a table tells each mergeable pair's rank and result. Short rows look for the
//!         best pair in a loop, long ones keep a heap, so that a megabyte without a space costs O(n log n).
//! Source: Sennrich et al. 2016; Hugging Face `tokenizers`, `models/bpe`, for prefixes, suffixes and the unknown.
//!
//! # Invariants
//! - Both ways of merging take the pair of lowest rank, the leftmost among equals.
//! - `whole` holds only tokens that encoding their own bytes would give.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::byte_level;
use super::hash::FastMap;
use super::table::{Table, Tokens};
use crate::TokenId;

/// Rows up to this length are merged in a loop.
const SHORT: usize = 32;

/// A trained byte-pair encoding.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bpe {
    /// What a piece's characters (or bytes) are at first.
    pub(crate) symbols: Symbols,
    /// From a pair to the rank and result of its merge.
    pub(crate) merges: FastMap<u64, Merge>,
    /// Pieces that are answered without merging.
    whole: Table,
    whole_ids: Vec<TokenId>,
    /// Symbols from here on are characters that are no tokens; they only exist to be merged.
    first_pseudo: TokenId,
    /// What such a symbol becomes if it is left over.
    leftovers: HashMap<TokenId, Vec<TokenId>>,
}

/// A merge's place in the order and its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Merge {
    pub(crate) rank: u32,
    pub(crate) id: TokenId,
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

pub(crate) fn pair(left: TokenId, right: TokenId) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Bpe {
    pub(crate) fn new(symbols: Symbols, merges: FastMap<u64, Merge>) -> Self {
        Self { symbols, merges, ..Self::default() }
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
    pub(crate) fn encode(&self, piece: &str, tokens: &Tokens, out: &mut Vec<TokenId>) {
        self.encode_bytes(piece.as_bytes(), tokens, out);
    }

    /// The same for bytes that need not be UTF-8; only byte symbols know those.
    pub(crate) fn encode_bytes(&self, piece: &[u8], tokens: &Tokens, out: &mut Vec<TokenId>) {
        if let Some(number) = self.whole.get(piece) {
            out.push(self.whole_ids[number as usize]);
            return;
        }
        let start = out.len();
        match &self.symbols {
            Symbols::Bytes(ids) => out.extend(piece.iter().filter_map(|&byte| ids[usize::from(byte)])),
            Symbols::Chars(chars) => chars.symbols(&String::from_utf8_lossy(piece), tokens, out),
        }
        if out.len() - start <= SHORT {
            self.merge_short(out, start);
        } else {
            self.merge_long(out, start);
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

    /// Whether pieces are taken byte by byte.
    pub(crate) fn takes_bytes(&self) -> bool {
        matches!(self.symbols, Symbols::Bytes(_))
    }

    fn merge_of(&self, left: TokenId, right: TokenId) -> Option<Merge> {
        self.merges.get(&pair(left, right)).copied()
    }

    /// Looks for the best pair again and again: O(n²) with a tiny constant.
    fn merge_short(&self, symbols: &mut Vec<TokenId>, start: usize) {
        const NONE: Merge = Merge { rank: u32::MAX, id: 0 };
        let mut merges = [NONE; SHORT];
        let mut n = symbols.len() - start;
        let rank = |row: &[TokenId], i: usize| self.merge_of(row[i], row[i + 1]).unwrap_or(NONE);
        let row = &mut symbols[start..];
        for (i, merge) in merges.iter_mut().enumerate().take(n.saturating_sub(1)) {
            *merge = rank(row, i);
        }
        while n > 1 {
            let (mut best, mut at) = (u32::MAX, 0);
            for (i, merge) in merges[..n - 1].iter().enumerate() {
                if merge.rank < best {
                    (best, at) = (merge.rank, i);
                }
            }
            if best == u32::MAX {
                break;
            }
            row[at] = merges[at].id;
            row.copy_within(at + 2..n, at + 1);
            merges.copy_within(at + 1..n - 1, at);
            n -= 1;
            if at + 1 < n {
                merges[at] = rank(row, at);
            }
            if at > 0 {
                merges[at - 1] = rank(row, at - 1);
            }
        }
        symbols.truncate(start + n);
    }

    /// A linked row and a heap of candidates; stale candidates are recognised when they come up.
    pub(crate) fn merge_long(&self, symbols: &mut Vec<TokenId>, start: usize) {
        const END: u32 = u32::MAX;
        let n = symbols.len() - start;
        let mut row: Vec<Link> = symbols[start..]
            .iter()
            .enumerate()
            .map(|(i, &id)| Link {
                id,
                before: (i as u32).wrapping_sub(1),
                after: if i + 1 < n { i as u32 + 1 } else { END },
                is_live: true,
            })
            .collect();
        let mut heap: BinaryHeap<Reverse<(u32, u32, TokenId, TokenId)>> = BinaryHeap::with_capacity(n);
        let candidate = |row: &[Link], at: u32| {
            let left = row[at as usize];
            let right = row.get(left.after as usize)?;
            let merge = self.merge_of(left.id, right.id)?;
            Some(Reverse((merge.rank, at, left.id, right.id)))
        };
        heap.extend((0..n as u32).filter_map(|at| candidate(&row, at)));
        while let Some(Reverse((_, at, left_id, right_id))) = heap.pop() {
            let left = row[at as usize];
            let Some(&right) = row.get(left.after as usize) else { continue };
            if !left.is_live || left.id != left_id || right.id != right_id {
                continue;
            }
            let merge = self.merge_of(left_id, right_id).expect("only mergeable pairs are in the heap");
            row[left.after as usize].is_live = false;
            row[at as usize] = Link { id: merge.id, after: right.after, ..left };
            if let Some(next) = row.get_mut(right.after as usize) {
                next.before = at;
            }
            heap.extend(candidate(&row, at));
            if left.before != END {
                heap.extend(candidate(&row, left.before));
            }
        }
        symbols.truncate(start);
        symbols.extend(row.iter().filter(|link| link.is_live).map(|link| link.id));
    }

    /// Fills `whole`: with the tokens that their own text encodes to, or with all if the file says that merges do not
    /// matter for pieces that are tokens.
    pub(crate) fn learn_whole(&mut self, tokens: &Tokens, ignores_merges: bool) {
        let (mut whole, mut whole_ids) = (Table::default(), Vec::new());
        let mut ids = Vec::new();
        for (id, token) in tokens.iter() {
            let bytes = match &self.symbols {
                Symbols::Bytes(_) => byte_level::bytes_of(token),
                Symbols::Chars(_) => Some(token.as_bytes().to_vec()),
            };
            let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { continue };
            ids.clear();
            if !ignores_merges {
                if bytes.len() > SHORT {
                    continue;
                }
                self.encode_bytes(&bytes, tokens, &mut ids);
            }
            if (ignores_merges || ids == [id]) && whole.insert(&bytes).is_some() {
                whole_ids.push(id);
            }
        }
        (self.whole, self.whole_ids) = (whole, whole_ids);
    }
}

#[derive(Debug, Clone, Copy)]
struct Link {
    id: TokenId,
    before: u32,
    after: u32,
    is_live: bool,
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
        let merges = merges
            .iter()
            .enumerate()
            .map(|(rank, &(left, right, id))| (pair(left, right), Merge { rank: rank as u32, id }))
            .collect();
        Bpe { symbols: Symbols::Bytes(ids), merges, ..Bpe::default() }
    }

    #[test]
    fn the_loop_agrees_with_the_heap() {
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
                let (mut short, mut long) = (row.clone(), row);
                bpe.merge_short(&mut short, 0);
                bpe.merge_long(&mut long, 0);
                assert_eq!(short, long);
            }
        }
    }

    #[test]
    fn a_megabyte_without_a_space_does_not_hang() {
        let mut out = Vec::new();
        toy().encode(&"a".repeat(1 << 20), &Tokens::default(), &mut out);
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
