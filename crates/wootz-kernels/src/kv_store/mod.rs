//! The cache of keys and values: blocks of positions that sequences name in tables.
//!
//! Where:  owned by the graph's state, written at each step, read by [`attend`](crate::attend).
//! Idea:   keys of sixteen positions are interleaved so that lanes are positions, values so that lanes are the head's numbers;
//!         both then stream in order, and attention is the linear product's inner loop twice.
//! Source: Kwon et al. 2023, PagedAttention, arXiv:2309.06180, for blocks.
//! Elsewhere: which sequence owns which block (the engine).

pub(crate) mod q8;
mod write;

use std::ops::Range;

use crate::pool::SharedSlice;
use crate::simd::LANES;
use crate::{AlignedBytes, Isa, Pool, TensorType};
use write::Write;

/// Blocks of keys and values for one layer, or of one latent from which values are the first numbers of keys.
#[derive(Debug)]
pub struct KvStore {
    dtype: TensorType,
    n_blocks: usize,
    block_len: usize,
    n_kv_heads: usize,
    d_k: usize,
    d_v: usize,
    values: Values,
    /// `[block][head][position / 16][d_k / 2]` chunks of two numbers times sixteen positions; then scales, if there are any.
    k: AlignedBytes,
    /// `[block][head][d_v / 16][position / 2]` chunks of two positions times sixteen numbers; then scales, if there are any.
    v: AlignedBytes,
}

/// Where the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Beside the keys.
    Stored,
    /// They are the first `d_v` numbers of each key (multi-head latent attention).
    FirstOfKeys,
}

/// Where a position's keys and values stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Block.
    pub block: u32,
    /// Position inside the block.
    pub offset: u32,
}

impl KvStore {
    /// Zeroed blocks. `dtype` is F32, F16, BF16 or Q8_0 (8 bits for each number, a scale for each 32 of a head); `block_len` is 16, 32, 64 or 128 (64 is best).
    ///
    /// Memory is taken from the system as blocks are first written.
    pub fn new(
        dtype: TensorType,
        n_blocks: usize,
        block_len: usize,
        n_kv_heads: usize,
        (d_k, d_v): (usize, usize),
        values: Values,
    ) -> Self {
        assert!(
            matches!(dtype, TensorType::F32 | TensorType::F16 | TensorType::BF16 | TensorType::Q8_0),
            "a cache is f32, f16, bf16 or q8_0, not {dtype}"
        );
        assert!(
            matches!(block_len, 16 | 32 | 64 | 128),
            "a block has 16, 32, 64 or 128 positions, not {block_len}"
        );
        assert!(values == Values::Stored || d_v <= d_k, "values are part of keys: {d_v} of {d_k}");
        let mut store = KvStore {
            dtype,
            n_blocks,
            block_len,
            n_kv_heads,
            d_k,
            d_v,
            values,
            k: AlignedBytes::zeroed(0),
            v: AlignedBytes::zeroed(0),
        };
        let bytes = |head: usize| {
            n_blocks
                .checked_mul(n_kv_heads)
                .and_then(|n| n.checked_mul(head))
                .expect("a cache fits into memory")
        };
        store.k = AlignedBytes::zeroed(bytes(store.shape().k_head_bytes()));
        store.v = AlignedBytes::zeroed(bytes(store.shape().v_head_bytes()));
        store
    }

    /// Number type of the cache.
    pub fn dtype(&self) -> TensorType {
        self.dtype
    }

    /// How many blocks there are.
    pub fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    /// Positions of a block.
    pub fn block_len(&self) -> usize {
        self.block_len
    }

    /// Bytes when all blocks are written.
    pub fn bytes(&self) -> usize {
        self.k.len() + self.v.len()
    }

    /// Writes row `t` of `k` `(T, K·d_k)` and of `v` `(T, K·d_v)` to `slots[t]`, rounded to the cache's type.
    ///
    /// `v` is empty where values are part of keys.
    pub fn append(&mut self, isa: Isa, pool: &Pool, k: &[f32], v: &[f32], slots: &[Slot]) {
        let (k_len, v_len) = (self.n_kv_heads * self.d_k, self.v_row_len());
        assert_eq!(k.len(), slots.len() * k_len, "append: `k` is ({}, {k_len})", slots.len());
        assert_eq!(v.len(), slots.len() * v_len, "append: `v` is ({}, {v_len})", slots.len());
        for slot in slots {
            assert!(
                (slot.block as usize) < self.n_blocks,
                "append: block {} of {}",
                slot.block,
                self.n_blocks
            );
            assert!(
                (slot.offset as usize) < self.block_len,
                "append: offset {} of {}",
                slot.offset,
                self.block_len
            );
        }
        let shape = self.shape();
        let (k_bytes, v_bytes) = (SharedSlice::new(&mut self.k[..]), SharedSlice::new(&mut self.v[..]));
        // Few rows are not worth waking anybody for.
        let heads_a_task = if slots.len() < 8 { shape.n_kv_heads } else { 1 };
        pool.run(shape.n_kv_heads.div_ceil(heads_a_task), |task| {
            let heads = task * heads_a_task..((task + 1) * heads_a_task).min(shape.n_kv_heads);
            for head in heads {
                isa.run(Write { shape, head, k, v, slots, k_bytes, v_bytes });
            }
        });
    }

    /// Copies all of block `from` over block `to`.
    pub fn copy_block(&mut self, from: usize, to: usize) {
        assert!(
            from < self.n_blocks && to < self.n_blocks,
            "copy_block: {from} to {to} of {}",
            self.n_blocks
        );
        let k_bytes = self.shape().k_head_bytes() * self.n_kv_heads;
        self.k.copy_within(from * k_bytes..(from + 1) * k_bytes, to * k_bytes);
        let v_bytes = self.shape().v_head_bytes() * self.n_kv_heads;
        self.v.copy_within(from * v_bytes..(from + 1) * v_bytes, to * v_bytes);
    }

    /// All bytes of a block, keys before values, as they lie here.
    pub fn block(&self, block: usize) -> (&[u8], &[u8]) {
        let (k_bytes, v_bytes) = self.bytes_a_block();
        (&self.k[block * k_bytes..][..k_bytes], &self.v[block * v_bytes..][..v_bytes])
    }

    /// Puts back what [`block`](Self::block) of a store of the same shape gave. Panics if it is not as long.
    pub fn set_block(&mut self, block: usize, bytes: &[u8]) {
        let (k_bytes, v_bytes) = self.bytes_a_block();
        assert_eq!(bytes.len(), k_bytes + v_bytes, "set_block: bytes of a block");
        self.k[block * k_bytes..][..k_bytes].copy_from_slice(&bytes[..k_bytes]);
        self.v[block * v_bytes..][..v_bytes].copy_from_slice(&bytes[k_bytes..]);
    }

    /// Bytes of a block's keys, and of its values.
    pub fn bytes_a_block(&self) -> (usize, usize) {
        (self.shape().k_head_bytes() * self.n_kv_heads, self.shape().v_head_bytes() * self.n_kv_heads)
    }

    pub(crate) fn values(&self) -> Values {
        self.values
    }

    pub(crate) fn dims(&self) -> (usize, usize, usize) {
        (self.n_kv_heads, self.d_k, self.d_v)
    }

    /// Keys of one head in one block.
    pub(crate) fn keys(&self, block: usize, head: usize) -> &[u8] {
        &self.k[self.shape().keys(block, head)]
    }

    /// Values of one head in one block.
    pub(crate) fn stored_values(&self, block: usize, head: usize) -> &[u8] {
        &self.v[self.shape().stored_values(block, head)]
    }

    fn v_row_len(&self) -> usize {
        match self.values {
            Values::Stored => self.n_kv_heads * self.d_v,
            Values::FirstOfKeys => 0,
        }
    }

    fn shape(&self) -> Shape {
        let KvStore { dtype, block_len, n_kv_heads, d_k, d_v, values, .. } = *self;
        Shape { dtype, block_len, n_kv_heads, d_k, d_v, values }
    }
}

/// All about a store but its memory.
#[derive(Clone, Copy)]
struct Shape {
    dtype: TensorType,
    block_len: usize,
    n_kv_heads: usize,
    d_k: usize,
    d_v: usize,
    values: Values,
}

impl Shape {
    /// Bytes of one head's keys in a block.
    fn k_head_bytes(&self) -> usize {
        self.head_bytes(self.d_k.next_multiple_of(2), self.d_k)
    }

    /// Bytes of one head's values in a block.
    fn v_head_bytes(&self) -> usize {
        match self.values {
            Values::Stored => self.head_bytes(self.d_v.next_multiple_of(LANES), self.d_v),
            Values::FirstOfKeys => 0,
        }
    }

    fn head_bytes(&self, padded: usize, width: usize) -> usize {
        match self.dtype {
            TensorType::Q8_0 => self.block_len * (padded + 2 * width.div_ceil(q8::GROUP)),
            dtype => self.block_len * padded * dtype.block_bytes(),
        }
    }

    fn keys(&self, block: usize, head: usize) -> Range<usize> {
        let bytes = self.k_head_bytes();
        (block * self.n_kv_heads + head) * bytes..(block * self.n_kv_heads + head + 1) * bytes
    }

    fn stored_values(&self, block: usize, head: usize) -> Range<usize> {
        let bytes = self.v_head_bytes();
        (block * self.n_kv_heads + head) * bytes..(block * self.n_kv_heads + head + 1) * bytes
    }
}
