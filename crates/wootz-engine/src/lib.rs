//! KV pool, scheduling and sampling.
//!
//! Where:  above models; driven by the command line and the server.
//! Idea:   one ragged batch a step for all requests; an [`Engine`] has no thread and no clock of its own.
//! Elsewhere: the model (`wootz-model`), what runs it (`wootz-graph`), requests and events (`wootz-text`).
#![forbid(unsafe_code)]

mod block_pool;
mod driver;
mod engine;
mod error;
mod runner;
mod sampler;

pub use engine::{Engine, EngineOptions, Request};
pub use error::{Error, Result};
pub use runner::{BLOCK_LEN, Forward, Outputs, Runner, RunnerOptions, Track, Work, states_of};
pub use sampler::{
    BeamSearch, Candidates, Continuation, ContrastiveSearch, Drawn, Hypothesis, SampleError, Sampler,
    SamplerVocab, Softmax, StopMatcher, StopText, TokenBytes, TokenMask,
};
