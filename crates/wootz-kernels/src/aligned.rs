//! A byte buffer that starts on a cache line.
//!
//! Where:  under packed weights, KV caches, scratch space, and the graph's planned buffers.
//! Idea:   64-byte alignment lets a buffer be seen as any plain number type and keeps vector loads inside one line. Large
//!         buffers are pages straight from the system: untouched parts cost no memory, and huge pages are asked for,
//!         because weights that stream past look up a page for every 4 KiB otherwise.
//! Source: Linux's `admin-guide/mm/transhuge`.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Zeroed bytes, aligned to 64.
pub struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
}

/// Buffers of this size and above are mapped.
#[cfg(unix)]
const MAPPED: usize = 1 << 20;
#[cfg(not(unix))]
const MAPPED: usize = usize::MAX;

impl AlignedBytes {
    /// `len` zeroed bytes. Large buffers are untouched pages, so that unused parts cost no memory.
    ///
    /// Panics where `len` exceeds the address space; aborts where the system has no memory, as a `Vec` does.
    pub fn zeroed(len: usize) -> Self {
        let layout = layout(len);
        if len == 0 {
            return AlignedBytes { start: NonNull::<Line>::dangling().cast(), len };
        }
        #[cfg(unix)]
        if len >= MAPPED {
            let Some(start) = pages::map(len) else { handle_alloc_error(layout) };
            return AlignedBytes { start, len };
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
        match self.len {
            0 => {}
            #[cfg(unix)]
            // SAFETY: mapped in `zeroed` with the same length, and nobody borrows it any more.
            MAPPED.. => unsafe { pages::unmap(self.start, self.len) },
            // SAFETY: allocated in `zeroed` with the same layout.
            _ => unsafe { dealloc(self.start.as_ptr(), layout(self.len)) },
        }
    }
}

/// Pages from the system.
#[cfg(unix)]
mod pages {
    use std::ptr::{NonNull, null_mut};

    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    /// A huge page where the system has them.
    const HUGE: usize = 2 << 20;

    /// At least `len` zeroed bytes that start on a huge page's border.
    pub(super) fn map(len: usize) -> Option<NonNull<u8>> {
        let wanted = len.checked_next_multiple_of(4096)?;
        let all = wanted.checked_add(HUGE)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new pages at an address of the system's choice touch nothing that exists.
        let start = unsafe { mmap_anonymous(null_mut(), all, protection, MapFlags::PRIVATE) }.ok()?;
        let before = start.addr().next_multiple_of(HUGE) - start.addr();
        let start = start.cast::<u8>();
        // SAFETY: both ends lie inside the new pages, whole pages each, and nothing points there.
        unsafe {
            give_back(start, before);
            give_back(start.add(before + wanted), HUGE - before);
        }
        // SAFETY: inside the new pages.
        let start = NonNull::new(unsafe { start.add(before) })?;
        #[cfg(target_os = "linux")]
        // SAFETY: asking for huge pages changes no byte.
        let _refused_is_fine =
            unsafe { rustix::mm::madvise(start.as_ptr().cast(), wanted, rustix::mm::Advice::LinuxHugepage) };
        Some(start)
    }

    /// # Safety
    /// `start` came from [`map`] with this `len`, and nothing borrows the bytes.
    pub(super) unsafe fn unmap(start: NonNull<u8>, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { give_back(start.as_ptr(), len.next_multiple_of(4096)) };
    }

    /// # Safety
    /// Whole pages of an own mapping that nothing borrows.
    unsafe fn give_back(start: *mut u8, len: usize) {
        if len > 0 {
            // SAFETY: the caller's promise.
            let unmapped = unsafe { munmap(start.cast(), len) };
            debug_assert!(unmapped.is_ok(), "these pages were ours");
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
        for len in [0, 1, 63, 64, 4097, (1 << 20) - 1, 1 << 20, (5 << 20) + 3] {
            let mut bytes = AlignedBytes::zeroed(len);
            assert_eq!(bytes.as_ptr() as usize % 64, 0);
            assert!(bytes.iter().all(|&b| b == 0) && bytes.len() == len);
            bytes.fill(7);
        }
    }
}
