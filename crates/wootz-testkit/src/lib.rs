//! Fixtures and scripted models that tests of several crates share.
//!
//! Where:  a development dependency only.
#![forbid(unsafe_code)]
