//! Tests against recorded results of other implementations, and against hostile files.

mod golden_templates;
mod golden_tokenizers;
mod hostile;
mod memory;
mod streaming;
