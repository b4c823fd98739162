//! Writing a GGUF file (version 3), tensor by tensor.
//!
//! Where:  used by conversion and quantization.
//! Idea:   everything but the tensors' bytes is known first and written first; then bytes are streamed through, so a
//!         model of any size needs the memory of one piece. The file appears under its name when it is whole.

use std::collections::HashSet;
use std::path::Path;

use crate::atomic::AtomicFile;
use crate::error::{Error, Result};
use crate::gguf::value::Value;
use crate::gguf::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS};
use crate::tensor::TensorInfo;

/// Longest name that ggml takes, with the zero byte it adds.
const MAX_NAME: usize = 63;

/// A GGUF file that is being written. Dropped before [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    file: AtomicFile,
    alignment: usize,
    /// Name and size of each tensor.
    tensors: Vec<(String, usize)>,
    /// The tensor whose bytes come next, and how many of them have come.
    current: usize,
    written: usize,
}

impl Writer {
    /// Writes metadata, in the order given, and the description of all tensors.
    ///
    /// # Errors
    /// [`Error::NotWritable`] for duplicate keys or names, more than four dimensions, rows that are no whole number of
    /// blocks; [`Error::Io`].
    pub fn create(path: &Path, metadata: &[(String, Value<'_>)], tensors: &[TensorInfo]) -> Result<Self> {
        let alignment = check_metadata(path, metadata)?;
        let sizes = check_tensors(path, tensors)?;
        let mut file = AtomicFile::create(path)?;
        let mut head = Vec::new();
        head.extend_from_slice(MAGIC);
        head.extend(3u32.to_le_bytes());
        head.extend((tensors.len() as u64).to_le_bytes());
        head.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            Value::from(key.as_str()).encode(&mut head);
            head.extend((value.kind() as u32).to_le_bytes());
            value.encode(&mut head);
        }
        let mut offset = 0u64;
        for (info, &n_bytes) in tensors.iter().zip(&sizes) {
            Value::from(info.name.as_str()).encode(&mut head);
            head.extend((info.shape.len() as u32).to_le_bytes());
            for &dim in info.shape.iter().rev() {
                head.extend((dim as u64).to_le_bytes());
            }
            head.extend(info.ty.ggml_id().to_le_bytes());
            head.extend(offset.to_le_bytes());
            offset = (offset + n_bytes as u64).next_multiple_of(alignment as u64);
        }
        head.resize(head.len().next_multiple_of(alignment), 0);
        file.write(&head)?;
        let tensors = tensors.iter().map(|info| info.name.clone()).zip(sizes).collect();
        let mut writer = Self { file, alignment, tensors, current: 0, written: 0 };
        writer.pad_finished()?;
        Ok(writer)
    }

    /// The next bytes of the tensor whose turn it is: all of them, or a piece. Tensors come in the order declared.
    ///
    /// # Errors
    /// [`Error::NotWritable`] if the piece reaches beyond the tensor's end; [`Error::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let left = self.tensors.get(self.current).map_or(0, |(_, size)| size - self.written);
        if bytes.len() > left {
            return Err(self.wrong_length(format_args!("at most {left} more bytes"), bytes.len()));
        }
        self.file.write(bytes)?;
        self.written += bytes.len();
        self.pad_finished()
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// [`Error::NotWritable`] if a tensor lacks bytes; [`Error::Io`].
    pub fn finish(self) -> Result<()> {
        if let Some((_, size)) = self.tensors.get(self.current) {
            return Err(self.wrong_length(format_args!("{size} bytes"), self.written));
        }
        self.file.commit()
    }

    /// Moves on from tensors that are complete.
    fn pad_finished(&mut self) -> Result<()> {
        while let Some(&(_, size)) = self.tensors.get(self.current)
            && self.written == size
        {
            let padding = size.next_multiple_of(self.alignment) - size;
            self.file.zeros(padding)?;
            (self.current, self.written) = (self.current + 1, 0);
        }
        Ok(())
    }

    fn wrong_length(&self, expected: std::fmt::Arguments<'_>, got: usize) -> Error {
        let field = match self.tensors.get(self.current) {
            Some((name, _)) => format!("tensor `{name}`"),
            None => "bytes after the last tensor".into(),
        };
        Error::not_writable(self.file.path(), field, expected, got)
    }
}

fn check_metadata(path: &Path, metadata: &[(String, Value<'_>)]) -> Result<usize> {
    let mut names = HashSet::new();
    let mut alignment = DEFAULT_ALIGNMENT;
    for (key, value) in metadata {
        let field = format_args!("key `{key}`");
        if !names.insert(key) {
            return Err(Error::not_writable(path, field, "one value", "a second one"));
        }
        if key == ALIGNMENT_KEY {
            let Value::U32(x) = value else {
                return Err(Error::not_writable(path, field, "a u32", value.kind()));
            };
            if !x.is_power_of_two() {
                return Err(Error::not_writable(path, field, "a power of two", x));
            }
            alignment = *x as usize;
        }
    }
    Ok(alignment)
}

fn check_tensors(path: &Path, tensors: &[TensorInfo]) -> Result<Vec<usize>> {
    let mut names = HashSet::new();
    let size = |info: &TensorInfo| {
        let field = format_args!("tensor `{}`", info.name);
        if !names.insert(info.name.clone()) {
            return Err(Error::not_writable(path, field, "one of this name", "a second one"));
        }
        if info.name.len() > MAX_NAME {
            let expected = format_args!("a name of at most {MAX_NAME} bytes");
            return Err(Error::not_writable(path, field, expected, info.name.len()));
        }
        if info.shape.len() > MAX_DIMS {
            let expected = format_args!("at most {MAX_DIMS} dimensions");
            return Err(Error::not_writable(path, field, expected, info.shape.len()));
        }
        info.n_bytes().ok_or_else(|| {
            let expected = format_args!("rows of whole {} blocks ({} numbers)", info.ty, info.ty.block_len());
            Error::not_writable(path, field, expected, format_args!("shape {:?}", info.shape))
        })
    };
    tensors.iter().map(size).collect()
}
