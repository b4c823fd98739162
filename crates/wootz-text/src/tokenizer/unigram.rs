//! Unigram language model: of all ways to cut a piece, the one whose tokens are likeliest together.
//!
//! Where:  `model` in `tokenizer.json`, SentencePiece Unigram and GGUF's `t5` vocabularies.
//! Idea:   a Viterbi search over byte positions; a trie gives all tokens that begin at a place.
//! Source: Kudo 2018, Subword Regularization; SentencePiece `unigram_model.cc`, `EncodeOptimized`.

use super::table::Tokens;
use crate::TokenId;

/// An unknown character scores this much below the worst token.
const UNK_PENALTY: f64 = 10.0;

/// Longest piece in bytes: a place of a text costs as many steps.
pub(crate) const MAX_PIECE_BYTES: usize = 512;

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
    /// `min_score` is the worst score that counts for unknown characters. The error says what was expected.
    pub(crate) fn new<'a>(
        pieces: impl Iterator<Item = Piece<'a>>,
        min_score: f64,
        unk: Option<TokenId>,
        bytes: Option<Box<[Option<TokenId>; 256]>>,
    ) -> Result<Self, String> {
        let n_pieces = pieces.size_hint().1.unwrap_or(0);
        let mut texts = Vec::with_capacity(n_pieces);
        let (mut scores, mut ids) = (Vec::with_capacity(n_pieces), Vec::with_capacity(n_pieces));
        for piece in pieces {
            if piece.text.len() > MAX_PIECE_BYTES {
                let got = piece.text.len();
                return Err(format!("expected pieces of at most {MAX_PIECE_BYTES} bytes, got {got}"));
            }
            texts.push(piece.text);
            scores.push(piece.score);
            ids.push(piece.id);
        }
        let trie = Trie::new(&texts)?;
        Ok(Self { trie, scores, ids, unk_score: min_score - UNK_PENALTY, unk, bytes, rounds: false })
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

/// A trie of byte strings, breadth first: the children of a node lie side by side, in the order of their bytes.
#[derive(Debug, Clone, Default)]
struct Trie {
    /// The byte that leads to each node; the root is node 0.
    labels: Vec<u8>,
    /// Where the children of each node begin; they end where those of the next node begin.
    children: Vec<u32>,
    /// The entry that ends at each node, or [`NONE`].
    entries: Vec<u32>,
}

const NONE: u32 = u32::MAX;
/// Most nodes; the largest vocabularies that are known need a third of them.
const MAX_NODES: usize = 1 << 22;

impl Trie {
    /// From keys, whose places are their entries; of equal keys the last one counts.
    fn new(keys: &[&str]) -> Result<Self, String> {
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_by_key(|&entry| (keys[entry as usize], entry));
        order.retain(|&entry| !keys[entry as usize].is_empty());
        let key = |at: u32| keys[order[at as usize] as usize].as_bytes();
        let mut trie = Self { labels: vec![0], ..Self::default() };
        // The keys below each node of one level.
        let (mut level, mut depth) = (vec![(0, order.len() as u32)], 0);
        while !level.is_empty() {
            let mut next = Vec::new();
            for (mut start, end) in level {
                let mut entry = NONE;
                while start < end && key(start).len() == depth {
                    entry = order[start as usize];
                    start += 1;
                }
                trie.entries.push(entry);
                trie.children.push(trie.labels.len() as u32);
                while start < end {
                    let label = key(start)[depth];
                    let n_alike = (start..end).take_while(|&at| key(at)[depth] == label).count() as u32;
                    trie.labels.push(label);
                    next.push((start, start + n_alike));
                    start += n_alike;
                }
            }
            if trie.labels.len() > MAX_NODES {
                return Err(format!("expected pieces with at most {MAX_NODES} different beginnings"));
            }
            (level, depth) = (next, depth + 1);
        }
        trie.children.push(trie.labels.len() as u32);
        Ok(trie)
    }

    fn each_prefix(&self, text: &[u8], mut each: impl FnMut(usize, u32)) {
        let mut node = 0;
        for (i, &byte) in text.iter().enumerate() {
            let (start, end) = (self.children[node] as usize, self.children[node + 1] as usize);
            match self.labels[start..end].iter().position(|&label| label == byte) {
                Some(child) => node = start + child,
                None => return,
            }
            if self.entries[node] != NONE {
                each(i + 1, self.entries[node]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trie_gives_all_prefixes_shortest_first() {
        let trie = Trie::new(&["abc", "a", "", "b", "ab", "ab", "é", "xyz"]).unwrap();
        let check = |text: &str, expected: &[(usize, u32)]| {
            let mut found = Vec::new();
            trie.each_prefix(text.as_bytes(), |len, entry| found.push((len, entry)));
            assert_eq!(found, expected, "{text}");
        };
        check("abcd", &[(1, 1), (2, 5), (3, 0)]);
        check("éa", &[(2, 6)]);
        check("xy", &[]);
        check("", &[]);
        assert!(Trie::new(&[]).is_ok_and(|trie| trie.labels.len() == 1));
    }

    #[test]
    fn the_likeliest_cut_wins_and_unknowns_fuse() {
        let scores =
            [("<unk>", 0.0), ("a", 0.0), ("b", 0.0), ("c", 0.0), ("d", 0.0), ("cd", 1.0), ("ab", 2.0)];
        let scores = scores.into_iter().chain([("abc", 5.0), ("abcd", 10.0)]);
        let pieces = scores.enumerate().map(|(id, (text, score))| Piece { text, score, id: id as TokenId });
        let model = Unigram::new(pieces, 0.0, Some(0), None).unwrap();
        let mut out = Vec::new();
        model.encode("abcdacdxx", &Tokens::default(), &mut out);
        assert_eq!(out, [8, 1, 5, 0]);
    }
}
