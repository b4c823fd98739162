//! What a sequence carries from one step to the next: keys and values, latents, recurrences.
//!
//! Where:  declared by `wootz-model` per layer, stored by an [`Executor`](crate::Executor), addressed by the
//!         block tables and slots of a [`Batch`](crate::Batch).
//! Idea:   the graph declares widths and windows; storage belongs to the device; the engine only hands out
//!         block ids and slots. A graph for training has no states, and its operators pass through.

use wootz_kernels::TensorType;

/// A handle to a declared state, an index into the model's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State(pub u32);

/// What a state keeps for each sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// Keys and values of every position, in blocks.
    Kv {
        /// K: heads that keep keys of their own.
        n_kv_heads: usize,
        /// Width of a key.
        d_k: usize,
        /// Width of a value.
        d_v: usize,
        /// Values are the first `d_v` numbers of the keys and are not stored again (MLA).
        v_in_k: bool,
        /// Positions further back than this are never read.
        window: Option<usize>,
    },
    /// A fixed number of f32, in a slot of the sequence.
    Recurrent {
        /// How many.
        len: usize,
    },
}

/// One declared state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSpec {
    /// `layers.7.kv`.
    pub name: String,
    /// What it keeps.
    pub kind: StateKind,
}

/// How much state storage to set aside, for all states alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateCapacity {
    /// Blocks of positions.
    pub n_blocks: usize,
    /// Positions a block.
    pub block_len: usize,
    /// Slots for recurrences.
    pub n_slots: usize,
    /// What keys and values are stored as: F32, F16, BF16 or Q8_0.
    pub kv_type: TensorType,
}

impl StateCapacity {
    /// Bytes that these states will take; `usize::MAX` if that is more than can be counted.
    pub fn bytes(&self, specs: &[StateSpec]) -> usize {
        let product =
            |factors: &[usize]| factors.iter().fold(1, |n: usize, &factor| n.saturating_mul(factor));
        let of = |spec: &StateSpec| match spec.kind {
            StateKind::Kv { n_kv_heads, d_k, d_v, v_in_k, .. } => {
                let head = match self.kv_type {
                    // A scale for each 32 numbers of a head.
                    TensorType::Q8_0 => |d: usize| d.saturating_add(2 * d.div_ceil(32)),
                    TensorType::F32 => |d: usize| d.saturating_mul(4),
                    _ => |d: usize| d.saturating_mul(2),
                };
                let bytes = if v_in_k { head(d_k) } else { head(d_k).saturating_add(head(d_v)) };
                product(&[self.n_blocks, self.block_len, n_kv_heads, bytes])
            }
            StateKind::Recurrent { len } => product(&[self.n_slots, len, 4]),
        };
        specs.iter().fold(0, |sum, spec| sum.saturating_add(of(spec)))
    }
}
