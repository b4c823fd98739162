//! A metadata value of a GGUF file.
//!
//! Where:  decoded from a [`Header`](super::Header), given to a [`Writer`](super::Writer).
//! Idea:   an array keeps the file's encoding, borrowed or built: copying one between files costs a memcpy, and reading
//!         one walks it.

use std::borrow::Cow;
use std::fmt::Display;
use std::path::Path;

use crate::cursor::Cursor;
use crate::error::{Error, Result};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $id:literal, $name:literal, $bytes:expr;)*) => {
        /// The type of a value, with the number that the file has for it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $kind = $id,)* }

        impl Kind {
            pub(crate) fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Kind::$kind),)* _ => None }
            }

            /// Bytes of a value, or `None` where they differ.
            fn fixed_bytes(self) -> Option<usize> {
                match self { $(Kind::$kind => $bytes,)* }
            }
        }

        impl Display for Kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Kind::$kind => $name,)* })
            }
        }
    };
}

kinds! {
    /// `u8`.
    U8 = 0, "u8", Some(1);
    /// `i8`.
    I8 = 1, "i8", Some(1);
    /// `u16`.
    U16 = 2, "u16", Some(2);
    /// `i16`.
    I16 = 3, "i16", Some(2);
    /// `u32`.
    U32 = 4, "u32", Some(4);
    /// `i32`.
    I32 = 5, "i32", Some(4);
    /// `f32`.
    F32 = 6, "f32", Some(4);
    /// A byte that is 0 or 1.
    Bool = 7, "bool", Some(1);
    /// A length and UTF-8.
    Str = 8, "string", None;
    /// A kind, a length and values.
    Array = 9, "array", None;
    /// `u64`.
    U64 = 10, "u64", Some(8);
    /// `i64`.
    I64 = 11, "i64", Some(8);
    /// `f64`.
    F64 = 12, "f64", Some(8);
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the types they hold")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(Cow<'a, str>),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// The same value, not borrowed.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::U8(x) => Value::U8(x),
            Value::I8(x) => Value::I8(x),
            Value::U16(x) => Value::U16(x),
            Value::I16(x) => Value::I16(x),
            Value::U32(x) => Value::U32(x),
            Value::I32(x) => Value::I32(x),
            Value::U64(x) => Value::U64(x),
            Value::I64(x) => Value::I64(x),
            Value::F32(x) => Value::F32(x),
            Value::F64(x) => Value::F64(x),
            Value::Bool(x) => Value::Bool(x),
            Value::Str(text) => Value::Str(Cow::Owned(text.into_owned())),
            Value::Array(array) => Value::Array(array.into_owned()),
        }
    }

    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Value::U8(_) => Kind::U8,
            Value::I8(_) => Kind::I8,
            Value::U16(_) => Kind::U16,
            Value::I16(_) => Kind::I16,
            Value::U32(_) => Kind::U32,
            Value::I32(_) => Kind::I32,
            Value::F32(_) => Kind::F32,
            Value::Bool(_) => Kind::Bool,
            Value::Str(_) => Kind::Str,
            Value::Array(_) => Kind::Array,
            Value::U64(_) => Kind::U64,
            Value::I64(_) => Kind::I64,
            Value::F64(_) => Kind::F64,
        }
    }

    /// Any integer that is exactly an i128; nothing else.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(x) => x.into(),
            Value::I8(x) => x.into(),
            Value::U16(x) => x.into(),
            Value::I16(x) => x.into(),
            Value::U32(x) => x.into(),
            Value::I32(x) => x.into(),
            Value::U64(x) => x.into(),
            Value::I64(x) => x.into(),
            _ => return None,
        })
    }

    /// Reads a value that [`skip`] found sound.
    pub(crate) fn decode(cursor: &mut Cursor<'a>, kind: Kind) -> Result<Self> {
        let field = "value";
        Ok(match kind {
            Kind::U8 => Value::U8(cursor.u8(field)?),
            Kind::I8 => Value::I8(cursor.u8(field)?.cast_signed()),
            Kind::U16 => Value::U16(cursor.u16(field)?),
            Kind::I16 => Value::I16(cursor.u16(field)?.cast_signed()),
            Kind::U32 => Value::U32(cursor.u32(field)?),
            Kind::I32 => Value::I32(cursor.u32(field)?.cast_signed()),
            Kind::F32 => Value::F32(f32::from_bits(cursor.u32(field)?)),
            Kind::Bool => Value::Bool(cursor.u8(field)? != 0),
            Kind::Str => {
                let len = cursor.u64(field)?;
                Value::Str(Cow::Borrowed(cursor.text(len, field)?))
            }
            Kind::Array => {
                let (kind, len) = array_head(cursor, &field)?;
                let start = cursor.clone();
                skip_items(cursor, kind, len, &field, true)?;
                let n_bytes = cursor.position() - start.position();
                let bytes = start.clone().take(n_bytes as u64, field)?;
                Value::Array(Array { kind, len: len as usize, bytes: Cow::Borrowed(bytes) })
            }
            Kind::U64 => Value::U64(cursor.u64(field)?),
            Kind::I64 => Value::I64(cursor.u64(field)?.cast_signed()),
            Kind::F64 => Value::F64(f64::from_bits(cursor.u64(field)?)),
        })
    }

    /// As [`decode`](Self::decode), where the value ends with the cursor's bytes: an array need not be walked.
    pub(crate) fn decode_last(cursor: &mut Cursor<'a>, kind: Kind) -> Result<Self> {
        if kind != Kind::Array {
            return Self::decode(cursor, kind);
        }
        let (kind, len) = array_head(cursor, &"value")?;
        let bytes = cursor.take(cursor.remaining() as u64, "value")?;
        Ok(Value::Array(Array { kind, len: len as usize, bytes: Cow::Borrowed(bytes) }))
    }

    /// Appends the value as the file has it, without its kind.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::U8(x) => out.extend(x.to_le_bytes()),
            Value::I8(x) => out.extend(x.to_le_bytes()),
            Value::U16(x) => out.extend(x.to_le_bytes()),
            Value::I16(x) => out.extend(x.to_le_bytes()),
            Value::U32(x) => out.extend(x.to_le_bytes()),
            Value::I32(x) => out.extend(x.to_le_bytes()),
            Value::F32(x) => out.extend(x.to_le_bytes()),
            Value::Bool(x) => out.push(u8::from(*x)),
            Value::Str(x) => encode_str(x, out),
            Value::Array(x) => {
                out.extend((x.kind as u32).to_le_bytes());
                out.extend((x.len as u64).to_le_bytes());
                out.extend_from_slice(&x.bytes);
            }
            Value::U64(x) => out.extend(x.to_le_bytes()),
            Value::I64(x) => out.extend(x.to_le_bytes()),
            Value::F64(x) => out.extend(x.to_le_bytes()),
        }
    }
}

/// An array of values of one kind, in the file's encoding.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<'a> {
    kind: Kind,
    len: usize,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Array<'a> {
    /// The same array, not borrowed.
    pub fn into_owned(self) -> Array<'static> {
        Array { kind: self.kind, len: self.len, bytes: Cow::Owned(self.bytes.into_owned()) }
    }

    /// An array of strings.
    pub fn strings<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> Array<'static> {
        Self::build(Kind::Str, items, |item, out| encode_str(item.as_ref(), out))
    }

    /// An array of `f32`.
    pub fn f32s(items: impl IntoIterator<Item = f32>) -> Array<'static> {
        Self::build(Kind::F32, items, |item, out| out.extend(item.to_le_bytes()))
    }

    /// An array of `i32`.
    pub fn i32s(items: impl IntoIterator<Item = i32>) -> Array<'static> {
        Self::build(Kind::I32, items, |item, out| out.extend(item.to_le_bytes()))
    }

    /// An array of `u32`.
    pub fn u32s(items: impl IntoIterator<Item = u32>) -> Array<'static> {
        Self::build(Kind::U32, items, |item, out| out.extend(item.to_le_bytes()))
    }

    /// An array of bytes.
    pub fn u8s(items: impl Into<Vec<u8>>) -> Array<'static> {
        let bytes = items.into();
        Array { kind: Kind::U8, len: bytes.len(), bytes: Cow::Owned(bytes) }
    }

    /// An array of truth values.
    pub fn bools(items: impl IntoIterator<Item = bool>) -> Array<'static> {
        Self::build(Kind::Bool, items, |item, out| out.push(u8::from(item)))
    }

    /// An array of arrays, which hold no arrays themselves.
    pub fn arrays<'b>(items: impl IntoIterator<Item = Array<'b>>) -> Array<'static> {
        Self::build(Kind::Array, items, |item, out| {
            assert_ne!(item.kind, Kind::Array, "arrays nest once");
            Value::Array(item).encode(out);
        })
    }

    /// The kind of its values.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its values, decoded one after the other.
    pub fn items(&self) -> impl ExactSizeIterator<Item = Value<'_>> {
        Items { cursor: Cursor::new(Path::new("array"), &self.bytes, 0), kind: self.kind, left: self.len }
    }

    /// Its values, for an array that lies in a file.
    pub(crate) fn into_items(self) -> Option<impl ExactSizeIterator<Item = Value<'a>>> {
        match self.bytes {
            Cow::Borrowed(bytes) => Some(Items {
                cursor: Cursor::new(Path::new("array"), bytes, 0),
                kind: self.kind,
                left: self.len,
            }),
            Cow::Owned(_) => None,
        }
    }

    fn build<T>(
        kind: Kind,
        items: impl IntoIterator<Item = T>,
        push: impl Fn(T, &mut Vec<u8>),
    ) -> Array<'static> {
        let (mut len, mut bytes) = (0, Vec::new());
        for item in items {
            push(item, &mut bytes);
            len += 1;
        }
        Array { kind, len, bytes: Cow::Owned(bytes) }
    }
}

struct Items<'a> {
    cursor: Cursor<'a>,
    kind: Kind,
    left: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(Value::decode(&mut self.cursor, self.kind).expect("arrays are checked when they are made"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Items<'_> {}

/// Moves over a value and checks all of it: lengths, UTF-8, truth values, nesting.
pub(crate) fn skip(cursor: &mut Cursor<'_>, kind: Kind, field: &dyn Display) -> Result<()> {
    match kind {
        Kind::Array => {
            let (kind, len) = array_head(cursor, field)?;
            skip_items(cursor, kind, len, field, true)
        }
        Kind::Str => {
            let n_bytes = cursor.u64(field)?;
            cursor.text(n_bytes, field).map(drop)
        }
        kind => skip_items(cursor, kind, 1, field, false),
    }
}

/// Each item takes a byte or more, or all are taken at once: a huge `len` ends at the end of the file.
fn skip_items(
    cursor: &mut Cursor<'_>,
    kind: Kind,
    len: u64,
    field: &dyn Display,
    may_nest: bool,
) -> Result<()> {
    if kind == Kind::Bool {
        let bytes = cursor.take(len, field)?;
        return match bytes.iter().find(|&&byte| byte > 1) {
            Some(byte) => Err(Error::malformed(cursor.path, field, "a bool, 0 or 1", byte)),
            None => Ok(()),
        };
    }
    if let Some(size) = kind.fixed_bytes() {
        return cursor.take(len.saturating_mul(size as u64), field).map(drop);
    }
    for i in 0..len {
        if kind == Kind::Str {
            let item = format_args!("{field}, string {i}");
            let n_bytes = cursor.u64(item)?;
            cursor.text(n_bytes, item)?;
        } else {
            let (inner, len) = array_head(cursor, field)?;
            if !may_nest || inner == Kind::Array {
                return Err(Error::malformed(cursor.path, field, "arrays nested at most once", "more"));
            }
            skip_items(cursor, inner, len, field, false)?;
        }
    }
    Ok(())
}

fn array_head(cursor: &mut Cursor<'_>, field: &dyn Display) -> Result<(Kind, u64)> {
    let id = cursor.u32(field)?;
    let Some(kind) = Kind::from_id(id) else {
        return Err(Error::malformed(cursor.path, field, "an array of a kind from 0 to 12", id));
    };
    Ok((kind, cursor.u64(field)?))
}

fn encode_str(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

macro_rules! value_from {
    ($($kind:ident($ty:ty)),*) => {$(
        impl From<$ty> for Value<'_> {
            fn from(x: $ty) -> Self {
                Value::$kind(x)
            }
        }
    )*};
}

value_from!(
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    U64(u64),
    I64(i64),
    F64(f64)
);

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Str(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Str(Cow::Owned(text))
    }
}

impl<'a> From<Array<'a>> for Value<'a> {
    fn from(array: Array<'a>) -> Self {
        Value::Array(array)
    }
}
