//! States as the CPU device keeps them.

use wootz_kernels::{KvStore, Values};

use crate::state::{StateCapacity, StateKind, StateSpec};

/// One state's storage.
pub(crate) enum CpuState {
    Kv(KvStore),
    Recurrent { numbers: Vec<f32>, len: usize },
}

impl CpuState {
    /// Zeroed storage.
    pub(crate) fn new(spec: &StateSpec, capacity: &StateCapacity) -> Self {
        match spec.kind {
            StateKind::Kv { n_kv_heads, d_k, d_v, v_in_k, .. } => CpuState::Kv(KvStore::new(
                capacity.kv_type,
                capacity.n_blocks,
                capacity.block_len,
                n_kv_heads,
                (d_k, d_v),
                if v_in_k { Values::FirstOfKeys } else { Values::Stored },
            )),
            StateKind::Recurrent { len } => {
                CpuState::Recurrent { numbers: vec![0.0; capacity.n_slots * len], len }
            }
        }
    }
}
