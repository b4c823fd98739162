//! Tokenizers, chat templates, and the traits by which others see a model.
//!
//! Where:  words; knows no numbers.
#![forbid(unsafe_code)]
