//! Corpora: files as rows, rows as examples, examples as tokens; and tokenizers learned from texts.
//!
//! Where:  words; used by training and the command line. Knows no numbers of models.
//! Idea:   a corpus is an iterator of rows; only a file that is one JSON list is read at once, up to a bound. A row that
//!         would teach nothing, or something wrong, is an error that shows the row.
//! Elsewhere: using a tokenizer and templates (`wootz-text`), the training of models (`wootz-train`).
#![forbid(unsafe_code)]

mod files;
mod parquet;
mod rows;

mod blend;
mod documents;
mod encode;
mod error;
mod example;
mod fingerprint;
mod order;
mod prepare;
mod prepared;
mod vocabulary;

pub use blend::Blend;
pub use documents::{Documents, Field};
pub use encode::{
    Encoded, Supervise, Unlearnable, encode_answer, encode_chat, encode_completion, encode_text,
};
pub use error::Error;
pub use example::{Conversation, Example, Examples, Said, Shape, Turn};
pub use files::files_of;
pub use fingerprint::Fingerprint;
pub use order::{Mixture, Shuffle, is_held_out, pack};
pub use prepare::{LongExamples, Preparation, PreparedStats, prepare};
pub use prepared::{HeldOutExamples, Prepared, PreparedExample, PreparedWriter};
pub use rows::{Place, Row, Rows};
pub use vocabulary::{Algorithm, Cut, Learned, LearnedStats, Stage, VocabularySettings, learn_tokenizer};
