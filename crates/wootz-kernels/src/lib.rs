//! SIMD kernels: block formats, matrix products, attention, the thread pool.
//!
//! Where:  the bottom of the workspace; called by the `cpu` device of `wootz-graph` and by `wootz-weights`.
//! Idea:   every fast path has a plain twin, is chosen once by an [`Isa`] value, and adds in one fixed order.
//! Elsewhere: what is computed and why (`wootz-graph`), where the bytes come from (`wootz-weights`).

mod block;
mod tensor_type;

pub use block::{NotWritable, can_quantize, dequantize, quantize};
pub use tensor_type::TensorType;
