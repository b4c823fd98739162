//! Pieces with log-probabilities, and the ways in which a word can be put together from them.
//!
//! Where:  one for each round of [`unigram`](super::unigram).
//! Idea:   a tree of symbols whose children lie side by side, in order. Sums over all ways go forwards and backwards over
//!         the places of a word; only words are short, so nothing is approximated.
//! Source: Kudo 2018, arXiv:1804.10959, eq. 2–5.

/// No piece ends at this node.
const NONE: u32 = u32::MAX;

/// Pieces as a tree.
#[derive(Debug)]
pub(super) struct Lexicon {
    nodes: Vec<Node>,
    /// Symbol and node of every child, each node's in one stretch, ordered by symbol.
    children: Vec<(u32, u32)>,
    logprobs: Vec<f64>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    first_child: u32,
    n_children: u32,
    piece: u32,
}

/// Room for one word's sums, kept from word to word.
#[derive(Debug, Default)]
pub(super) struct Lattice {
    forward: Vec<f64>,
    backward: Vec<f64>,
    best: Vec<(f64, u32, u32)>,
    /// (start, end, piece) of every piece that fits somewhere
    edges: Vec<(u32, u32, u32)>,
}

impl Lexicon {
    /// From pieces, each as symbols, with their log-probabilities.
    pub(super) fn new(pieces: &[&[u32]], logprobs: Vec<f64>) -> Self {
        let mut order: Vec<u32> = (0..pieces.len() as u32).collect();
        order.sort_unstable_by_key(|&piece| pieces[piece as usize]);
        let mut lexicon = Self { nodes: Vec::new(), children: Vec::new(), logprobs };
        lexicon.nodes.push(Node { first_child: 0, n_children: 0, piece: NONE });
        // Level by level: a node is a stretch of the sorted pieces that share its symbols.
        let mut level = vec![(0_usize, 0..order.len())];
        let mut depth = 0;
        while !level.is_empty() {
            let mut next = Vec::new();
            for (node, stretch) in level {
                let mut at = stretch.start;
                // The piece that ends here is the first of its stretch.
                if at < stretch.end && pieces[order[at] as usize].len() == depth {
                    lexicon.nodes[node].piece = order[at];
                    at += 1;
                }
                lexicon.nodes[node].first_child = lexicon.children.len() as u32;
                while at < stretch.end {
                    let symbol = pieces[order[at] as usize][depth];
                    let same = |&&piece: &&u32| pieces[piece as usize][depth] == symbol;
                    let n = order[at..stretch.end].iter().take_while(same).count();
                    lexicon.children.push((symbol, lexicon.nodes.len() as u32));
                    next.push((lexicon.nodes.len(), at..at + n));
                    lexicon.nodes.push(Node { first_child: 0, n_children: 0, piece: NONE });
                    at += n;
                }
                let first = lexicon.nodes[node].first_child;
                lexicon.nodes[node].n_children = lexicon.children.len() as u32 - first;
            }
            level = next;
            depth += 1;
        }
        lexicon
    }

    /// Calls with (end, piece) for every piece that begins at `start`.
    fn each_from(&self, word: &[u32], start: usize, mut each: impl FnMut(usize, u32)) {
        let mut node = self.nodes[0];
        for (at, symbol) in word.iter().enumerate().skip(start) {
            let children = &self.children[node.first_child as usize..][..node.n_children as usize];
            let Ok(child) = children.binary_search_by_key(symbol, |child| child.0) else { return };
            node = self.nodes[children[child].1 as usize];
            if node.piece != NONE {
                each(at + 1, node.piece);
            }
        }
    }

    /// Adds to `expected` how often each piece is expected in `count` occurrences of a word, and returns the word's
    /// log-probability. Every symbol must be a piece.
    pub(super) fn expect(
        &self,
        word: &[u32],
        count: f64,
        lattice: &mut Lattice,
        expected: &mut [f64],
    ) -> f64 {
        lattice.fill(self, word);
        let Lattice { forward, backward, edges, .. } = lattice;
        reset(forward, word.len() + 1, f64::NEG_INFINITY);
        reset(backward, word.len() + 1, f64::NEG_INFINITY);
        (forward[0], backward[word.len()]) = (0.0, 0.0);
        for &(start, end, piece) in edges.iter() {
            let way = forward[start as usize] + self.logprobs[piece as usize];
            forward[end as usize] = log_add(forward[end as usize], way);
        }
        for &(start, end, piece) in edges.iter().rev() {
            let way = backward[end as usize] + self.logprobs[piece as usize];
            backward[start as usize] = log_add(backward[start as usize], way);
        }
        let total = forward[word.len()];
        for &(start, end, piece) in edges.iter() {
            let way = forward[start as usize] + self.logprobs[piece as usize] + backward[end as usize];
            expected[piece as usize] += count * (way - total).exp();
        }
        total
    }

    /// The likeliest pieces of a word in order, `without` left out; `None` if there is no way.
    pub(super) fn best(&self, word: &[u32], without: Option<u32>, lattice: &mut Lattice) -> Option<Vec<u32>> {
        lattice.fill(self, word);
        let Lattice { best, edges, .. } = lattice;
        reset(best, word.len() + 1, (f64::NEG_INFINITY, 0, NONE));
        best[0].0 = 0.0;
        for &(start, end, piece) in edges.iter().filter(|edge| Some(edge.2) != without) {
            let way = best[start as usize].0 + self.logprobs[piece as usize];
            if way > best[end as usize].0 {
                best[end as usize] = (way, start, piece);
            }
        }
        let (mut pieces, mut at) = (Vec::new(), word.len());
        while at > 0 {
            let (_, start, piece) = best[at];
            if piece == NONE {
                return None;
            }
            pieces.push(piece);
            at = start as usize;
        }
        pieces.reverse();
        Some(pieces)
    }
}

impl Lattice {
    /// All pieces of a word, by where they begin.
    fn fill(&mut self, lexicon: &Lexicon, word: &[u32]) {
        self.edges.clear();
        for start in 0..word.len() {
            lexicon.each_from(word, start, |end, piece| self.edges.push((start as u32, end as u32, piece)));
        }
    }
}

fn reset<T: Copy>(row: &mut Vec<T>, len: usize, value: T) {
    row.clear();
    row.resize(len, value);
}

/// log(eᵃ + eᵇ).
fn log_add(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if small == f64::NEG_INFINITY { large } else { large + (small - large).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All ways of putting a word together, by trying.
    fn ways(pieces: &[&[u32]], word: &[u32]) -> Vec<Vec<u32>> {
        if word.is_empty() {
            return vec![Vec::new()];
        }
        let fits = pieces.iter().enumerate().filter(|(_, piece)| word.starts_with(piece));
        fits.flat_map(|(id, piece)| {
            let rest = ways(pieces, &word[piece.len()..]);
            rest.into_iter().map(move |way| [vec![id as u32], way].concat())
        })
        .collect()
    }

    #[test]
    fn sums_agree_with_trying_all_ways() {
        let pieces: [&[u32]; 7] = [&[0], &[1], &[2], &[0, 1], &[1, 2], &[0, 1, 2], &[2, 0]];
        let logprobs: Vec<f64> = (0..7).map(|i| -1.0 - 0.37 * f64::from(i)).collect();
        let lexicon = Lexicon::new(&pieces, logprobs.clone());
        let mut lattice = Lattice::default();
        for word in [&[0, 1, 2, 0, 1][..], &[2, 2], &[0], &[1, 0, 1, 2, 0, 1, 2]] {
            let ways = ways(&pieces, word);
            let weigh = |way: &Vec<u32>| way.iter().map(|&id| logprobs[id as usize]).sum::<f64>();
            let total: f64 = ways.iter().map(|way| weigh(way).exp()).sum();
            let mut expected = [0.0; 7];
            let logprob = lexicon.expect(word, 3.0, &mut lattice, &mut expected);
            assert!((logprob - total.ln()).abs() < 1e-12);
            for (id, got) in expected.iter().enumerate() {
                let share = |way: &Vec<u32>| {
                    weigh(way).exp() / total * way.iter().filter(|&&piece| piece == id as u32).count() as f64
                };
                assert!((got - 3.0 * ways.iter().map(share).sum::<f64>()).abs() < 1e-12, "{id}");
            }
            for without in [None, Some(5), Some(3)] {
                let left = ways.iter().filter(|way| without.is_none_or(|piece| !way.contains(&piece)));
                let best = left.max_by(|a, b| weigh(a).total_cmp(&weigh(b)));
                assert_eq!(lexicon.best(word, without, &mut lattice).as_ref(), best);
            }
        }
        assert_eq!(lexicon.best(&[0, 1, 3], None, &mut lattice), None);
    }
}
