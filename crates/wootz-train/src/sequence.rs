//! What one step learns from: sequences, grouped as an objective needs them together, and micro-batches of those.
//!
//! Where:  made by a [`Feed`](crate::Feed), turned into ragged batches by the [`Learner`](crate::Learner), weighed by an
//!         [`Objective`](crate::Objective).
//! Idea:   row `t` of a sequence reads token `t` and is judged by the log-probability of token `t + 1`. So a sequence of `n`
//!         tokens has `n − 1` rows, and row `t` is supervised if token `t + 1` is.

use wootz_data::Encoded;
use wootz_graph::{Batch, Data, Sequence as GraphSequence};

/// Tokens to learn from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sequence {
    /// In order
    pub token_ids: Vec<u32>,
    /// Whether a token is learned, as many
    pub supervised: Vec<bool>,
    /// Log-probabilities of its rows under the reference model, where an objective compares
    pub reference: Option<Vec<f32>>,
    /// Log-probabilities of its rows under the model that wrote it, where it was sampled
    pub sampled: Option<Vec<f32>>,
}

impl Sequence {
    /// Of an encoded example.
    pub fn new(encoded: Encoded) -> Self {
        let Encoded { token_ids, supervised } = encoded;
        Self { token_ids, supervised, reference: None, sampled: None }
    }

    /// Rows that it has in a batch.
    pub fn n_rows(&self) -> usize {
        self.token_ids.len().saturating_sub(1)
    }

    /// Whether row `row` is supervised.
    pub fn is_supervised(&self, row: usize) -> bool {
        self.supervised[row + 1]
    }

    /// Supervised rows. The first token of all is never predicted.
    pub fn n_supervised(&self) -> usize {
        self.supervised.iter().skip(1).filter(|is| **is).count()
    }
}

/// What belongs to the sequences of one item beside their tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// One sequence, learned as it is
    Plain,
    /// Two sequences: the chosen one, then the rejected one
    Pair,
    /// One sequence that is good or not, and perhaps a second one, an answer to another prompt, by which the distance to the
    /// reference is estimated
    Labelled {
        /// Whether it is good
        is_good: bool,
    },
    /// One sampled sequence and how much better than its group it was
    Rewarded {
        /// Normalised reward
        advantage: f32,
    },
}

/// Sequences that are judged together.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// How
    pub kind: Kind,
    /// As many as the kind says
    pub sequences: Vec<Sequence>,
}

impl Item {
    /// One sequence, learned as it is.
    pub fn plain(sequence: Sequence) -> Self {
        Self { kind: Kind::Plain, sequences: vec![sequence] }
    }

    /// Rows that it has in a batch.
    pub fn n_rows(&self) -> usize {
        self.sequences.iter().map(Sequence::n_rows).sum()
    }
}

/// Items that go through the model at once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MicroBatch {
    /// In order
    pub items: Vec<Item>,
}

impl MicroBatch {
    /// All sequences, in order.
    pub fn sequences(&self) -> impl Iterator<Item = &Sequence> {
        self.items.iter().flat_map(|item| &item.sequences)
    }

    /// Rows of all sequences.
    pub fn n_rows(&self) -> usize {
        self.items.iter().map(Item::n_rows).sum()
    }

    /// Supervised rows of all sequences.
    pub fn n_supervised(&self) -> usize {
        self.sequences().map(Sequence::n_supervised).sum()
    }

    /// Gives each labelled answer another, the one of the item before it behind its own prompt, by which KTO estimates the
    /// distance to the reference. Items that have one keep it.
    pub fn add_others(&mut self) {
        let completion = |sequence: &Sequence| {
            let start = sequence.supervised.iter().position(|is| *is).unwrap_or(sequence.token_ids.len());
            (start, sequence.token_ids[start..].to_vec())
        };
        let is_alone =
            |item: &&mut Item| matches!(item.kind, Kind::Labelled { .. }) && item.sequences.len() == 1;
        let mut labelled: Vec<&mut Item> = self.items.iter_mut().filter(is_alone).collect();
        let Some(last) = labelled.last() else { return };
        let (_, mut before) = completion(&last.sequences[0]);
        for item in &mut labelled {
            let own = &item.sequences[0];
            let (start, answer) = completion(own);
            let mut token_ids = own.token_ids[..start].to_vec();
            let mut supervised = vec![false; start];
            token_ids.extend_from_slice(&before);
            supervised.resize(token_ids.len(), true);
            item.sequences.push(Sequence { token_ids, supervised, reference: None, sampled: None });
            before = answer;
        }
    }

    /// The ragged batch: inputs, targets, boundaries.
    pub(crate) fn to_batch(&self) -> Batch {
        let mut batch = Batch::new();
        let n_rows = self.n_rows();
        let (mut token_ids, mut targets) = (Vec::with_capacity(n_rows), Vec::with_capacity(n_rows));
        for sequence in self.sequences().filter(|sequence| sequence.n_rows() > 0) {
            let rows = token_ids.len()..token_ids.len() + sequence.n_rows();
            token_ids.extend_from_slice(&sequence.token_ids[..sequence.n_rows()]);
            targets.extend_from_slice(&sequence.token_ids[1..]);
            let planned_len = rows.len();
            batch.push(GraphSequence { rows, planned_len, ..GraphSequence::default() });
        }
        batch.set_tokens(token_ids);
        batch.set("targets", Data::U32(targets));
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_gets_the_one_before_it_as_another() {
        let labelled = |prompt: u32, answer: u32| Item {
            kind: Kind::Labelled { is_good: true },
            sequences: vec![Sequence {
                token_ids: vec![prompt, answer],
                supervised: vec![false, true],
                ..Sequence::default()
            }],
        };
        let mut batch = MicroBatch { items: vec![labelled(1, 10), labelled(2, 20), labelled(3, 30)] };
        batch.add_others();
        let others: Vec<&[u32]> = batch.items.iter().map(|item| &item.sequences[1].token_ids[..]).collect();
        assert_eq!(others, [[1, 30], [2, 10], [3, 20]]);
    }
}
