//! Whole models: their settings, encoders against sentence-transformers, states against whole sequences.

mod adapters;
mod configs;
mod encoders;
mod gguf;
mod gradients;
mod states;
mod variants;
