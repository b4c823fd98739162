//! KV pool, scheduling and sampling.
//!
//! Where:  above models; driven by the command line and the server.
#![forbid(unsafe_code)]
