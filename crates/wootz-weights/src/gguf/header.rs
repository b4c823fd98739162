//! Parsing and checking everything before the tensors' bytes.
//!
//! Where:  called when a GGUF file is opened; the fuzz target's entry.
//!
//! # Invariants
//! - Every range that a header holds lies in the file, and no two tensors share a byte.

use std::collections::HashSet;
use std::fmt::Display;
use std::ops::Range;
use std::path::Path;

use wootz_kernels::TensorType;

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::gguf::value::{self, Kind, Value};
use crate::gguf::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS};
use crate::tensor::{Tensor, TensorInfo};
use crate::{MAX_KEYS, MAX_TENSORS};

/// The checked header of a GGUF file.
#[derive(Debug)]
pub struct Header {
    version: u32,
    keys: Vec<Key>,
    pub(crate) tensors: Vec<Tensor>,
}

#[derive(Debug)]
struct Key {
    name: String,
    kind: Kind,
    /// Of the value, without its kind.
    range: Range<usize>,
}

impl Header {
    /// Reads the header of the file `bytes`; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Unsupported`], naming the field. Allocates less than 64 MiB and the metadata.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(path, bytes, 0);
        let version = version(&mut cursor)?;
        let n_tensors = count(&mut cursor, "tensor count", 8 + 4 + 4 + 8, MAX_TENSORS)?;
        let n_keys = count(&mut cursor, "metadata key count", 8 + 4 + 1, MAX_KEYS)?;
        let keys = keys(&mut cursor, n_keys)?;
        let mut header = Self { version, keys, tensors: Vec::new() };
        let alignment = header.alignment(path, bytes)?;
        let stored = stored_tensors(&mut cursor, n_tensors)?;
        header.tensors = place(path, bytes.len(), cursor.position(), alignment, stored)?;
        Ok(header)
    }

    /// The format's version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The metadata's keys, in the file's order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.keys.iter().map(|key| key.name.as_str())
    }

    /// The value of a key; `bytes` is the file that was parsed.
    pub(crate) fn value<'a>(&self, bytes: &'a [u8], name: &str) -> Option<Value<'a>> {
        self.keys.iter().find(|key| key.name == name).map(|key| key.value(bytes))
    }

    /// Keys and values, in the file's order.
    pub(crate) fn entries<'a>(
        &'a self,
        bytes: &'a [u8],
    ) -> impl ExactSizeIterator<Item = (&'a str, Value<'a>)> {
        self.keys.iter().map(|key| (key.name.as_str(), key.value(bytes)))
    }

    fn alignment(&self, path: &Path, bytes: &[u8]) -> Result<usize> {
        let Some(value) = self.value(bytes, ALIGNMENT_KEY) else { return Ok(DEFAULT_ALIGNMENT) };
        let alignment = value.as_integer().and_then(|x| u32::try_from(x).ok());
        match alignment {
            Some(alignment) if alignment.is_power_of_two() => Ok(alignment as usize),
            _ => Err(Error::malformed(
                path,
                format_args!("key `{ALIGNMENT_KEY}`"),
                "a power of two",
                format_args!("{value:?}"),
            )),
        }
    }
}

impl Key {
    fn value<'a>(&self, bytes: &'a [u8]) -> Value<'a> {
        let mut cursor = Cursor::new(Path::new(""), &bytes[..self.range.end], self.range.start);
        Value::decode_last(&mut cursor, self.kind).expect("the header was checked")
    }
}

fn version(cursor: &mut Cursor<'_>) -> Result<u32> {
    let magic = cursor.take(4, "magic")?;
    if magic != MAGIC {
        return Err(Error::malformed(cursor.path, "magic", "`GGUF`", format_args!("{:02x?}", magic)));
    }
    match cursor.u32("version")? {
        version @ (2 | 3) => Ok(version),
        version if matches!(version.swap_bytes(), 1..=3) => {
            Err(Error::unsupported(cursor.path, "a big-endian GGUF file", "a little-endian one"))
        }
        version => {
            Err(Error::unsupported(cursor.path, format_args!("GGUF version {version}"), "version 2 or 3"))
        }
    }
}

/// A count of things that take at least `min_bytes` each.
fn count(cursor: &mut Cursor<'_>, field: &str, min_bytes: usize, max: usize) -> Result<usize> {
    let count = cursor.u64(field)?;
    let fit = cursor.remaining() / min_bytes;
    if count > fit.min(max) as u64 {
        let expected = match fit <= max {
            true => format!("at most {fit}, as many as fit in the file"),
            false => format!("at most {max}"),
        };
        return Err(Error::malformed(cursor.path, field, expected, count));
    }
    Ok(count as usize)
}

fn keys(cursor: &mut Cursor<'_>, n_keys: usize) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    let mut names = HashSet::new();
    for i in 0..n_keys {
        let name = string(cursor, format_args!("metadata key {i}"))?;
        if !names.insert(name) {
            return Err(Error::malformed(
                cursor.path,
                format_args!("key `{name}`"),
                "one value",
                "a second one",
            ));
        }
        let field = format_args!("key `{name}`");
        let id = cursor.u32(field)?;
        let Some(kind) = Kind::from_id(id) else {
            return Err(Error::malformed(cursor.path, field, "a value of a kind from 0 to 12", id));
        };
        let start = cursor.position();
        value::skip(cursor, kind, &field)?;
        keys.push(Key { name: name.into(), kind, range: start..cursor.position() });
    }
    Ok(keys)
}

/// A tensor's description and its offset from the start of the data.
struct Stored {
    info: TensorInfo,
    offset: u64,
    n_bytes: usize,
}

fn stored_tensors(cursor: &mut Cursor<'_>, n_tensors: usize) -> Result<Vec<Stored>> {
    let mut tensors = Vec::new();
    for i in 0..n_tensors {
        let name = string(cursor, format_args!("name of tensor {i}"))?;
        tensors.push(stored_tensor(cursor, name)?);
    }
    Ok(tensors)
}

fn stored_tensor(cursor: &mut Cursor<'_>, name: &str) -> Result<Stored> {
    let path = cursor.path;
    let field = format_args!("tensor `{name}`");
    let n_dims = cursor.u32(field)?;
    if n_dims as usize > MAX_DIMS {
        return Err(Error::malformed(path, field, format_args!("at most {MAX_DIMS} dimensions"), n_dims));
    }
    let mut shape = Vec::with_capacity(n_dims as usize);
    for _ in 0..n_dims {
        let dim = cursor.u64(field)?;
        let fits = usize::try_from(dim).ok().filter(|&dim| isize::try_from(dim).is_ok());
        shape.push(fits.ok_or_else(|| Error::malformed(path, field, "a dimension below 2^63", dim))?);
    }
    shape.reverse(); // the file has the innermost dimension first
    let id = cursor.u32(field)?;
    let Some(ty) = TensorType::from_ggml_id(id) else {
        let removed = if matches!(id, 4 | 5 | 31..=33 | 36..=38) { ", which ggml has removed" } else { "" };
        return Err(Error::malformed(path, field, "a ggml type", format_args!("{id}{removed}")));
    };
    let offset = cursor.u64(field)?;
    let info = TensorInfo { name: name.into(), shape, ty };
    let Some(n_bytes) = info.n_bytes() else {
        let expected =
            format!("rows of whole {ty} blocks ({} numbers) and a size below 2^64", ty.block_len());
        return Err(Error::malformed(path, field, expected, format_args!("shape {:?}", info.shape)));
    };
    Ok(Stored { info, offset, n_bytes })
}

/// Gives each tensor its range and refuses those that lie outside the file, or in one another.
fn place(
    path: &Path,
    file_len: usize,
    header_len: usize,
    alignment: usize,
    stored: Vec<Stored>,
) -> Result<Vec<Tensor>> {
    let start = header_len.checked_next_multiple_of(alignment).unwrap_or(usize::MAX);
    let mut tensors = Vec::new();
    let mut used = Vec::new();
    for (i, Stored { info, offset, n_bytes }) in stored.into_iter().enumerate() {
        let field = format_args!("tensor `{}`", info.name).to_string();
        if !offset.is_multiple_of(alignment as u64) {
            let expected = format_args!("an offset that is a multiple of {alignment}").to_string();
            return Err(Error::malformed(path, field, expected, offset));
        }
        let begin = usize::try_from(offset).ok().and_then(|offset| start.checked_add(offset));
        let range = begin.and_then(|begin| Some(begin..begin.checked_add(n_bytes)?));
        let Some(range) = range.filter(|range| range.end <= file_len || range.is_empty()) else {
            let expected = format!("{n_bytes} bytes at {start} + {offset}");
            return Err(Error::malformed(path, field, expected, format_args!("a file of {file_len} bytes")));
        };
        // A tensor without numbers may stand anywhere.
        let range = if range.is_empty() { 0..0 } else { range };
        if !range.is_empty() {
            used.push((range.start, range.end, i));
        }
        tensors.push(Tensor::stored(info, range));
    }
    refuse_overlaps(path, &mut used, |i| &tensors[i].info.name)?;
    Ok(tensors)
}

/// `used` holds start, end and tensor of each extent.
fn refuse_overlaps<'a>(
    path: &Path,
    used: &mut [(usize, usize, usize)],
    name: impl Fn(usize) -> &'a String,
) -> Result<()> {
    used.sort_unstable();
    for pair in used.windows(2) {
        let ((start_a, end_a, a), (start_b, _, b)) = (pair[0], pair[1]);
        if start_b < end_a {
            let field = format_args!("tensor `{}`", name(b)).to_string();
            let expected = "bytes of its own";
            let got = format_args!("an overlap with `{}` at {start_a}..{end_a}", name(a)).to_string();
            return Err(Error::malformed(path, field, expected, got));
        }
    }
    Ok(())
}

fn string<'a>(cursor: &mut Cursor<'a>, field: impl Display + Copy) -> Result<&'a str> {
    let len = cursor.u64(field)?;
    cursor.text(len, field)
}
