//! Configurations, architectures and encoders as graphs.
//!
//! Where:  between weights and those who run models: the engine, the trainer, the command line.
//! Idea:   a model is a [`Network`], a list of layers whose parts are enum variants, filled from a [`Config`].
//!         Adding an architecture is mapping its configuration and naming its tensors.
//! Elsewhere: operators and devices (`wootz-graph`), files (`wootz-weights`), sampling (`wootz-engine`).
#![forbid(unsafe_code)]

mod adapter;
mod alibi;
mod arch;
pub mod config;
mod convert;
mod encoder;
mod error;
mod folder;
mod gguf;
mod hf;
mod load;
mod names;
mod network;
mod quantization;
mod rope;
mod source;
mod ternary;
mod words;

pub use adapter::{AdapterFile, AdapterKind, LoraSettings, NewAdapter, NewChange, write_peft};
pub use arch::config_from_hf;
pub use config::Config;
pub use convert::{ConvertOptions, Progress, convert};
pub use encoder::{CrossEncoder, SentenceEncoder};
pub use error::{Error, Result};
pub use hf::Hf;
pub use load::{GiveNumbers, Model};
pub use network::Network;
pub use words::Words;
