//! Whole models: their settings, encoders against sentence-transformers, states against whole sequences.

mod configs;
mod encoders;
mod gguf;
mod states;
mod variants;
