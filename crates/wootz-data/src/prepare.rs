//! A corpus becomes a store of encoded examples, once.
//!
//! Where:  before a run, by the trainer.
//! Idea:   rows are read in order in batches, encoded by several threads, and written in their order, so the store does not depend
//!         on threads. A row that would teach nothing, or something wrong, stops it and is shown.
//! Elsewhere: the file ([`Prepared`]), what is learned of an example ([`encode_chat`] and its kin).

use wootz_text::{ChatTemplate, Tokenizer};

use crate::encode::encode_prompt;
use crate::{
    Encoded, Error, Example, Prepared, PreparedExample, PreparedWriter, Row, Said, Supervise, Unlearnable,
    encode_answer, encode_chat, encode_text,
};

/// Rows that are encoded together, a thread.
const ROWS_A_THREAD: usize = 64;

/// How examples become tokens.
#[derive(Debug, Clone, Copy)]
pub struct Preparation<'a> {
    /// Of the model
    pub tokenizer: &'a Tokenizer,
    /// Of conversations; without it, prompts and answers are plain texts
    pub template: Option<&'a ChatTemplate>,
    /// Which turns are learned
    pub supervise: &'a Supervise,
    /// Most tokens of a sequence
    pub max_tokens: usize,
    /// What becomes of longer ones
    pub too_long: LongExamples,
    /// Threads that encode
    pub n_threads: usize,
}

/// What becomes of examples that are too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongExamples {
    /// They are left out
    Drop,
    /// Their end is cut off; what then teaches nothing is left out
    Truncate,
    /// Texts and conversations become several; others are left out
    Split,
    /// They stop it
    Refuse,
}

/// What became of a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PreparedStats {
    /// Rows that were read
    pub n_rows: u64,
    /// Examples that were written
    pub n_examples: u64,
    /// Rows that were left out for their length
    pub n_too_long: u64,
    /// Tokens that were written
    pub n_tokens: u64,
    /// Of these, tokens that are learned
    pub n_supervised: u64,
}

/// Encodes all examples and writes them in their order. `progress` is called now and then.
///
/// # Errors
/// A row that cannot be read or learned from, with its place; a full disk; no example at all.
pub fn prepare(
    examples: impl Iterator<Item = Result<(Row, Example), Error>>,
    preparation: &Preparation<'_>,
    mut writer: PreparedWriter,
    progress: &mut dyn FnMut(&PreparedStats),
) -> Result<(Prepared, PreparedStats), Error> {
    let mut stats = PreparedStats::default();
    let mut examples = examples.fuse();
    loop {
        let batch: Vec<_> =
            examples.by_ref().take(ROWS_A_THREAD * preparation.n_threads.max(1)).collect::<Result<_, _>>()?;
        if batch.is_empty() {
            break;
        }
        for (row, encoded) in batch.iter().zip(preparation.encode_all(&batch)) {
            let encoded = encoded.map_err(|why| row.0.place.error(why.to_string()))?;
            stats.n_rows += 1;
            stats.n_too_long += u64::from(encoded.is_empty());
            for example in encoded {
                writer.push(&example)?;
                stats.n_examples += 1;
                stats.n_tokens += example.n_tokens() as u64;
                stats.n_supervised += example.n_supervised() as u64;
            }
        }
        progress(&stats);
    }
    match stats.n_examples {
        0 => Err(Error::NoExamples {
            n_rows: stats.n_rows,
            n_too_long: stats.n_too_long,
            max_tokens: preparation.max_tokens,
        }),
        _ => Ok((writer.finish()?, stats)),
    }
}

impl Preparation<'_> {
    /// An example as tokens: none if it is left out, several if it is split.
    ///
    /// # Errors
    /// Every reason why it would teach nothing, or something wrong.
    pub fn encode(&self, example: &Example) -> Result<Vec<PreparedExample>, Unlearnable> {
        let answer = |prompt: &Said, said: &Said| encode_answer(self.tokenizer, self.template, prompt, said);
        let prepared = match example {
            Example::Text(text) => PreparedExample::Plain(encode_text(self.tokenizer, text)?),
            Example::Chat(conversation) => {
                let template = self
                    .template
                    .ok_or(Unlearnable::Mixed("expected a chat template for conversations, got none"))?;
                PreparedExample::Plain(encode_chat(self.tokenizer, template, conversation, self.supervise)?)
            }
            Example::Completion { prompt, completion } => PreparedExample::Plain(answer(prompt, completion)?),
            Example::Preference { prompt, chosen, rejected } => {
                PreparedExample::Pair { chosen: answer(prompt, chosen)?, rejected: answer(prompt, rejected)? }
            }
            Example::Label { prompt, completion, is_good } => {
                PreparedExample::Label { answer: answer(prompt, completion)?, is_good: *is_good }
            }
            Example::Prompt { prompt, answer } => PreparedExample::Prompt {
                token_ids: encode_prompt(self.tokenizer, self.template, prompt)?,
                answer: answer.clone(),
            },
        };
        self.fit(prepared)
    }

    fn fit(&self, example: PreparedExample) -> Result<Vec<PreparedExample>, Unlearnable> {
        let longest = match &example {
            PreparedExample::Plain(encoded) | PreparedExample::Label { answer: encoded, .. } => {
                encoded.token_ids.len()
            }
            PreparedExample::Pair { chosen, rejected } => {
                chosen.token_ids.len().max(rejected.token_ids.len())
            }
            PreparedExample::Prompt { token_ids, .. } => token_ids.len(),
        };
        if longest <= self.max_tokens {
            return Ok(vec![example]);
        }
        let max = self.max_tokens;
        Ok(match (self.too_long, example) {
            (LongExamples::Refuse, _) => {
                return Err(Unlearnable::TooLong { n_tokens: longest, max_tokens: max });
            }
            (LongExamples::Drop, _) | (_, PreparedExample::Prompt { .. }) => Vec::new(),
            (LongExamples::Split, PreparedExample::Plain(encoded)) => {
                parts(&encoded, max).filter(teaches).map(PreparedExample::Plain).collect()
            }
            (LongExamples::Split, _) => Vec::new(),
            (LongExamples::Truncate, PreparedExample::Plain(encoded)) => {
                parts(&encoded, max).take(1).filter(teaches).map(PreparedExample::Plain).collect()
            }
            (LongExamples::Truncate, PreparedExample::Label { answer, is_good }) => {
                let cut = parts(&answer, max).take(1).filter(teaches);
                cut.map(|answer| PreparedExample::Label { answer, is_good }).collect()
            }
            (LongExamples::Truncate, PreparedExample::Pair { chosen, rejected }) => {
                let cut = |encoded: &Encoded| parts(encoded, max).take(1).find(teaches);
                match (cut(&chosen), cut(&rejected)) {
                    (Some(chosen), Some(rejected)) => vec![PreparedExample::Pair { chosen, rejected }],
                    _ => Vec::new(),
                }
            }
        })
    }

    /// Each example's tokens, in order, by as many threads as there are.
    fn encode_all(&self, batch: &[(Row, Example)]) -> Vec<Result<Vec<PreparedExample>, Unlearnable>> {
        let one = |found: &(Row, Example)| self.encode(&found.1);
        let n_each = batch.len().div_ceil(self.n_threads.max(1));
        std::thread::scope(|scope| {
            let chunks = batch
                .chunks(n_each)
                .map(|chunk| scope.spawn(move || chunk.iter().map(one).collect::<Vec<_>>()));
            let threads: Vec<_> = chunks.collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("encoding does not panic")).collect()
        })
    }
}

/// Pieces of at most `max` tokens.
///
/// A token is learned after the one before it, so each piece begins with the last token of the piece before, which is not
/// learned again: nothing that was supervised is lost.
fn parts(encoded: &Encoded, max: usize) -> impl Iterator<Item = Encoded> {
    let n = encoded.token_ids.len();
    let starts = (0..n.saturating_sub(1)).step_by(max.saturating_sub(1).max(1));
    starts.map(move |start| {
        let until = n.min(start + max);
        let mut part = Encoded {
            token_ids: encoded.token_ids[start..until].to_vec(),
            supervised: encoded.supervised[start..until].to_vec(),
        };
        if start > 0 {
            part.supervised[0] = false;
        }
        part
    })
}

/// Whether a token behind the first is supervised.
fn teaches(encoded: &Encoded) -> bool {
    encoded.supervised.iter().skip(1).any(|is| *is)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bits: &[u8]) -> Encoded {
        Encoded {
            token_ids: (0..bits.len() as u32).collect(),
            supervised: bits.iter().map(|bit| *bit == 1).collect(),
        }
    }

    #[test]
    fn pieces_learn_every_supervised_token_once() {
        for (n, max) in [(10, 4), (11, 4), (4, 4), (5, 4), (9, 2), (2, 2)] {
            let whole = encoded(&vec![1; n]);
            let mut learned = vec![0; n];
            for part in parts(&whole, max) {
                assert!(part.token_ids.len() <= max && part.token_ids.len() >= 2);
                // A token is learned if it is supervised and another stands before it.
                let of_part = part.token_ids.iter().zip(&part.supervised).skip(1).filter(|found| *found.1);
                of_part.for_each(|found| learned[*found.0 as usize] += 1);
            }
            let expected: Vec<i32> = (0..n).map(|i| i32::from(i > 0)).collect();
            assert_eq!(learned, expected, "{n} by {max}");
        }
    }
}
