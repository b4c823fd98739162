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
use std::sync::{Arc, Mutex, PoisonError};

/// Zeroed bytes, aligned to 64.
pub struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
    /// What the bytes are a part of; without it they stand alone.
    whole: Option<Arc<AlignedBytes>>,
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
            return AlignedBytes { start: NonNull::<Line>::dangling().cast(), len, whole: None };
        }
        #[cfg(unix)]
        if len >= MAPPED {
            let Some(start) = pages::map(len) else { handle_alloc_error(layout) };
            return AlignedBytes { start, len, whole: None };
        }
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        AlignedBytes { start, len, whole: None }
    }
}

/// A place for many buffers that live equally long: all of them share huge pages, small ones too.
///
/// Memory goes back when the slab and all of its buffers are gone.
#[derive(Debug, Default)]
pub struct Slab {
    /// The block that is being dealt out, and how much of it is.
    current: Mutex<Option<(Arc<AlignedBytes>, usize)>>,
}

/// Bytes of a block; what is never touched costs nothing.
const BLOCK: usize = 256 << 20;

impl Slab {
    /// `len` zeroed bytes.
    pub fn zeroed(&self, len: usize) -> AlignedBytes {
        if len == 0 || len > BLOCK / 4 {
            return AlignedBytes::zeroed(len);
        }
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (whole, used) = match current.take() {
            Some((whole, used)) if whole.len - used >= len => (whole, used),
            _ => (Arc::new(AlignedBytes::zeroed(BLOCK)), 0),
        };
        // SAFETY: inside the block, which has `len` bytes after `used`.
        let start = unsafe { whole.start.add(used) };
        *current = Some((Arc::clone(&whole), (used + len.next_multiple_of(64)).min(BLOCK)));
        AlignedBytes { start, len, whole: Some(whole) }
    }
}

#[repr(align(64))]
struct Line;

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, 64).expect("a buffer is smaller than the address space")
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        if self.whole.is_some() {
            return; // it goes with the last of its parts
        }
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

// SAFETY: an `AlignedBytes` owns its memory alone, as a `Vec<u8>` does; parts of a block do not overlap, and nobody else
// reads or writes the block that they keep alive.
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
    #[test]
    fn parts_of_a_slab_are_zeroed_and_do_not_overlap() {
        let slab = Slab::default();
        let mut parts: Vec<AlignedBytes> = [100, 64, 0, 1 << 20, 3].map(|len| slab.zeroed(len)).into();
        drop(slab);
        for (i, part) in parts.iter_mut().enumerate() {
            assert_eq!(part.as_ptr() as usize % 64, 0);
            assert!(part.iter().all(|&b| b == 0));
            part.fill(i as u8 + 1);
        }
        parts.remove(0);
        assert!(parts.iter().enumerate().all(|(i, part)| part.iter().all(|&b| b == i as u8 + 2)));
    }
}
