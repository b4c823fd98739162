//! Models as the server wants them: loaded, named, with everything they can do.
//!
//! Where:  made by `wootz serve`; the only place where engine, encoders and server meet.

mod encoder;
mod numbers;
mod opened;

pub(crate) use opened::{Loading, open};
