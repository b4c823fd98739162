//! Corpora: files as texts, and tokenizers learned from them.
//!
//! Where:  words; used by training and the command line. Knows no numbers of models.
//! Idea:   a corpus is an iterator of texts that never lies in memory whole. What is counted is bounded.
//! Elsewhere: using a tokenizer (`wootz-text`), the training of models (`wootz-train`).
#![forbid(unsafe_code)]

mod documents;
mod error;
mod vocabulary;

pub use documents::{Documents, Field};
pub use error::Error;
pub use vocabulary::{Algorithm, Cut, Learned, LearnedStats, Stage, VocabularySettings, learn_tokenizer};
