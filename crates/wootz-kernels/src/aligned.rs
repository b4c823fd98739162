//! A byte buffer that starts on a cache line.
//!
//! Where:  under packed weights, KV caches, scratch space, and the graph's planned buffers.
//! Idea:   64-byte alignment lets a buffer be seen as any plain number type and keeps vector loads inside one line.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Zeroed bytes, aligned to 64.
pub struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
}

impl AlignedBytes {
    /// `len` zeroed bytes. Large buffers come from untouched pages, so that unused parts cost no memory.
    ///
    /// Panics where `len` exceeds the address space; aborts where the system has no memory, as a `Vec` does.
    pub fn zeroed(len: usize) -> Self {
        let layout = layout(len);
        if len == 0 {
            return AlignedBytes { start: NonNull::<Line>::dangling().cast(), len };
        }
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        AlignedBytes { start, len }
    }
}

#[repr(align(64))]
struct Line;

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, 64).expect("a buffer is smaller than the address space")
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated in `zeroed` with the same layout.
            unsafe { dealloc(self.start.as_ptr(), layout(self.len)) }
        }
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that this value owns.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: `len` initialised bytes that this value owns, borrowed once.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

// SAFETY: an `AlignedBytes` owns its memory alone, as a `Vec<u8>` does.
unsafe impl Send for AlignedBytes {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBytes {}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBytes({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_zeroed_and_writable() {
        for len in [0, 1, 63, 64, 4097] {
            let mut bytes = AlignedBytes::zeroed(len);
            assert_eq!(bytes.as_ptr() as usize % 64, 0);
            assert!(bytes.iter().all(|&b| b == 0) && bytes.len() == len);
            bytes.fill(7);
        }
    }
}
