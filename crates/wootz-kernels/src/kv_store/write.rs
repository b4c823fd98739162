//! Rows of keys and values on their way to their places in blocks.
//!
//! Where:  tasks of [`KvStore::append`](super::KvStore::append).
//! Idea:   a row is rounded sixteen numbers at a time; a key's numbers then go to one lane of many chunks, a value's to one chunk
//!         of each panel.
//! Elsewhere: 8 bits ([`q8`](super::q8)).

use super::{Shape, Slot, q8};
use crate::TensorType;
use crate::cast::cast_mut;
use crate::isa::Kernel;
use crate::packed::{Bf16Pairs, Chunk, F16Pairs, F32Pairs, Stored};
use crate::pool::SharedSlice;
use crate::simd::{LANES, Simd};

/// One head's numbers of all rows.
pub(super) struct Write<'a> {
    pub shape: Shape,
    pub head: usize,
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub slots: &'a [Slot],
    pub k_bytes: SharedSlice<'a, u8>,
    pub v_bytes: SharedSlice<'a, u8>,
}

impl Kernel for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Write { shape, head, k, v, slots, k_bytes, v_bytes } = self;
        let Shape { n_kv_heads, d_k, d_v, .. } = shape;
        for (t, slot) in slots.iter().enumerate() {
            let (block, offset) = (slot.block as usize, slot.offset as usize);
            let key = &k[(t * n_kv_heads + head) * d_k..][..d_k];
            let value = if v.is_empty() { v } else { &v[(t * n_kv_heads + head) * d_v..][..d_v] };
            // SAFETY: a head's part of a block belongs to one task.
            let keys = unsafe { k_bytes.slice(shape.keys(block, head)) };
            // SAFETY: as above.
            let values = unsafe { v_bytes.slice(shape.stored_values(block, head)) };
            match shape.dtype {
                TensorType::F32 => put::<S, F32Pairs>(s, shape, offset, (key, value), keys, values),
                TensorType::F16 => put::<S, F16Pairs>(s, shape, offset, (key, value), keys, values),
                TensorType::BF16 => put::<S, Bf16Pairs>(s, shape, offset, (key, value), keys, values),
                _ => {
                    q8::put_key(s, key, offset, shape.block_len, keys);
                    q8::put_value(s, value, offset, shape.block_len, values);
                }
            }
        }
    }
}

#[inline(always)]
fn put<S: Simd, W: Stored>(
    s: S,
    shape: Shape,
    offset: usize,
    (key, value): (&[f32], &[f32]),
    keys: &mut [u8],
    values: &mut [u8],
) {
    let n_pairs = shape.d_k.div_ceil(2);
    let panel = &mut chunks_mut::<W>(keys)[offset / LANES * n_pairs..][..n_pairs];
    for (x, chunks) in key.chunks(LANES).zip(panel.chunks_mut(LANES / 2)) {
        let rounded = W::round(s, s.load_part(x, 0.0));
        for (pair, chunk) in rounded.as_chunks::<2>().0.iter().zip(chunks) {
            for (j, &number) in pair.iter().enumerate() {
                chunk[W::place(offset % LANES, j)] = number;
            }
        }
    }
    let values = chunks_mut::<W>(values);
    for (i, x) in value.chunks(LANES).enumerate() {
        let chunk = &mut values[(i * shape.block_len + offset) / 2];
        for (lane, number) in W::round(s, s.load_part(x, 0.0)).into_iter().enumerate() {
            chunk[W::place(lane, offset % 2)] = number;
        }
    }
}

fn chunks_mut<W: Stored>(bytes: &mut [u8]) -> &mut [Chunk<W::Number>] {
    cast_mut::<W::Number>(bytes).expect("blocks are aligned").as_chunks_mut().0
}
