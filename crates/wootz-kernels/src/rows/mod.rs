//! Kernels that treat every row, or every number, on its own: norms, soft-max, activations, rotary positions.
//!
//! Where:  between the products of a layer, by way of the `cpu` device.
//! Idea:   a body over sixteen lanes; the tail of a row is one vector more, filled up, so that a number's result does not depend
//!         on where in a row it stands. Rows go to threads in groups, and no result depends on how.

/// Writes an expression of the lanes of one or two slices to `out`: `each!(s, out, x in x, y in y => s.add(x, y))`.
///
/// A macro, because a closure is compiled without its caller's instruction set unless it happens to be inlined.
macro_rules! each {
    ($s:ident, $out:expr, $($x:ident in $from:expr),+ => $y:expr) => {{
        let out: &mut [f32] = $out;
        let len = out.len();
        $(let $x: &[f32] = &$from[..len];)+
        let whole = len / $crate::simd::LANES * $crate::simd::LANES;
        let mut first = 0;
        while first < whole {
            let y = {
                $(let $x = $s.load($x[first..].first_chunk().expect("a whole vector"));)+
                $y
            };
            $s.store(y, out[first..].first_chunk_mut().expect("a whole vector"));
            first += $crate::simd::LANES;
        }
        if whole < len {
            let y = {
                $(let $x = $s.load_part(&$x[whole..], 0.0);)+
                $y
            };
            $s.store_part(y, &mut out[whole..]);
        }
    }};
}

/// Folds the lanes of a slice into one vector: `fold!(s, acc = start, x in x or fill => s.add(acc, x))`, where `fill` stands in
/// the lanes past the end.
macro_rules! fold {
    ($s:ident, $acc:ident = $start:expr, $x:ident in $from:expr, or $fill:expr => $y:expr) => {{
        let (body, tail) = $from.as_chunks::<{ $crate::simd::LANES }>();
        let mut $acc = $start;
        for $x in body {
            let $x = $s.load($x);
            $acc = $y;
        }
        if !tail.is_empty() {
            let $x = $s.load_part(tail, $fill);
            $acc = $y;
        }
        $acc
    }};
}

mod activation;
mod elementwise;
mod norm;
mod norm_grad;
mod rope;
mod slope;
mod softmax;
mod sums;

pub use activation::{Activation, activate, gated};
pub(crate) use elementwise::add_scaled;
pub use elementwise::{add, add_assign, mul, scale};
pub(crate) use norm::dot_lanes;
pub use norm::{dot, l2_norm, layer_norm, rms_norm};
pub use norm_grad::{Divided, Norm, divided_grad, norm_input_grad, norm_weight_grad};
pub use rope::{RopeStyle, rope, rope_tables};
pub use slope::{activation_grad, gated_grad};
pub use softmax::{log_softmax, softmax};
pub use sums::sum_rows;

/// How many rows make a task: enough numbers that handing it over does not count.
fn rows_per_task(row_len: usize) -> usize {
    (1_usize << 14).div_ceil(row_len.max(1))
}
