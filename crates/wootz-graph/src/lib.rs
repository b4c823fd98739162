//! Operators, autodiff, planning, devices.
//!
//! Where:  above the kernels, below everything that knows models.
#![forbid(unsafe_code)]
