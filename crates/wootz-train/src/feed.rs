//! Which items each step sees: a function of seed and step.
//!
//! Where:  asked by whoever drives a [`Trainer`](crate::Trainer), for training and for validation.
//! Idea:   an epoch's micro-batches are computed from its shuffled order before it begins; a step is a stretch of them. So a
//!         run resumes at any step without having stored where its data was.

use wootz_data::{Shuffle, pack};

use crate::sequence::{Item, MicroBatch};
use crate::{Error, Result};

/// Encoded items, read at random.
pub trait Corpus {
    /// How many.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens that an item has in a batch; known without reading it.
    fn n_rows(&self, index: usize) -> usize;

    /// Reads an item.
    ///
    /// # Errors
    /// What the file says.
    fn item(&self, index: usize) -> Result<Item>;

    /// The items of an epoch in the order in which they come: another one for each seed and epoch, their own without a seed.
    fn order(&self, epoch: u64, seed: Option<u64>) -> Vec<usize> {
        let n = self.len() as u64;
        match seed {
            Some(seed) => {
                let shuffle = Shuffle::new(n, seed, epoch);
                (0..n).map(|i| shuffle.at(i) as usize).collect()
            }
            None => (0..n as usize).collect(),
        }
    }
}

/// Items in memory.
impl Corpus for Vec<Item> {
    fn len(&self) -> usize {
        self.len()
    }

    fn n_rows(&self, index: usize) -> usize {
        self[index].n_rows()
    }

    fn item(&self, index: usize) -> Result<Item> {
        Ok(self[index].clone())
    }
}

/// How items become steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedSettings {
    /// Rows of tokens in a micro-batch: items, or packed rows
    pub micro_batch_size: usize,
    /// Micro-batches in a step
    pub accumulation: usize,
    /// Items are packed into rows of so many tokens
    pub packed_len: Option<usize>,
    /// Another order in each epoch; none keeps the items' own
    pub shuffle_seed: Option<u64>,
}

/// Steps over a corpus, epoch after epoch.
pub struct Feed {
    corpus: Box<dyn Corpus>,
    settings: FeedSettings,
    /// The epoch that was laid out last, its first step, and its micro-batches.
    epoch: u64,
    first_step: u64,
    layout: Vec<Vec<usize>>,
}

impl Feed {
    /// # Errors
    /// A corpus without items, settings of 0.
    pub fn new(corpus: Box<dyn Corpus>, settings: FeedSettings) -> Result<Self> {
        if corpus.is_empty() {
            return Err(Error::Feed("there is no example to learn from".to_owned()));
        }
        for (name, number) in [
            ("micro_batch_size", settings.micro_batch_size),
            ("gradient_accumulation_steps", settings.accumulation),
        ] {
            if number == 0 {
                return Err(Error::Setting { name, message: "expected at least 1, got 0".to_owned() });
            }
        }
        let mut feed = Self { corpus, settings, epoch: 0, first_step: 0, layout: Vec::new() };
        feed.layout = feed.lay_out(0);
        Ok(feed)
    }

    /// The items.
    pub fn corpus(&self) -> &dyn Corpus {
        &*self.corpus
    }

    /// Steps of the first `n_epochs` epochs. Packed epochs differ a little in length.
    pub fn n_steps(&self, n_epochs: f64) -> u64 {
        let whole = n_epochs.floor() as u64;
        let in_epoch = |epoch: u64| self.steps_of(&self.lay_out(epoch)) as f64;
        let steps: f64 = (0..whole).map(in_epoch).sum();
        (steps + (n_epochs - whole as f64) * in_epoch(whole)).ceil() as u64
    }

    /// Rows and sequences that no micro-batch goes beyond.
    pub fn largest(&self) -> (usize, usize) {
        let mut lens: Vec<usize> = (0..self.corpus.len()).map(|i| self.corpus.n_rows(i)).collect();
        lens.sort_unstable_by_key(|len| std::cmp::Reverse(*len));
        let size = self.settings.micro_batch_size;
        match self.settings.packed_len {
            None => (lens.iter().take(size).sum(), size),
            Some(len) => {
                let rows = size * len.max(lens.first().copied().unwrap_or(0));
                (rows, rows)
            }
        }
    }

    /// The micro-batches of a step, counted from 0.
    ///
    /// # Errors
    /// What the corpus says.
    pub fn step(&mut self, step: u64) -> Result<Vec<MicroBatch>> {
        if step < self.first_step {
            (self.epoch, self.first_step) = (0, 0);
            self.layout = self.lay_out(0);
        }
        while step >= self.first_step + self.steps_of(&self.layout) {
            self.first_step += self.steps_of(&self.layout);
            self.epoch += 1;
            self.layout = self.lay_out(self.epoch);
        }
        let first = (step - self.first_step) as usize * self.settings.accumulation;
        let batches = self.layout[first..].iter().take(self.settings.accumulation);
        batches.map(|places| self.batch(places)).collect()
    }

    /// The epoch of the step that was asked for last.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All items once, in their own order, for validation.
    ///
    /// # Errors
    /// What the corpus says.
    pub fn all(&self) -> Result<Vec<MicroBatch>> {
        let layout = Self::grouped((0..self.corpus.len()).collect(), &*self.corpus, &self.settings);
        layout.iter().map(|places| self.batch(places)).collect()
    }

    fn steps_of(&self, layout: &[Vec<usize>]) -> u64 {
        layout.len().div_ceil(self.settings.accumulation) as u64
    }

    /// The micro-batches of an epoch.
    fn lay_out(&self, epoch: u64) -> Vec<Vec<usize>> {
        let order = self.corpus.order(epoch, self.settings.shuffle_seed);
        Self::grouped(order, &*self.corpus, &self.settings)
    }

    fn grouped(order: Vec<usize>, corpus: &dyn Corpus, settings: &FeedSettings) -> Vec<Vec<usize>> {
        let size = settings.micro_batch_size;
        let Some(len) = settings.packed_len else {
            return order.chunks(size).map(<[usize]>::to_vec).collect();
        };
        let lens: Vec<usize> = order.iter().map(|&index| corpus.n_rows(index)).collect();
        let rows = pack(&lens, len);
        rows.chunks(size).map(|rows| rows.iter().flatten().map(|&place| order[place]).collect()).collect()
    }

    fn batch(&self, places: &[usize]) -> Result<MicroBatch> {
        let items: Vec<Item> = places.iter().map(|&index| self.corpus.item(index)).collect::<Result<_>>()?;
        let mut batch = MicroBatch { items };
        batch.add_others();
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sequence;

    fn items(lens: &[usize]) -> Box<dyn Corpus> {
        let item = |(i, &n): (usize, &usize)| {
            let token_ids = vec![i as u32; n + 1];
            Item::plain(Sequence { supervised: vec![true; n + 1], token_ids, reference: None, sampled: None })
        };
        Box::new(lens.iter().enumerate().map(item).collect::<Vec<_>>())
    }

    fn seen(batches: &[MicroBatch]) -> Vec<u32> {
        batches.iter().flat_map(MicroBatch::sequences).map(|sequence| sequence.token_ids[0]).collect()
    }

    #[test]
    fn every_epoch_sees_every_item_once_and_any_step_can_be_asked_for() {
        let lens: Vec<usize> = (0..37).map(|i| 3 + i * 5 % 17).collect();
        for packed_len in [None, Some(24)] {
            let settings =
                FeedSettings { micro_batch_size: 2, accumulation: 3, packed_len, shuffle_seed: Some(1) };
            let mut feed = Feed::new(items(&lens), settings).unwrap();
            let n_steps = [1.0, 2.0].map(|n_epochs| feed.n_steps(n_epochs));
            let steps: Vec<Vec<u32>> = (0..n_steps[1]).map(|step| seen(&feed.step(step).unwrap())).collect();
            for epoch in [&steps[..n_steps[0] as usize], &steps[n_steps[0] as usize..]] {
                let mut all: Vec<u32> = epoch.concat();
                all.sort_unstable();
                assert_eq!(all, (0..37).collect::<Vec<_>>());
            }
            assert_ne!(steps[0], steps[n_steps[0] as usize]);
            let again = seen(&feed.step(3).unwrap());
            assert_eq!(again, steps[3]);
        }
    }
}
