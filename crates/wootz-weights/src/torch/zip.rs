//! The table of contents of a zip file whose entries are stored as they are.
//!
//! Where:  under [`Archive`](super::Archive).
//! Source: PKWARE APPNOTE.TXT 6.3: §4.3.7 local header, §4.3.12 central directory, §4.3.14–16 its end, §4.5.3 zip64.
//! Elsewhere: compressed and encrypted entries: PyTorch keeps no weights in such, and they are refused when asked for.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use crate::MAX_TENSORS;
use crate::cursor::Cursor;
use crate::error::{Error, Result};

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
const END_BYTES: usize = 22;
const LOCATOR64_BYTES: usize = 20;
const MAX_COMMENT: usize = u16::MAX as usize;
const ZIP64_FIELD: u16 = 1;
const FLAG_ENCRYPTED: u16 = 1;
const METHOD_STORED: u16 = 0;

/// Where each entry's bytes are; `None` for those that are compressed or encrypted.
pub(super) fn entries<'a>(path: &'a Path, bytes: &'a [u8]) -> Result<HashMap<&'a str, Option<Range<usize>>>> {
    let (n_entries, start) = directory(path, bytes)?;
    let mut entries = HashMap::new();
    let mut cursor = Cursor::new(path, bytes, start);
    for i in 0..n_entries {
        let (name, range) = entry(&mut cursor, bytes, i)?;
        if entries.insert(name, range).is_some() {
            return Err(Error::malformed(path, format_args!("zip entry `{name}`"), "one", "a second"));
        }
    }
    Ok(entries)
}

/// How many entries there are and where the central directory starts.
fn directory(path: &Path, bytes: &[u8]) -> Result<(u64, usize)> {
    let earliest = bytes.len().saturating_sub(END_BYTES + MAX_COMMENT);
    let found = (earliest..=bytes.len().saturating_sub(END_BYTES))
        .rev()
        .find(|&at| bytes[at..].starts_with(&END.to_le_bytes()));
    let Some(end) = found else {
        let got = "none: the file is cut short, or no zip";
        return Err(Error::malformed(path, "zip", "the end of its central directory", got));
    };
    let mut cursor = Cursor::new(path, bytes, end + 4);
    cursor.take(6, "zip end record")?;
    let mut n_entries = u64::from(cursor.u16("zip end record")?);
    cursor.take(4, "zip end record")?;
    let mut start = u64::from(cursor.u32("zip end record")?);
    if let Some(locator) = end.checked_sub(LOCATOR64_BYTES)
        && bytes[locator..].starts_with(&LOCATOR64.to_le_bytes())
    {
        let mut cursor = Cursor::new(path, bytes, locator + 8);
        let end64 = cursor.u64("zip64 locator")?;
        let mut cursor = Cursor::new(path, bytes, offset(path, "zip64 end record", end64)?);
        signature(&mut cursor, END64, "zip64 end record")?;
        cursor.take(28, "zip64 end record")?;
        n_entries = cursor.u64("zip64 end record")?;
        cursor.take(8, "zip64 end record")?;
        start = cursor.u64("zip64 end record")?;
    }
    let limit = MAX_TENSORS as u64 + 64;
    if n_entries > limit {
        return Err(Error::malformed(path, "zip entry count", format_args!("at most {limit}"), n_entries));
    }
    Ok((n_entries, offset(path, "zip directory", start)?))
}

/// One record of the central directory, and the place of the data behind the local header it points to.
fn entry<'a>(cursor: &mut Cursor<'a>, bytes: &'a [u8], i: u64) -> Result<(&'a str, Option<Range<usize>>)> {
    let path = cursor.path;
    let field = format_args!("zip entry {i}");
    signature(cursor, CENTRAL, field)?;
    cursor.take(4, field)?;
    let (flags, method) = (cursor.u16(field)?, cursor.u16(field)?);
    cursor.take(8, field)?;
    let (packed, size) = (cursor.u32(field)?, cursor.u32(field)?);
    let [name_len, extra_len, comment_len] = [cursor.u16(field)?, cursor.u16(field)?, cursor.u16(field)?];
    cursor.take(8, field)?;
    let local = cursor.u32(field)?;
    let name = cursor.text(name_len.into(), field)?;
    let extra = cursor.take(extra_len.into(), field)?;
    cursor.take(comment_len.into(), field)?;
    let field = format_args!("zip entry `{name}`");
    let [size, packed, local] = sizes64(path, name, extra, [size, packed, local])?;
    if method != METHOD_STORED || packed != size || flags & FLAG_ENCRYPTED != 0 {
        return Ok((name, None));
    }
    let mut cursor = Cursor::new(path, bytes, offset(path, field, local)?);
    signature(&mut cursor, LOCAL, field)?;
    cursor.take(22, field)?;
    let (name_len, extra_len) = (cursor.u16(field)?, cursor.u16(field)?);
    cursor.take(u64::from(name_len) + u64::from(extra_len), field)?;
    let start = cursor.position();
    let data = cursor.take(size, field)?;
    Ok((name, Some(start..start + data.len())))
}

/// Size, packed size and offset: a field that is all ones stands in the zip64 extra field, in this order.
fn sizes64(path: &Path, name: &str, extra: &[u8], fields: [u32; 3]) -> Result<[u64; 3]> {
    let mut out = fields.map(u64::from);
    if !fields.contains(&u32::MAX) {
        return Ok(out);
    }
    let field = format_args!("zip entry `{name}`");
    let mut cursor = Cursor::new(path, extra, 0);
    while cursor.remaining() >= 4 {
        let (id, len) = (cursor.u16(field)?, cursor.u16(field)?);
        let mut values = Cursor::new(path, cursor.take(len.into(), field)?, 0);
        if id == ZIP64_FIELD {
            for value in out.iter_mut().filter(|value| **value == u64::from(u32::MAX)) {
                *value = values.u64(field)?;
            }
            return Ok(out);
        }
    }
    Err(Error::malformed(path, field, "a zip64 field for its sizes", "none"))
}

fn signature(cursor: &mut Cursor<'_>, expected: u32, field: impl std::fmt::Display + Copy) -> Result<()> {
    let got = cursor.u32(field)?;
    if got != expected {
        let (expected, got) = (format!("signature {expected:08x}"), format!("{got:08x}"));
        return Err(Error::malformed(cursor.path, field, expected, got));
    }
    Ok(())
}

fn offset(path: &Path, field: impl std::fmt::Display, offset: u64) -> Result<usize> {
    usize::try_from(offset).map_err(|_| Error::malformed(path, field, "an offset in the file", offset))
}
