//! Parsing and checking the JSON header.
//!
//! Where:  called when a file is opened; the fuzz target's entry.
//! Idea:   JSON is read straight into tensors, never into a tree; names and dimensions are counted while they are read.
//!
//! # Invariants
//! - Tensors cover the data without a hole or an overlap.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Dtype, MAX_DIMS, MAX_HEADER};
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::tensor::{Recipe, Tensor, TensorInfo, check_made_bytes, n_elements};
use crate::{MAX_KEYS, MAX_TENSORS};

/// The checked header of a safetensors file.
#[derive(Debug)]
pub struct Header {
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) tensors: Vec<Tensor>,
}

impl Header {
    /// Reads the header of the file `bytes`; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Malformed`], naming the field or tensor.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(path, bytes, 0);
        let len = cursor.u64("header length")?;
        if len > MAX_HEADER {
            return Err(Error::malformed(path, "header length", format_args!("at most {MAX_HEADER}"), len));
        }
        let json = cursor.take(len, "header")?;
        if json.first() != Some(&b'{') {
            return Err(Error::malformed(path, "header", "JSON that starts with `{`", "something else"));
        }
        let start = cursor.position();
        let mut json = serde_json::Deserializer::from_slice(json);
        let raw = HeaderSeed.deserialize(&mut json).and_then(|raw| json.end().map(|()| raw));
        let raw = raw.map_err(|e| Error::malformed(path, "header", "JSON as the format has it", e))?;
        let tensors = place(path, start, bytes.len(), raw.tensors)?;
        check_made_bytes(path, &tensors, bytes.len())?;
        Ok(Self { metadata: raw.metadata, tensors })
    }
}

/// Checks sizes, then that extents follow one another from the first byte to the last.
fn place(path: &Path, start: usize, file_len: usize, raw: Vec<RawTensor>) -> Result<Vec<Tensor>> {
    let mut order: Vec<u32> = (0..raw.len() as u32).collect();
    order.sort_unstable_by_key(|&i| raw[i as usize].offsets);
    let mut end = 0;
    for &i in &order {
        let RawTensor { name, offsets: [from, to], .. } = &raw[i as usize];
        if *from != end || to < from {
            let field = format_args!("tensor `{name}`");
            let expected = format_args!("data from byte {end}, where the one before it ends").to_string();
            return Err(Error::malformed(path, field, expected, format_args!("{from}..{to}")));
        }
        end = *to;
    }
    if end != (file_len - start) as u64 {
        let got = format_args!("{} bytes of data", file_len - start).to_string();
        return Err(Error::malformed(path, "file length", format_args!("{end} bytes of data"), got));
    }
    raw.into_iter().map(|raw| tensor(path, start, raw)).collect()
}

fn tensor(path: &Path, start: usize, raw: RawTensor) -> Result<Tensor> {
    let RawTensor { name, dtype, shape, offsets: [from, to] } = raw;
    let n_bytes = n_elements(&shape).and_then(|n| n.checked_mul(dtype.stored_bytes()));
    if n_bytes.map(|n| n as u64) != Some(to - from) {
        let expected = match n_bytes {
            Some(n_bytes) => format!("{n_bytes} bytes for shape {shape:?}"),
            None => format!("a size below 2^64 for shape {shape:?}"),
        };
        return Err(Error::malformed(path, format_args!("tensor `{name}`"), expected, to - from));
    }
    let range: Range<usize> = start + from as usize..start + to as usize; // within the file, as `place` has checked
    let info = TensorInfo { name, shape, ty: dtype.ty() };
    Ok(match dtype {
        Dtype::Same(_) => Tensor::stored(info, range),
        Dtype::Widened(widen) => Tensor::made(info, Recipe { range, gather: None, widen: Some(widen) }),
    })
}

struct RawHeader {
    metadata: Vec<(String, String)>,
    tensors: Vec<RawTensor>,
}

struct RawTensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    offsets: [u64; 2],
}

/// The top object: tensors by name, and `__metadata__`.
struct HeaderSeed;

impl<'de> DeserializeSeed<'de> for HeaderSeed {
    type Value = RawHeader;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<RawHeader, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawHeader, A::Error> {
        let mut header = RawHeader { metadata: Vec::new(), tensors: Vec::new() };
        let mut has_metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if std::mem::replace(&mut has_metadata, true) {
                    return Err(de::Error::custom("a second `__metadata__`"));
                }
                header.metadata = map.next_value_seed(MetadataSeed)?;
            } else if header.tensors.len() == MAX_TENSORS {
                return Err(de::Error::custom(format_args!("more than {MAX_TENSORS} tensors")));
            } else {
                header.tensors.push(map.next_value_seed(TensorSeed { name })?);
            }
        }
        Ok(header)
    }
}

/// One tensor's object. Its name goes into every error.
struct TensorSeed {
    name: String,
}

impl<'de> DeserializeSeed<'de> for TensorSeed {
    type Value = RawTensor;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<RawTensor, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TensorSeed {
    type Value = RawTensor;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with dtype, shape and data_offsets for tensor `{}`", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawTensor, A::Error> {
        let name = self.name;
        let wrong = |what: fmt::Arguments<'_>| de::Error::custom(format_args!("tensor `{name}`: {what}"));
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(key) = map.next_key::<Box<str>>()? {
            let again = match &*key {
                "dtype" => {
                    let name = map.next_value::<Box<str>>()?;
                    let known = Dtype::from_name(&name);
                    let known = known
                        .ok_or_else(|| wrong(format_args!("dtype `{name}`, expected {}", Dtype::NAMES)))?;
                    dtype.replace(known).is_some()
                }
                "shape" => {
                    let numbers = map.next_value_seed(NumbersSeed { max: MAX_DIMS });
                    let numbers = numbers.map_err(|e| wrong(format_args!("shape: {e}")))?;
                    let dims = numbers.into_iter().map(usize::try_from).collect();
                    let dims: std::result::Result<Vec<usize>, _> = dims;
                    let dims = dims.map_err(|e| wrong(format_args!("shape: {e}")))?;
                    shape.replace(dims).is_some()
                }
                "data_offsets" => {
                    let numbers = map.next_value_seed(NumbersSeed { max: 2 });
                    let numbers = numbers.map_err(|e| wrong(format_args!("data_offsets: {e}")))?;
                    let pair = numbers.try_into();
                    let pair = pair.map_err(|_| wrong(format_args!("data_offsets: expected two numbers")))?;
                    offsets.replace(pair).is_some()
                }
                key => {
                    map.next_value::<IgnoredAny>()?;
                    return Err(wrong(format_args!("unknown field `{key}`")));
                }
            };
            if again {
                return Err(wrong(format_args!("a second `{key}`")));
            }
        }
        let dtype = dtype.ok_or_else(|| wrong(format_args!("no `dtype`")))?;
        let shape = shape.ok_or_else(|| wrong(format_args!("no `shape`")))?;
        let offsets = offsets.ok_or_else(|| wrong(format_args!("no `data_offsets`")))?;
        Ok(RawTensor { name, dtype, shape, offsets })
    }
}

/// A short array of whole numbers.
struct NumbersSeed {
    max: usize,
}

impl<'de> DeserializeSeed<'de> for NumbersSeed {
    type Value = Vec<u64>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<Vec<u64>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for NumbersSeed {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} whole numbers", self.max)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Vec<u64>, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = seq.next_element()? {
            if numbers.len() == self.max {
                return Err(de::Error::custom(format_args!("more than {} numbers", self.max)));
            }
            numbers.push(number);
        }
        Ok(numbers)
    }
}

/// `__metadata__`: texts by name.
struct MetadataSeed;

impl<'de> DeserializeSeed<'de> for MetadataSeed {
    type Value = Vec<(String, String)>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts for `__metadata__`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut entries: Vec<(String, String)> = Vec::new();
        let mut names = HashSet::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if entries.len() == MAX_KEYS {
                return Err(de::Error::custom(format_args!("`__metadata__`: more than {MAX_KEYS} keys")));
            }
            if !names.insert(key.clone()) {
                return Err(de::Error::custom(format_args!("`__metadata__`: a second `{key}`")));
            }
            entries.push((key, value));
        }
        Ok(entries)
    }
}
