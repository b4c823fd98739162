//! Asking a GGUF file for a key by type, with errors that name file and key.
//!
//! Where:  `wootz-model` reads configs through it, and fills a vocabulary from it.
//! Idea:   an integer of any width answers for any other that holds its value; writers disagree about widths.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::gguf::header::Header;
use crate::gguf::value::Value;
use crate::source::Source;

/// The metadata of an opened GGUF file (of the first one, where the model is split).
#[derive(Clone, Copy, Debug)]
pub struct Gguf<'a> {
    pub(crate) header: &'a Header,
    pub(crate) source: &'a Source,
}

impl<'a> Gguf<'a> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.header.value(self.source.bytes(), key)
    }

    /// Every key with its value, in the file's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a str, Value<'a>)> + use<'a> {
        self.header.entries(self.source.bytes())
    }

    /// The value of a key that may be missing.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is there and of another type.
    pub fn find<T: FromValue<'a>>(&self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let got = match &value {
            Value::Array(array) => format!("an array of {} {}", array.len(), array.kind()),
            value => format!("{} {value:?}", value.kind()),
        };
        match T::from_value(value) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::malformed(self.source.path(), format_args!("key `{key}`"), T::EXPECTED, got)),
        }
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// [`Error::NoKey`], or as [`find`](Self::find).
    pub fn need<T: FromValue<'a>>(&self, key: &str) -> Result<T> {
        let missing = || Error::NoKey { path: self.source.path().into(), key: key.into() };
        self.find(key)?.ok_or_else(missing)
    }

    /// A number that must be there.
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.need(key)
    }

    /// A count that must be there.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.need(key)
    }

    /// A float that must be there.
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.need(key)
    }

    /// A truth value that must be there.
    pub fn bool(&self, key: &str) -> Result<bool> {
        self.need(key)
    }

    /// A text that must be there.
    pub fn str(&self, key: &str) -> Result<&'a str> {
        self.need(key)
    }

    /// Texts that must be there. Allocates 16 bytes for each.
    pub fn strs(&self, key: &str) -> Result<Vec<&'a str>> {
        self.need(key)
    }

    /// Floats that must be there.
    pub fn f32s(&self, key: &str) -> Result<Vec<f32>> {
        self.need(key)
    }

    /// Integers that must be there.
    pub fn i32s(&self, key: &str) -> Result<Vec<i32>> {
        self.need(key)
    }
}

/// What a metadata value can be asked for as.
pub trait FromValue<'a>: Sized {
    /// How messages call it.
    const EXPECTED: &'static str;
    /// The value, if it is of this type.
    fn from_value(value: Value<'a>) -> Option<Self>;
}

macro_rules! integers {
    ($($ty:ty, $one:literal, $many:literal;)*) => {$(
        impl<'a> FromValue<'a> for $ty {
            const EXPECTED: &'static str = $one;
            fn from_value(value: Value<'a>) -> Option<Self> {
                value.as_integer()?.try_into().ok()
            }
        }

        impl<'a> FromValue<'a> for Vec<$ty> {
            const EXPECTED: &'static str = $many;
            fn from_value(value: Value<'a>) -> Option<Self> {
                items(value)
            }
        }
    )*};
}

integers! {
    u8, "an integer that fits u8", "an array of integers that fit u8";
    u32, "an integer that fits u32", "an array of integers that fit u32";
    i32, "an integer that fits i32", "an array of integers that fit i32";
    u64, "an integer that fits u64", "an array of integers that fit u64";
    i64, "an integer that fits i64", "an array of integers that fit i64";
    usize, "a count", "an array of counts";
}

impl<'a> FromValue<'a> for f32 {
    const EXPECTED: &'static str = "a float";
    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for bool {
    const EXPECTED: &'static str = "a bool";
    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::Bool(x) => Some(x),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a string";
    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::Str(Cow::Borrowed(text)) => Some(text),
            _ => None,
        }
    }
}

macro_rules! arrays {
    ($($ty:ty, $many:literal;)*) => {$(
        impl<'a> FromValue<'a> for Vec<$ty> {
            const EXPECTED: &'static str = $many;
            fn from_value(value: Value<'a>) -> Option<Self> {
                items(value)
            }
        }
    )*};
}

arrays! {
    f32, "an array of floats";
    bool, "an array of bools";
    &'a str, "an array of strings";
}

fn items<'a, T: FromValue<'a>>(value: Value<'a>) -> Option<Vec<T>> {
    match value {
        Value::Array(array) => array.into_items()?.map(T::from_value).collect(),
        _ => None,
    }
}
