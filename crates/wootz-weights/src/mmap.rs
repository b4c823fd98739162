//! A file mapped into memory, read-only.
//!
//! Where:  held by [`Source`](crate::source::Source); nothing else in this crate is `unsafe`.
//! Idea:   opening costs nothing, pages come when touched, and the system may drop them again at any time.
//!
//! # Invariants
//! - The mapping is never written and lives as long as any slice of it.
#![expect(unsafe_code, reason = "mapping a file is a promise about the file that no type can express")]

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The bytes of a file.
///
/// Another program that shortens the file while it is mapped makes reads beyond its new end fatal, as with any mapping.
#[derive(Debug)]
pub struct Mapped {
    map: Mmap,
}

impl Mapped {
    /// Maps the regular file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened or mapped, or is no regular file.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|source| Error::io("open", path, source))?;
        if !metadata.is_file() {
            return Err(Error::io("map", path, std::io::Error::other("not a regular file"))); // opening a pipe may hang
        }
        let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
        // SAFETY: the mapping is private to this process and read-only. That no other program changes the file while
        // we read it is what everyone who maps files relies on; a change shows as other bytes, which are checked once
        // when the header is parsed and are plain numbers after that.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| Error::io("map", path, source))?;
        Ok(Self { map })
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Says that `range` will not be needed soon: its pages are dropped, and read from the file again when touched.
    ///
    /// A hint for code that repacks weights. Does nothing where the system knows no such hint.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        {
            let range = range.start.min(self.map.len())..range.end.min(self.map.len());
            if range.is_empty() {
                return;
            }
            // SAFETY: dropping pages of a private read-only mapping of a file changes no byte that can be read.
            let advised = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
            advised.unwrap_or(()); // a refused hint is no error
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pages_can_be_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bytes");
        let bytes: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mapped = Mapped::open(&path).unwrap();
        mapped.release(5000..usize::MAX);
        mapped.release(0..0);
        assert_eq!(mapped.bytes(), bytes);
    }

    #[test]
    fn a_folder_is_no_file() {
        let error = Mapped::open(&std::env::temp_dir()).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
