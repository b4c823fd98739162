//! Weight files: safetensors, GGUF and PyTorch archives, memory-mapped.
//!
//! Where:  between the files on disk and `wootz-model`, which gives tensors their meaning.
//! Idea:   a file is checked once, completely, when it is opened; after that a tensor is a name, a shape and a slice.
//! Elsewhere: what a block's bytes mean (`wootz_kernels::dequantize`), which tensors a model has (`wootz-model`).
#![deny(unsafe_code)]

mod atomic;
mod cursor;
mod error;
pub mod gguf;
mod mmap;
pub mod safetensors;
mod shards;
mod source;
mod tensor;
pub mod torch;
mod weights;

pub use atomic::AtomicFile;
pub use error::{Error, Result};
pub use tensor::{TensorInfo, TensorView};
pub use weights::{Format, Weights};

/// Tensors that one file may have: about 440 bytes each are kept, and real files have fewer than 20,000.
const MAX_TENSORS: usize = 1 << 16;
/// Metadata keys that one file may have.
const MAX_KEYS: usize = 1 << 16;
