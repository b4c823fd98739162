//! Weight files: safetensors, GGUF and PyTorch archives, memory-mapped.
//!
//! Where:  between the files on disk and `wootz-model`, which gives tensors their meaning.
#![deny(unsafe_code)]
