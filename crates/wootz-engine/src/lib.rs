//! KV pool, scheduling and sampling.
//!
//! Where:  above models; driven by the command line and the server.
//! Idea:   one ragged batch a step for all requests; an [`Engine`] has no thread and no clock of its own.
//! Elsewhere: the model (`wootz-model`), what runs it (`wootz-graph`), requests and events (`wootz-text`).
#![forbid(unsafe_code)]

mod adapters;
mod block_pool;
mod counts;
mod door;
mod draft;
mod driver;
mod engine;
mod error;
mod histogram;
mod host;
mod identity;
mod job;
mod load;
mod local_model;
mod prefix;
mod prefix_tree;
mod runner;
mod sampler;
mod scheduler;
mod shelf;

pub use adapters::AdapterId;
pub use counts::EngineCounts;
pub use door::Door;
pub use driver::{Reading, Reply, VectorPooling};
pub use engine::{Engine, EngineOptions, ReadRequest, Request, Schedule};
pub use error::{Error, Result};
pub use histogram::Histogram;
pub use host::{Host, ModelStats};
pub use identity::Identity;
pub use load::{DraftModel, LoadOptions, load, load_draft, needed_bytes};
pub use local_model::LocalModel;
pub use prefix::{Prefix, PrefixLimits};
pub use runner::{BLOCK_LEN, Forward, Outputs, Runner, RunnerOptions, Track, Work, states_of};
pub use sampler::{
    BeamSearch, Candidates, Continuation, ContrastiveSearch, Drawn, Hypothesis, SampleError, Sampler,
    SamplerVocab, Softmax, StopMatcher, StopText, TokenBytes, TokenMask,
};
pub use shelf::{Shelf, ShelfError, Shelved, Wanted};
