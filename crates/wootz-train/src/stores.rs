//! Encoded examples on disk as a corpus: several stores, of each those that are not held out, alike or by weight.
//!
//! Where:  between `wootz-data`'s stores and a [`Feed`](crate::Feed).

use wootz_data::{Blend, Prepared, PreparedExample};

use crate::feed::Corpus;
use crate::sequence::{Item, Kind, Sequence};
use crate::{Error, Result};

/// One store and which of its examples are seen.
#[derive(Debug)]
pub struct Part {
    /// Shared with the part of it that is held out
    pub store: std::sync::Arc<Prepared>,
    /// Numbers of its examples
    pub kept: Vec<u32>,
}

/// Several stores as one corpus.
#[derive(Debug)]
pub struct Stores {
    parts: Vec<Part>,
    /// Where each part's examples begin in the corpus' own numbers.
    starts: Vec<usize>,
    len: usize,
    weights: Option<Vec<f64>>,
}

impl Stores {
    /// Of these parts; with weights, each comes as often as its share asks for.
    ///
    /// # Errors
    /// A part without examples that has a weight; no examples at all.
    pub fn new(parts: Vec<Part>, weights: Option<Vec<f64>>) -> Result<Self> {
        let lens: Vec<u64> = parts.iter().map(|part| part.kept.len() as u64).collect();
        if Blend::new(&lens, weights.as_deref(), None).is_none() {
            let message =
                format!("no examples to learn from: the datasets have {lens:?}, with weights {weights:?}");
            return Err(Error::Feed(message));
        }
        let starts = parts.iter().scan(0, |start, part| {
            let own = *start;
            *start += part.kept.len();
            Some(own)
        });
        let starts: Vec<usize> = starts.collect();
        let len = parts.iter().map(|part| part.kept.len()).sum();
        Ok(Self { parts, starts, len, weights })
    }

    fn place(&self, index: usize) -> (&Prepared, usize) {
        let part = self.starts.partition_point(|start| *start <= index) - 1;
        // Parts without examples begin where the next one does.
        let own = &self.parts[part];
        (&own.store, own.kept[index - self.starts[part]] as usize)
    }
}

impl Corpus for Stores {
    fn len(&self) -> usize {
        self.len
    }

    fn n_rows(&self, index: usize) -> usize {
        let (store, i) = self.place(index);
        // A sequence of n tokens has n − 1 rows; of a pair two tokens are none.
        store.n_tokens(i).saturating_sub(1)
    }

    fn item(&self, index: usize) -> Result<Item> {
        let (store, i) = self.place(index);
        let example = store.get(i).map_err(|error| Error::Feed(error.to_string()))?;
        Ok(match example {
            PreparedExample::Plain(encoded) => Item::plain(Sequence::new(encoded)),
            PreparedExample::Pair { chosen, rejected } => {
                Item { kind: Kind::Pair, sequences: [chosen, rejected].map(Sequence::new).to_vec() }
            }
            PreparedExample::Label { answer, is_good } => {
                Item { kind: Kind::Labelled { is_good }, sequences: vec![Sequence::new(answer)] }
            }
            PreparedExample::Prompt { .. } => {
                return Err(Error::Feed(
                    "a prompt alone has nothing to learn; it is for `rl: grpo`".to_owned(),
                ));
            }
        })
    }

    fn order(&self, epoch: u64, seed: Option<u64>) -> Vec<usize> {
        let lens: Vec<u64> = self.parts.iter().map(|part| part.kept.len() as u64).collect();
        let mut blend = Blend::new(&lens, self.weights.as_deref(), seed).expect("checked when it was made");
        let n = blend.epoch_len();
        blend.resume(epoch * n);
        blend.take(n as usize).map(|(part, i)| self.starts[part] + i as usize).collect()
    }
}
