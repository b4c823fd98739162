//! Unigram language model: of all ways to cut a piece, the one whose tokens are likeliest together.
//!
//! Where:  `model` in `tokenizer.json`, SentencePiece Unigram and GGUF's `t5` vocabularies.
//! Idea:   a Viterbi search over byte positions; a trie gives all tokens that begin at a place.
//! Source: Kudo 2018, Subword Regularization; SentencePiece `unigram_model.cc`, `EncodeOptimized`.

use super::table::Tokens;
use crate::TokenId;

/// An unknown character scores this much below the worst token.
const UNK_PENALTY: f64 = 10.0;

/// A trained unigram model.
#[derive(Debug, Clone)]
pub(crate) struct Unigram {
    trie: Trie,
    /// Log-probability of each token, by its place in the trie.
    scores: Vec<f64>,
    ids: Vec<TokenId>,
    unk_score: f64,
    unk: Option<TokenId>,
    /// Tokens of single bytes, for unknown characters.
    bytes: Option<Box<[Option<TokenId>; 256]>>,
    /// Whether sums are rounded to f32 at every step, as SentencePiece itself does.
    rounds: bool,
}

/// One token of the model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a str,
    pub(crate) score: f64,
    pub(crate) id: TokenId,
}

impl Unigram {
    /// `min_score` is the worst score that counts for unknown characters.
    pub(crate) fn new<'a>(
        pieces: impl Iterator<Item = Piece<'a>>,
        min_score: f64,
        unk: Option<TokenId>,
        bytes: Option<Box<[Option<TokenId>; 256]>>,
    ) -> Self {
        let mut model = Self {
            trie: Trie::default(),
            scores: Vec::new(),
            ids: Vec::new(),
            unk_score: min_score - UNK_PENALTY,
            unk,
            bytes,
            rounds: false,
        };
        for piece in pieces {
            model.trie.insert(piece.text.as_bytes(), model.ids.len() as u32);
            model.scores.push(piece.score);
            model.ids.push(piece.id);
        }
        model
    }

    /// Rounds all sums to f32.
    pub(crate) fn rounding(self) -> Self {
        Self { unk_score: f64::from(self.unk_score as f32), rounds: true, ..self }
    }

    /// Appends the tokens of one piece. Without an unknown token, unknown characters vanish.
    pub(crate) fn encode(&self, piece: &str, tokens: &Tokens, out: &mut Vec<TokenId>) {
        let best = self.search(piece);
        let mut cuts = Vec::new();
        let mut end = piece.len();
        while end > 0 {
            let step = best[end];
            cuts.push((step.start as usize, end, step.entry));
            end = step.start as usize;
        }
        let mut steps = cuts.into_iter().rev().peekable();
        while let Some((start, mut end, entry)) = steps.next() {
            match entry.map(|entry| self.ids[entry as usize]).filter(|&id| Some(id) != self.unk) {
                Some(id) => out.push(id),
                None => {
                    let is_unk = |entry: Option<u32>| match entry {
                        Some(entry) => Some(self.ids[entry as usize]) == self.unk,
                        None => true,
                    };
                    while let Some(next) = steps.next_if(|step| is_unk(step.2)) {
                        end = next.1;
                    }
                    self.encode_unknown(&piece[start..end], tokens, out);
                }
            }
        }
    }

    /// A run of unknown characters: a token after all, its bytes, or the unknown token.
    fn encode_unknown(&self, run: &str, tokens: &Tokens, out: &mut Vec<TokenId>) {
        if let Some(id) = tokens.id_of(run) {
            out.push(id);
            return;
        }
        let bytes = self.bytes.as_ref();
        let ids: Option<Vec<TokenId>> =
            bytes.and_then(|bytes| run.bytes().map(|byte| bytes[usize::from(byte)]).collect());
        match ids {
            Some(ids) => out.extend(ids),
            None => out.extend(self.unk),
        }
    }

    /// The best way to every position.
    fn search(&self, piece: &str) -> Vec<Step> {
        let bytes = piece.as_bytes();
        let mut best = vec![Step { score: 0.0, start: u32::MAX, entry: None }; bytes.len() + 1];
        for (start, c) in piece.char_indices() {
            let score_here = best[start].score;
            let mut has_single = false;
            let mut offer = |end: usize, score: f64, entry: Option<u32>| {
                let step = &mut best[end];
                let score = if self.rounds { f64::from(score as f32) } else { score };
                if step.start == u32::MAX || score > step.score {
                    *step = Step { score, start: start as u32, entry };
                }
            };
            self.trie.each_prefix(&bytes[start..], |len, entry| {
                has_single |= len == c.len_utf8();
                offer(start + len, score_here + self.scores[entry as usize], Some(entry));
            });
            if !has_single {
                offer(start + c.len_utf8(), score_here + self.unk_score, None);
            }
        }
        best
    }
}

/// The last token on the best way to a position; `entry` is `None` for an unknown character.
#[derive(Debug, Clone, Copy)]
struct Step {
    score: f64,
    start: u32,
    entry: Option<u32>,
}

/// A trie of byte strings: nodes in one row, children of a node found by hashing (node, byte).
#[derive(Debug, Clone, Default)]
struct Trie {
    children: super::hash::FastMap<u64, u32>,
    /// The entry that ends at a node, by node; the root is node 0.
    ends: Vec<Option<u32>>,
}

impl Trie {
    fn insert(&mut self, key: &[u8], entry: u32) {
        if self.ends.is_empty() {
            self.ends.push(None);
        }
        let mut node = 0;
        for &byte in key {
            let next = self.ends.len() as u32;
            node = *self.children.entry(u64::from(node) << 8 | u64::from(byte)).or_insert(next);
            if node == next {
                self.ends.push(None);
            }
        }
        if !key.is_empty() {
            self.ends[node as usize] = Some(entry);
        }
    }

    fn each_prefix(&self, text: &[u8], mut each: impl FnMut(usize, u32)) {
        let mut node = 0;
        for (i, &byte) in text.iter().enumerate() {
            match self.children.get(&(u64::from(node) << 8 | u64::from(byte))) {
                Some(&child) => node = child,
                None => return,
            }
            if let Some(entry) = self.ends[node as usize] {
                each(i + 1, entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_cut_wins_and_unknowns_fuse() {
        let scores =
            [("<unk>", 0.0), ("a", 0.0), ("b", 0.0), ("c", 0.0), ("d", 0.0), ("cd", 1.0), ("ab", 2.0)];
        let scores = scores.into_iter().chain([("abc", 5.0), ("abcd", 10.0)]);
        let pieces = scores.enumerate().map(|(id, (text, score))| Piece { text, score, id: id as TokenId });
        let model = Unigram::new(pieces, 0.0, Some(0), None);
        let mut out = Vec::new();
        model.encode("abcdacdxx", &Tokens::default(), &mut out);
        assert_eq!(out, [8, 1, 5, 0]);
    }
}
