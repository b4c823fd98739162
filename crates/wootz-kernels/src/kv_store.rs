//! The cache of keys and values: blocks of positions that sequences name in tables.
//!
//! Where:  owned by the graph's state, written at each step, read by [`attend`](crate::attend).
//! Idea:   keys of sixteen positions are interleaved so that lanes are positions, values so that lanes are the head's numbers;
//!         both then stream in order, and attention is the linear product's inner loop twice.
//! Source: Kwon et al. 2023, PagedAttention, arXiv:2309.06180, for blocks.
//! Elsewhere: which sequence owns which block (the engine).

use half::{bf16, f16};

use crate::cast::{Plain, cast_mut};
use crate::packed::{Layout, place};
use crate::simd::LANES;
use crate::{AlignedBytes, TensorType};

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
    /// `[block][head][position / 16][d_k / 2]` chunks of two numbers times sixteen positions.
    k: AlignedBytes,
    /// `[block][head][d_v / 16][position / 2]` chunks of two positions times sixteen numbers.
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
    /// Zeroed blocks. `dtype` is F32, F16 or BF16; `block_len` is 16, 32, 64 or 128 (64 is best).
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
            matches!(dtype, TensorType::F32 | TensorType::F16 | TensorType::BF16),
            "a cache is f32, f16 or bf16, not {dtype}"
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
        store.k = AlignedBytes::zeroed(bytes(store.k_head_bytes()));
        store.v = AlignedBytes::zeroed(bytes(store.v_head_bytes()));
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
    pub fn append(&mut self, k: &[f32], v: &[f32], slots: &[Slot]) {
        let (k_len, v_len) = (self.n_kv_heads * self.d_k, self.v_row_len());
        assert_eq!(k.len(), slots.len() * k_len, "append: `k` is ({}, {k_len})", slots.len());
        assert_eq!(v.len(), slots.len() * v_len, "append: `v` is ({}, {v_len})", slots.len());
        for (t, slot) in slots.iter().enumerate() {
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
            let (k, v) = (&k[t * k_len..][..k_len], &v[t * v_len..][..v_len]);
            match self.dtype {
                TensorType::F32 => self.write::<f32>(*slot, k, v, |x| x),
                TensorType::F16 => self.write(*slot, k, v, f16::from_f32),
                _ => self.write(*slot, k, v, bf16::from_f32),
            }
        }
    }

    fn write<T: Plain>(&mut self, slot: Slot, k: &[f32], v: &[f32], round: impl Fn(f32) -> T) {
        let layout = self.layout();
        let (block, offset) = (slot.block as usize, slot.offset as usize);
        for head in 0..self.n_kv_heads {
            let bytes = self.k_head_bytes() / self.block_len * LANES;
            let panel = (block * self.n_kv_heads + head) * self.block_len / LANES + offset / LANES;
            let panel =
                cast_mut::<T>(&mut self.k[panel * bytes..(panel + 1) * bytes]).expect("panels are aligned");
            for (i, &x) in k[head * self.d_k..(head + 1) * self.d_k].iter().enumerate() {
                panel[place(layout, offset % LANES, i)] = round(x);
            }
            if v.is_empty() {
                continue;
            }
            let bytes = self.v_head_bytes();
            let start = (block * self.n_kv_heads + head) * bytes;
            let panels = cast_mut::<T>(&mut self.v[start..start + bytes]).expect("panels are aligned");
            for (i, &x) in v[head * self.d_v..(head + 1) * self.d_v].iter().enumerate() {
                panels[i / LANES * self.block_len * LANES + place(layout, i % LANES, offset)] = round(x);
            }
        }
    }

    /// Copies all of block `from` over block `to`.
    pub fn copy_block(&mut self, from: usize, to: usize) {
        assert!(
            from < self.n_blocks && to < self.n_blocks,
            "copy_block: {from} to {to} of {}",
            self.n_blocks
        );
        let k_bytes = self.k_head_bytes() * self.n_kv_heads;
        self.k.copy_within(from * k_bytes..(from + 1) * k_bytes, to * k_bytes);
        let v_bytes = self.v_head_bytes() * self.n_kv_heads;
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
        (self.k_head_bytes() * self.n_kv_heads, self.v_head_bytes() * self.n_kv_heads)
    }

    pub(crate) fn layout(&self) -> Layout {
        match self.dtype {
            TensorType::F32 => Layout::F32,
            TensorType::F16 => Layout::F16,
            _ => Layout::Bf16,
        }
    }

    pub(crate) fn values(&self) -> Values {
        self.values
    }

    pub(crate) fn dims(&self) -> (usize, usize, usize) {
        (self.n_kv_heads, self.d_k, self.d_v)
    }

    /// Keys of one head in one block.
    pub(crate) fn keys(&self, block: usize, head: usize) -> &[u8] {
        let bytes = self.k_head_bytes();
        &self.k[(block * self.n_kv_heads + head) * bytes..][..bytes]
    }

    /// Values of one head in one block.
    pub(crate) fn stored_values(&self, block: usize, head: usize) -> &[u8] {
        let bytes = self.v_head_bytes();
        &self.v[(block * self.n_kv_heads + head) * bytes..][..bytes]
    }

    fn v_row_len(&self) -> usize {
        match self.values {
            Values::Stored => self.n_kv_heads * self.d_v,
            Values::FirstOfKeys => 0,
        }
    }

    fn k_head_bytes(&self) -> usize {
        self.block_len * self.d_k.next_multiple_of(2) * self.dtype.block_bytes()
    }

    fn v_head_bytes(&self) -> usize {
        match self.values {
            Values::Stored => self.block_len * self.d_v.next_multiple_of(LANES) * self.dtype.block_bytes(),
            Values::FirstOfKeys => 0,
        }
    }
}
