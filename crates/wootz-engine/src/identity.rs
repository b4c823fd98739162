//! Whether two models are the same, without reading all of them.
//!
//! Where:  computed when a model is loaded; kept beside what was computed with it.
//! Idea:   a hash over the names, shapes and types of all tensors and a sample of the bytes of each. It tells models
//!         apart that were confused; it does not defend against somebody who wants to confuse them.
//! Source: Fowler, Noll, Vo: FNV-1a.

use wootz_graph::Addition;
use wootz_kernels::cast;
use wootz_model::Model;

use crate::runner::BLOCK_LEN;

/// What a model is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(pub [u8; 16]);

/// Bytes at the beginning, in the middle and at the end of a tensor that are looked at.
const SAMPLE_BYTES: usize = 1024;

impl Identity {
    /// Of a model whose states are kept in a certain way, as `states` describes.
    pub fn of(model: &Model, states: &str) -> Self {
        let mut hash = Fnv::new();
        hash.add(format!("{BLOCK_LEN} {states}").as_bytes());
        for tensor in model.weights().iter() {
            hash.add(format!("{} {:?} {}", tensor.name, tensor.shape, tensor.ty).as_bytes());
            let bytes = tensor.bytes;
            let n = SAMPLE_BYTES.min(bytes.len());
            for start in [0, (bytes.len() - n) / 2, bytes.len() - n] {
                hash.add(&bytes[start..start + n]);
            }
        }
        Self(hash.0.to_le_bytes())
    }
}

impl Identity {
    /// Of the same model with an adapter.
    pub(crate) fn with_adapter(self, fingerprint: u64) -> Self {
        let mut hash = Fnv::new();
        hash.add(&self.0);
        hash.add(&fingerprint.to_le_bytes());
        Self(hash.0.to_le_bytes())
    }
}

/// What an adapter is told by: all its numbers, and where they go.
pub(crate) fn fingerprint(additions: &[Addition]) -> u64 {
    let one = |sum: u64, addition: &Addition| {
        let Addition { site, shape, rank, scale, a, b, gain, shift } = addition;
        let header = format!("{site:?} {shape:?} {rank} {scale} {} {}", a.ty, b.ty);
        let sum = [header.as_bytes(), &a.bytes, &b.bytes].iter().fold(sum, |sum, bytes| checksum(sum, bytes));
        let extras = [gain, shift].map(|numbers| cast::bytes_of(numbers.as_deref().unwrap_or_default()));
        extras.iter().fold(sum, |sum, bytes| checksum(sum, bytes))
    };
    additions.iter().fold(0, one)
}

struct Fnv(u128);

impl Fnv {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    }
}

/// A checksum over words of eight bytes, continued from `sum`.
pub(crate) fn checksum(sum: u64, bytes: &[u8]) -> u64 {
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(sum ^ bytes.len() as u64, |sum, word| step(sum, u64::from_le_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| step(sum, u64::from(*byte)))
}
