//! Whole models: encoders against sentence-transformers, states against whole sequences.

mod encoders;
mod states;
mod variants;
