//! Reading without answering: how likely given tokens are, or the vector that stands for them.
//!
//! Where:  the driver behind [`Score`](wootz_text::Score) and [`Embed`](wootz_text::Embed).
//! Idea:   a prompt like any other, of which only some rows are looked at, a few at a time: logits of all rows never
//!         exist at once.

use wootz_text::{ModelError, Scored, TokenId};

use super::{Branch, Desk, Rows};
use crate::{Result, Softmax};

/// Rows that are looked at in one step.
const MAX_ROWS: usize = 32;

/// What to make of the tokens.
pub enum Reading {
    /// The log-probability of each token from index `from` (at least 1) on.
    Logprobs {
        /// The first token that is scored.
        from: usize,
        /// Where the answer goes.
        reply: Reply<Scored>,
    },
    /// One vector for all of them, of length 1.
    Vector {
        /// How the last rows become one.
        pooling: VectorPooling,
        /// Where the answer goes.
        reply: Reply<Vec<f32>>,
    },
}

impl Reading {
    /// Answers that there will be no answer.
    pub(crate) fn refuse(self, error: ModelError) {
        match self {
            Reading::Logprobs { reply, .. } => reply(Err(error)),
            Reading::Vector { reply, .. } => reply(Err(error)),
        }
    }
}

/// Takes one answer; it must not block.
pub type Reply<T> = Box<dyn FnOnce(Result<T, ModelError>) + Send>;

/// How the rows of a text become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VectorPooling {
    /// The last token's row, which in a decoder alone has seen all others.
    #[default]
    Last,
    /// The mean of all rows.
    Mean,
}

/// Reads one text.
pub(crate) struct ReadDriver {
    token_ids: Vec<TokenId>,
    reading: Option<Reading>,
    /// Rows of which the output is looked at start here.
    first: usize,
    /// Tokens that were run.
    n_done: usize,
    logprobs: Vec<f32>,
    is_greedy: bool,
    sum: Vec<f64>,
}

impl ReadDriver {
    pub(super) fn new(token_ids: Vec<TokenId>, reading: Reading) -> Self {
        let first = match reading {
            Reading::Logprobs { from, .. } => from - 1,
            Reading::Vector { pooling: VectorPooling::Last, .. } => token_ids.len() - 1,
            Reading::Vector { pooling: VectorPooling::Mean, .. } => 0,
        };
        let (logprobs, sum) = (Vec::new(), Vec::new());
        Self { token_ids, reading: Some(reading), first, n_done: 0, logprobs, is_greedy: true, sum }
    }

    /// Tokens before the first row of interest.
    pub(super) fn max_skip(&self) -> usize {
        self.first
    }

    pub(super) fn skip(&mut self, n_tokens: usize) {
        self.n_done += n_tokens;
    }

    /// Of the next `n_tokens` tokens, how many of the last ones are looked at.
    pub(super) fn n_outputs(&self, n_tokens: usize) -> usize {
        (self.n_done + n_tokens).saturating_sub(self.first).min(n_tokens)
    }

    /// Tokens up to the first row of interest, and some rows.
    pub(super) fn max_chunk(&self) -> usize {
        self.first.saturating_sub(self.n_done) + MAX_ROWS
    }

    /// Looks at the rows of a step; whether it was the last.
    pub(super) fn advance(&mut self, rows: Rows, desk: &mut Desk) -> Result<bool> {
        let n_outputs = self.n_outputs(rows.tokens.len());
        self.n_done += rows.tokens.len();
        match self.reading {
            Some(Reading::Logprobs { .. }) => {
                let first_target = self.n_done - n_outputs + 1;
                for (i, logits) in rows.logits.chunks_exact(desk.vocab.size).enumerate() {
                    let softmax = Softmax::of(logits)?;
                    let logit = logits[self.token_ids[first_target + i] as usize];
                    self.logprobs.push(softmax.logprob(logit));
                    // Ties go to the lower id.
                    let best = softmax.top(logits, 1)[0].0;
                    self.is_greedy &= best == self.token_ids[first_target + i];
                }
            }
            _ => {
                let width = rows.hidden.len() / n_outputs.max(1);
                self.sum.resize(width.max(self.sum.len()), 0.0);
                for row in rows.hidden.chunks_exact(width.max(1)) {
                    self.sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
                }
            }
        }
        Ok(rows.complete)
    }

    /// Sends the answer, or why there is none.
    pub(crate) fn finish(mut self, outcome: Result<(), ModelError>) {
        match self.reading.take() {
            None => {}
            Some(Reading::Logprobs { from, reply }) => reply(outcome.map(|()| Scored {
                token_ids: self.token_ids.split_off(from),
                logprobs: self.logprobs,
                is_greedy: self.is_greedy,
            })),
            Some(Reading::Vector { reply, .. }) => reply(outcome.map(|()| {
                let length = self.sum.iter().map(|x| x * x).sum::<f64>().sqrt();
                let length = if length > 0.0 { length } else { 1.0 };
                self.sum.iter().map(|x| (x / length) as f32).collect()
            })),
        }
    }

    /// The only branch that it has. After the last scored token, nobody asks what comes next: it is not run.
    pub(super) fn branch(&self) -> Branch {
        let n_run = match self.reading {
            Some(Reading::Logprobs { .. }) => self.token_ids.len() - 1,
            _ => self.token_ids.len(),
        };
        Branch::new(self.token_ids[..n_run].to_vec(), self.token_ids.len())
    }
}
