//! Encoders as others see them: texts to vectors, pairs of texts to scores.
//!
//! Where:  behind `wootz_text::Embed` and `wootz_text::Rerank`; retrieval and the command line open them.
//! Idea:   a folder's files say everything: which steps, which prompts, how long. What they say and is not done here
//!         is refused by name.
//! Elsewhere: the forward pass (`network`), tokenizers (`wootz-text`).

mod cross;
mod folder;
mod modules;
mod reader;
mod runner;
mod sentence;

pub use cross::CrossEncoder;
pub use sentence::SentenceEncoder;
