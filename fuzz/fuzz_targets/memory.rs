//! Memory while something runs, held against what it may take.
//!
//! Where:  part of every target on text.

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Allows 4 × the input + 64 MiB while `work` runs.
pub fn bounded<T>(n_bytes: usize, work: impl FnOnce() -> T) -> T {
    let allowed = 4 * n_bytes + (64 << 20);
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let result = work();
    let used = MEMORY.peak_usage().saturating_sub(before);
    assert!(used <= allowed, "{used} bytes of memory, {allowed} allowed");
    result
}
