//! Texts to tokens, cut to the length that a folder's files allow.
//!
//! Where:  the first step of [`SentenceEncoder`](super::SentenceEncoder) and [`CrossEncoder`](super::CrossEncoder).

use std::path::Path;

use wootz_text::Tokenizer;

use super::folder::object;
use super::runner::Tokens;
use crate::{Config, Error, Result};

/// Reads texts as a model's files say.
#[derive(Debug)]
pub(super) struct Reader {
    tokenizer: Tokenizer,
    max_len: usize,
    lower_case: bool,
    /// Whether the model tells a pair's texts apart by their types.
    uses_types: bool,
}

impl Reader {
    /// The tokenizer of a folder; `max_len` is what other files say about the longest text, special tokens counted.
    pub fn open(folder: &Path, config: &Config, max_len: Option<usize>, lower_case: bool) -> Result<Self> {
        let tokenizer = Tokenizer::from_dir(folder).map_err(|error| Error::Unsupported(error.to_string()))?;
        let mut by_tokenizer = f64::INFINITY;
        if let Some(hf) = object(&folder.join("tokenizer_config.json"))? {
            hf.require("truncation_side", "right")?;
            // Tokenizers without a limit say 10³⁰.
            by_tokenizer = hf.find_f64("model_max_length")?.unwrap_or(by_tokenizer);
        }
        // COMPAT: sentence-transformers believes `max_seq_length` over everything else. Positions end all the same.
        let wanted = max_len.unwrap_or(by_tokenizer.min(config.max_seq_len as f64) as usize);
        let max_len = wanted.min(config.embed.n_positions.unwrap_or(usize::MAX));
        // RoBERTa has a table of types, and its tokenizers never give any.
        let uses_types = config.arch == "bert";
        Ok(Self { tokenizer, max_len, lower_case, uses_types })
    }

    /// One text's tokens.
    pub fn read(&self, text: &str) -> Tokens {
        let ids = self.tokenizer.encode_up_to(&self.cased(text), self.max_len);
        Tokens { types: vec![0; ids.len()], ids }
    }

    /// A pair's tokens, and which of the two texts they belong to. The longer text is cut first.
    pub fn read_pair(&self, first: &str, second: &str) -> Tokens {
        let (ids, mut types) =
            self.tokenizer.encode_pair_up_to(&self.cased(first), &self.cased(second), self.max_len);
        if !self.uses_types {
            types.fill(0);
        }
        Tokens { ids, types }
    }

    /// COMPAT: letter by letter, as `tokenizers` does; a final sigma gets no form of its own.
    fn cased(&self, text: &str) -> String {
        if self.lower_case { text.chars().flat_map(char::to_lowercase).collect() } else { text.to_owned() }
    }
}
