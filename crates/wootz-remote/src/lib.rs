//! The Hugging Face Hub and remote providers, blocking.
//!
//! Where:  an edge; the only crate below the command line that knows HTTP.
#![forbid(unsafe_code)]
