//! Reading little-endian fields from the front of a file's bytes.
//!
//! Where:  used by the parsers of binary headers (GGUF, zip, pickle).
//! Idea:   every read is bounded by what is left and carries the name of the field for the error.

use std::fmt::Display;
use std::path::Path;

use crate::error::{Error, Result};

/// A position in a file's bytes.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    pub(crate) path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(path: &'a Path, bytes: &'a [u8], at: usize) -> Self {
        Self { path, bytes, at }
    }

    /// Bytes read so far, counted from the file's start.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: u64, field: impl Display) -> Result<&'a [u8]> {
        let end = usize::try_from(n).ok().and_then(|n| self.at.checked_add(n));
        let Some(bytes) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            let expected = format_args!("{n} bytes at byte {}", self.at).to_string();
            let got = format_args!("the end of the file after {}", self.remaining()).to_string();
            return Err(Error::malformed(self.path, field, expected, got));
        };
        self.at += bytes.len();
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: impl Display) -> Result<[u8; N]> {
        let bytes = self.take(N as u64, field)?;
        Ok(bytes.try_into().expect("`take` gives as many bytes as asked"))
    }

    pub(crate) fn u8(&mut self, field: impl Display) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u16(&mut self, field: impl Display) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u32(&mut self, field: impl Display) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u64(&mut self, field: impl Display) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// `n` bytes that must be UTF-8.
    pub(crate) fn text(&mut self, n: u64, field: impl Display) -> Result<&'a str> {
        let bytes = self.take(n, &field)?;
        std::str::from_utf8(bytes).map_err(|e| {
            Error::malformed(
                self.path,
                field,
                "UTF-8",
                format_args!("an invalid byte at {}", e.valid_up_to()),
            )
        })
    }
}
