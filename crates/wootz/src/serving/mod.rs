//! Models as the server wants them: loaded, named, with everything they can do.
//!
//! Where:  made by `wootz serve`; the only place where engine, encoders and server meet.

mod encoder;
mod guessing;
mod numbers;
mod opened;
mod overlays;
mod stock;

pub(crate) use guessing::Guessing;
pub(crate) use opened::{DEFAULT_CONTEXT, Loading};
pub(crate) use stock::{Stock, StockOptions};
