//! Kernels that treat every row, or every number, on its own: norms, soft-max, activations, rotary positions.
//!
//! Where:  between the products of a layer, by way of the `cpu` device.
//! Idea:   a body over sixteen lanes; the tail of a row is one vector more, filled up, so that a number's result does not depend
//!         on where in a row it stands. Rows go to threads in groups, and no result depends on how.

mod activation;
mod elementwise;
mod norm;
mod rope;
mod softmax;

pub use activation::{Activation, activate, gated};
pub(crate) use elementwise::add_scaled;
pub use elementwise::{add, add_assign, mul, scale};
pub(crate) use norm::dot_lanes;
pub use norm::{dot, l2_norm, layer_norm, rms_norm};
pub use rope::{RopeStyle, rope, rope_tables};
pub use softmax::{log_softmax, softmax};

use crate::simd::{LANES, Simd};

/// How many rows make a task: enough numbers that handing it over does not count.
fn rows_per_task(row_len: usize) -> usize {
    (1_usize << 14).div_ceil(row_len.max(1))
}

/// `f` of every lane of `x`, to `out`.
#[inline(always)]
fn each<S: Simd>(s: S, x: &[f32], out: &mut [f32], f: impl Fn(S::F) -> S::F) {
    let (x_body, x_tail) = x.as_chunks::<LANES>();
    let (out_body, out_tail) = out.as_chunks_mut::<LANES>();
    for (x, out) in x_body.iter().zip(out_body) {
        s.store(f(s.load(x)), out);
    }
    if !x_tail.is_empty() {
        s.store_part(f(s.load_part(x_tail, 0.0)), out_tail);
    }
}

/// `f` of every pair of lanes, to `out`.
#[inline(always)]
fn each_pair<S: Simd>(s: S, a: &[f32], b: &[f32], out: &mut [f32], f: impl Fn(S::F, S::F) -> S::F) {
    let (a_body, a_tail) = a.as_chunks::<LANES>();
    let (b_body, b_tail) = b.as_chunks::<LANES>();
    let (out_body, out_tail) = out.as_chunks_mut::<LANES>();
    for ((a, b), out) in a_body.iter().zip(b_body).zip(out_body) {
        s.store(f(s.load(a), s.load(b)), out);
    }
    if !a_tail.is_empty() {
        s.store_part(f(s.load_part(a_tail, 0.0), s.load_part(b_tail, 0.0)), out_tail);
    }
}

/// Folds the lanes of `x` into one vector; `fill` stands in the lanes past the end.
#[inline(always)]
fn fold<S: Simd>(s: S, x: &[f32], fill: f32, start: S::F, f: impl Fn(S::F, S::F) -> S::F) -> S::F {
    let (body, tail) = x.as_chunks::<LANES>();
    let mut acc = start;
    for x in body {
        acc = f(acc, s.load(x));
    }
    if tail.is_empty() { acc } else { f(acc, s.load_part(tail, fill)) }
}
