//! Whole models: encoders against sentence-transformers, states against whole sequences.

mod encoders;
mod gguf;
mod states;
mod variants;
