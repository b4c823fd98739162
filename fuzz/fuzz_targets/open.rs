//! Opening bytes as a weight file and touching everything in it.
//!
//! Where:  part of every target on weights.

use peak_alloc::PeakAlloc;
use wootz_weights::Weights;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Numbers of one tensor that are read as f32 at most.
const MAX_NUMBERS: usize = 1 << 16;

pub fn open(bytes: &[u8]) {
    let bytes = bytes.to_vec();
    let allowed = 4 * bytes.len() + (64 << 20);
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let weights = Weights::from_bytes("fuzz", bytes);
    let used = MEMORY.peak_usage().saturating_sub(before);
    assert!(used <= allowed, "{used} bytes of memory, {allowed} allowed");
    let weights = match weights {
        Ok(weights) => weights,
        Err(error) => {
            assert!(error.to_string().starts_with("fuzz: "));
            return;
        }
    };
    for tensor in weights.iter() {
        assert_eq!(weights.info(tensor.name).unwrap().n_bytes(), Some(tensor.bytes.len()));
        if tensor.n_elements() <= MAX_NUMBERS {
            assert_eq!(tensor.to_f32().len(), tensor.n_elements());
        }
    }
    if let Some(gguf) = weights.gguf() {
        for (key, value) in gguf.iter() {
            assert_eq!(gguf.get(key).unwrap().kind(), value.kind());
            gguf.find::<Vec<u32>>(key).map_or_else(|error| drop(error.to_string()), drop);
            gguf.find::<Vec<&str>>(key).map_or_else(|error| drop(error.to_string()), drop);
        }
    }
}
