//! SIMD kernels: block formats, matrix products, attention, the thread pool.
//!
//! Where:  the bottom of the workspace; called by the `cpu` device of `wootz-graph` and by `wootz-weights`.
//! Idea:   every fast path has a plain twin, is chosen once by an [`Isa`] value, and adds in one fixed order.
//! Elsewhere: what is computed and why (`wootz-graph`), where the bytes come from (`wootz-weights`).

#![expect(clippy::needless_range_loop, reason = "in kernels an index names a register or a lane")]

mod aligned;
mod attention;
mod block;
pub mod cast;
mod cell;
mod grouped_grad;
mod isa;
mod kv_store;
mod linear;
mod logprobs;
mod low_rank;
mod packed;
mod peaks;
mod pool;
mod relative;
mod rows;
mod scan;
mod simd;
mod tensor_type;
#[cfg(test)]
mod test_rng;

pub use aligned::{AlignedBytes, Slab};
pub use attention::{
    AttendForward, AttendGrads, AttendSeq, AttendSpec, DenseSeq, Visible, attend, attend_dense,
    attend_dense_backward,
};
pub use block::{NotWritable, can_quantize, dequantize, quantize};
pub use cell::{Cell, CellBack, cell_step, cell_step_grad};
pub use grouped_grad::{grouped_input_grad, grouped_weight_grad};
pub use isa::{Isa, Level};
pub use kv_store::{KvStore, Slot, Values};
pub use linear::{
    ExpertPart, ExpertRows, LinearPart, grouped_linear, linear, linear_input_grad, linear_weight_grad,
};
pub use logprobs::{LogitHead, LogprobGrads, token_logprobs, token_logprobs_grad};
pub use low_rank::{HostMatrix, LowRank, LowRankExtras, add_low_rank};
pub use packed::{PackedMatrix, Packing, Precision};
pub use peaks::Peaks;
pub use pool::Pool;
pub use relative::{RelativeBias, attend_relative, attend_relative_grad};
pub use rows::*;
pub use scan::{
    Conv1d, ScanGrads, ScanSeq, SelectiveScan, SsdScan, conv1d_grad, conv1d_update, decay_scan,
    decay_scan_grad, selective_scan, selective_scan_grad, ssd_scan, ssd_scan_grad,
};
pub use tensor_type::TensorType;
