//! Configurations, architectures and encoders as graphs.
//!
//! Where:  between weights and those who run models.
#![forbid(unsafe_code)]
