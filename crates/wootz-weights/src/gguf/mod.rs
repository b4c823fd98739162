//! GGUF: metadata and tensors in one file, the format of ggml and llama.cpp. Versions 2 and 3, little-endian.
//!
//! Where:  read through [`Weights`](crate::Weights), whose [`gguf`](crate::Weights::gguf) gives the metadata; written by
//!         conversion.
//! Idea:   keys and values are ranges of the mapped file, checked once and decoded when asked for, so that a vocabulary
//!         of 200,000 words costs nothing until it is read.
//! Source: ggml's `docs/gguf.md`.
//! Elsewhere: which keys an architecture has (`wootz-model`), the vocabulary (`wootz-text`).

mod header;
mod metadata;
mod value;
mod writer;

pub use header::Header;
pub use metadata::{FromValue, Gguf};
pub use value::{Array, Kind, Value};
pub use writer::Writer;

/// Where tensors start, unless `general.alignment` says otherwise.
pub const DEFAULT_ALIGNMENT: usize = 32;

const MAGIC: &[u8; 4] = b"GGUF";
const ALIGNMENT_KEY: &str = "general.alignment";
/// Dimensions that ggml's tensors have at most.
const MAX_DIMS: usize = 4;
