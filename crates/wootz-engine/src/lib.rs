//! KV pool, scheduling and sampling.
//!
//! Where:  above models; driven by the command line and the server.
#![forbid(unsafe_code)]

mod sampler;

pub use sampler::{
    BeamSearch, Candidates, Continuation, ContrastiveSearch, Drawn, Hypothesis, SampleError, Sampler,
    SamplerVocab, Softmax, StopMatcher, StopText, TokenBytes, TokenMask,
};
