//! What an answer must look like: JSON schemas, regular expressions, grammars and choices, as masks over tokens.
//!
//! Where:  words; knows no numbers. The engine asks for a mask before it draws, and says what was drawn.
//! Idea:   everything becomes one kind of grammar; a [`Guide`] walks through it with one answer and says at each place
//!         which tokens may come, and which must.
//! Source: `llguidance` does the parsing (derivatives of regular expressions as a lexer, Earley above, a trie over the
//!         vocabulary); its limits of work are kept, so that no grammar runs away.
//! Elsewhere: what a request may ask for (`wootz_text::Constraint`), drawing under a mask (`wootz-engine`).
#![forbid(unsafe_code)]

mod closing;
mod error;
mod form;
mod gbnf;
mod grammar;
mod guide;
mod schema;
mod vocab;

pub use error::{GrammarError, Result};
pub use grammar::{Grammar, Grammars};
pub use guide::Guide;
