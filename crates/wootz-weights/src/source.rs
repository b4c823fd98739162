//! The bytes of one weight file, wherever they are, and its name for messages.
//!
//! Where:  held by [`Weights`](crate::Weights); parsers see only the path and a `&[u8]`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::mmap::Mapped;

/// A file's name and bytes. Clones share the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    path: PathBuf,
    bytes: Bytes,
}

#[derive(Clone, Debug)]
enum Bytes {
    Mapped(Arc<Mapped>),
    Owned(Arc<[u8]>),
    Static(&'static [u8]),
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.into(), bytes: Bytes::Mapped(Arc::new(Mapped::open(path)?)) })
    }

    /// Bytes that are no file; `name` stands for them in messages.
    pub(crate) fn from_bytes(name: &Path, bytes: Cow<'static, [u8]>) -> Self {
        let bytes = match bytes {
            Cow::Borrowed(bytes) => Bytes::Static(bytes),
            Cow::Owned(bytes) => Bytes::Owned(bytes.into()),
        };
        Self { path: name.into(), bytes }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(mapped) => mapped.bytes(),
            Bytes::Owned(bytes) => bytes,
            Bytes::Static(bytes) => bytes,
        }
    }

    /// See [`Mapped::release`].
    pub(crate) fn release(&self, range: std::ops::Range<usize>) {
        if let Bytes::Mapped(mapped) = &self.bytes {
            mapped.release(range);
        }
    }
}
