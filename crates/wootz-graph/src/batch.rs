//! What one step runs over: rows of many sequences side by side, their boundaries, and named inputs.
//!
//! Where:  made by the engine or the trainer, read by every [`Executor`](crate::Executor).
//! Idea:   packed training rows, prefill chunks and decode steps are the same thing with other boundaries.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::shape::Axis;
use crate::{Error, Result};

/// One sequence's share of the batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Its rows of the token axis.
    pub rows: Range<usize>,
    /// Its rows of the key axis; only cross-attention reads them.
    pub key_rows: Range<usize>,
    /// Absolute position of its first row: how many positions its states hold already.
    pub first_position: usize,
    /// Blocks of its positions, in order; empty where the graph has no states.
    pub block_table: Vec<u32>,
    /// Its slot for recurrences.
    pub slot: usize,
    /// Its slot in the bank of adapters; its rows stay as they are without one.
    pub adapter: Option<usize>,
    /// Positions it is expected to reach; rotary scalings that depend on the length are chosen by it.
    pub planned_len: usize,
}

/// A run-time input.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Embeddings, loss weights.
    F32(Vec<f32>),
    /// Ids.
    U32(Vec<u32>),
}

impl Data {
    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(numbers) => numbers.len(),
            Data::U32(ids) => ids.len(),
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Rows of each axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rows {
    /// T.
    pub tokens: usize,
    /// O.
    pub outputs: usize,
    /// B.
    pub sequences: usize,
    /// S.
    pub keys: usize,
}

impl Rows {
    /// The rows of one axis.
    pub fn of(&self, axis: Axis) -> usize {
        match axis {
            Axis::Tokens => self.tokens,
            Axis::Outputs => self.outputs,
            Axis::Sequences => self.sequences,
            Axis::Keys => self.keys,
        }
    }

    /// Each count rounded up to a power of two: the capacity that a plan is made for.
    pub fn rounded_up(&self) -> Self {
        let up = |n: usize| if n == 0 { 0 } else { n.next_power_of_two() };
        Self {
            tokens: up(self.tokens),
            outputs: up(self.outputs),
            sequences: up(self.sequences),
            keys: up(self.keys),
        }
    }

    /// Whether a plan with this capacity can run that many rows.
    pub fn covers(&self, rows: &Rows) -> bool {
        Axis::ALL.iter().all(|&axis| rows.of(axis) <= self.of(axis))
    }
}

/// One ragged batch.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The sequences; their rows follow each other without gaps.
    pub sequences: Vec<Sequence>,
    /// Inputs by the name that the graph gave them.
    pub inputs: BTreeMap<&'static str, Data>,
    rows: Rows,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// A batch of whole sequences without states, as training and encoders run them: `token_ids` and `positions`
    /// from 0, the last row of every sequence that has one as output.
    pub fn of_sequences(sequences: &[&[u32]]) -> Self {
        let mut batch = Self::new();
        let mut token_ids = Vec::new();
        let mut outputs = Vec::new();
        for ids in sequences {
            let rows = token_ids.len()..token_ids.len() + ids.len();
            token_ids.extend_from_slice(ids);
            if !ids.is_empty() {
                outputs.push(rows.end as u32 - 1);
            }
            batch.push(Sequence { rows, planned_len: ids.len(), ..Sequence::default() });
        }
        batch.set_tokens(token_ids);
        batch.set_outputs(outputs);
        batch
    }

    /// Adds a sequence behind the others.
    pub fn push(&mut self, sequence: Sequence) {
        self.rows.tokens = sequence.rows.end;
        self.rows.keys = sequence.key_rows.end;
        self.sequences.push(sequence);
        self.rows.sequences = self.sequences.len();
    }

    /// Sets `token_ids`, `positions` as the sequences' boundaries and first positions say, and `token_types` to 0.
    pub fn set_tokens(&mut self, token_ids: Vec<u32>) {
        let positions = self
            .sequences
            .iter()
            .flat_map(|seq| (0..seq.rows.len()).map(|i| (seq.first_position + i) as u32))
            .collect();
        self.inputs.insert("token_types", Data::U32(vec![0; token_ids.len()]));
        self.inputs.insert("token_ids", Data::U32(token_ids));
        self.inputs.insert("positions", Data::U32(positions));
    }

    /// Sets `outputs`: the rows of the token axis whose output is wanted.
    pub fn set_outputs(&mut self, outputs: Vec<u32>) {
        self.set("outputs", Data::U32(outputs));
    }

    /// Sets another input.
    pub fn set(&mut self, name: &'static str, data: Data) {
        if name == "outputs" {
            self.rows.outputs = data.len();
        }
        self.inputs.insert(name, data);
    }

    /// The rows of each axis.
    pub fn rows(&self) -> Rows {
        self.rows
    }

    /// Checks what every device relies on: sequences cover token and key rows in order, outputs lie among them.
    pub(crate) fn validate(&self) -> Result<()> {
        let fail = |name: &str, message| Err(Error::Input { name: name.to_owned(), message });
        let (mut end, mut key_end) = (0, 0);
        for (i, seq) in self.sequences.iter().enumerate() {
            for (what, rows, end) in
                [("rows", &seq.rows, &mut end), ("key rows", &seq.key_rows, &mut key_end)]
            {
                if rows.start != *end || rows.end < rows.start {
                    let message = format!("sequence {i} has {what} {rows:?}, expected them from {end}");
                    return fail("sequences", message);
                }
                *end = rows.end;
            }
        }
        let outputs = self.inputs.get("outputs");
        let rows = Rows {
            tokens: end,
            outputs: outputs.map_or(0, Data::len),
            sequences: self.sequences.len(),
            keys: key_end,
        };
        if rows != self.rows {
            return fail(
                "sequences",
                format!("they have {rows:?}, but the batch was made with {:?}", self.rows),
            );
        }
        if let Some(Data::U32(outputs)) = outputs
            && let Some(&row) = outputs.iter().find(|&&row| row as usize >= rows.tokens)
        {
            return fail("outputs", format!("row {row} of {} tokens", rows.tokens));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_does_not_add_up_is_an_error() {
        let sequence =
            |rows: Range<usize>, key_rows: Range<usize>| Sequence { rows, key_rows, ..Sequence::default() };
        let check = |sequences: &[(Range<usize>, Range<usize>)], expected: Option<&str>| {
            let mut batch = Batch::new();
            for (rows, key_rows) in sequences {
                batch.push(sequence(rows.clone(), key_rows.clone()));
            }
            let error = batch.validate().err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected, "{sequences:?}");
        };
        check(&[], None);
        check(&[(0..3, 0..0), (3..3, 0..2), (3..4, 2..2)], None);
        check(&[(1..3, 0..0)], Some("input `sequences`: sequence 0 has rows 1..3, expected them from 0"));
        check(
            &[(0..3, 0..0), (2..5, 0..0)],
            Some("input `sequences`: sequence 1 has rows 2..5, expected them from 3"),
        );
        check(
            &[(0..3, 0..4), (3..4, 3..5)],
            Some("input `sequences`: sequence 1 has key rows 3..5, expected them from 4"),
        );
        #[expect(clippy::reversed_empty_ranges, reason = "that is the mistake")]
        check(
            &[(0..3, 0..0), (3..2, 0..0)],
            Some("input `sequences`: sequence 1 has rows 3..2, expected them from 3"),
        );
    }

    #[test]
    fn sequences_changed_behind_the_batchs_back_are_an_error() {
        let mut batch = Batch::of_sequences(&[&[1, 2, 3]]);
        batch.sequences[0].rows.end = 2;
        assert!(batch.validate().is_err());
        let mut batch = Batch::of_sequences(&[&[1, 2, 3]]);
        batch.set_outputs(vec![3]);
        assert_eq!(batch.validate().unwrap_err().to_string(), "input `outputs`: row 3 of 3 tokens");
    }
}
