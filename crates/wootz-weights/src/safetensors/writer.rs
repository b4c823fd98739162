//! Writing safetensors files, tensor by tensor.
//!
//! Where:  used by conversion and by training's checkpoints.
//! Idea:   all descriptions come first, bytes are streamed after them. Wider types lie first in the file, so that every
//!         tensor is aligned to its type; callers keep their own order, and the writer seeks.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::dtype_name;
use crate::atomic::AtomicFile;
use crate::error::{Error, Result};
use crate::safetensors::PLAIN;
use crate::tensor::TensorInfo;

/// A file that is being written. Dropped before [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    file: AtomicFile,
    /// Name, place and size of each tensor, in the caller's order.
    tensors: Vec<(String, u64, usize)>,
    /// The tensor whose bytes come next, and how many of them have come.
    current: usize,
    written: usize,
}

impl Writer {
    /// Writes the header. `metadata` becomes `__metadata__`; transformers wants `("format", "pt")` there.
    ///
    /// # Errors
    /// [`Error::NotWritable`] for duplicate names and for types that the format lacks; [`Error::Io`].
    pub fn create(path: &Path, metadata: &[(String, String)], tensors: &[TensorInfo]) -> Result<Self> {
        let sizes = check(path, metadata, tensors)?;
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(tensors[i].ty.block_bytes())); // stable
        let mut header = serde_json::Map::new();
        if !metadata.is_empty() {
            let entries = metadata.iter().map(|(key, value)| (key.clone(), value.clone().into()));
            header.insert("__metadata__".into(), serde_json::Value::Object(entries.collect()));
        }
        let (mut offset, mut places) = (0u64, vec![0; tensors.len()]);
        for &i in &order {
            let (info, end) = (&tensors[i], offset + sizes[i] as u64);
            let entry = serde_json::json!({
                "dtype": dtype_name(info.ty),
                "shape": info.shape,
                "data_offsets": [offset, end],
            });
            header.insert(info.name.clone(), entry);
            places[i] = offset;
            offset = end;
        }
        let mut json = serde_json::Value::Object(header).to_string().into_bytes();
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut file = AtomicFile::create(path)?;
        file.write(&(json.len() as u64).to_le_bytes())?;
        file.write(&json)?;
        let start = 8 + json.len() as u64;
        let tensors = tensors.iter().zip(places).zip(sizes);
        let tensors = tensors.map(|((info, place), size)| (info.name.clone(), start + place, size)).collect();
        let mut writer = Self { file, tensors, current: 0, written: 0 };
        writer.skip_finished()?;
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
        let left = self.tensors.get(self.current).map_or(0, |(_, _, size)| size - self.written);
        if bytes.len() > left {
            return Err(self.wrong_length(format_args!("at most {left} more bytes"), bytes.len()));
        }
        self.file.write(bytes)?;
        self.written += bytes.len();
        self.skip_finished()
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// [`Error::NotWritable`] if a tensor lacks bytes; [`Error::Io`].
    pub fn finish(self) -> Result<()> {
        if let Some((_, _, size)) = self.tensors.get(self.current) {
            return Err(self.wrong_length(format_args!("{size} bytes"), self.written));
        }
        self.file.commit()
    }

    /// Moves on from tensors that are complete, to the place of the next.
    fn skip_finished(&mut self) -> Result<()> {
        while let Some(&(_, place, size)) = self.tensors.get(self.current) {
            if self.written < size {
                return if self.written == 0 { self.file.seek(place) } else { Ok(()) };
            }
            (self.current, self.written) = (self.current + 1, 0);
        }
        Ok(())
    }

    fn wrong_length(&self, expected: std::fmt::Arguments<'_>, got: usize) -> Error {
        let field = match self.tensors.get(self.current) {
            Some((name, ..)) => format!("tensor `{name}`"),
            None => "bytes after the last tensor".into(),
        };
        Error::not_writable(self.file.path(), field, expected, got)
    }
}

/// A model folder's weights: `model.safetensors`, or numbered files of bounded size with an index.
///
/// The index is written last; before that, readers do not find the numbered files.
#[derive(Debug)]
pub struct FolderWriter {
    dir: PathBuf,
    metadata: Vec<(String, String)>,
    /// The tensors of each file.
    files: Vec<Vec<TensorInfo>>,
    current: usize,
    writer: Writer,
}

impl FolderWriter {
    /// Distributes `tensors`, in their order, over files of at most `max_file_bytes` of data (or of one tensor).
    ///
    /// # Errors
    /// As [`Writer::create`].
    pub fn create(
        dir: &Path,
        metadata: &[(String, String)],
        tensors: &[TensorInfo],
        max_file_bytes: usize,
    ) -> Result<Self> {
        let sizes = check(dir, metadata, tensors)?;
        let mut files = vec![Vec::new()];
        let mut in_file = 0usize;
        for (info, size) in tensors.iter().zip(sizes) {
            if in_file > 0 && in_file.saturating_add(size) > max_file_bytes {
                files.push(Vec::new());
                in_file = 0;
            }
            in_file += size;
            files.last_mut().expect("one is there from the start").push(info.clone());
        }
        let writer = Writer::create(&dir.join(file_name(0, files.len())), metadata, &files[0])?;
        Ok(Self { dir: dir.into(), metadata: metadata.into(), files, current: 0, writer })
    }

    /// As [`Writer::write`], over all files. A piece may not reach into the next tensor.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        while self.writer.current == self.writer.tensors.len() && self.current + 1 < self.files.len() {
            self.current += 1;
            let path = self.dir.join(file_name(self.current, self.files.len()));
            let next = Writer::create(&path, &self.metadata, &self.files[self.current])?;
            std::mem::replace(&mut self.writer, next).finish()?;
        }
        self.writer.write(bytes)
    }

    /// Finishes the last file and writes the index, if there are several files.
    ///
    /// # Errors
    /// As [`Writer::finish`].
    pub fn finish(mut self) -> Result<()> {
        let n_files = self.files.len();
        while self.current + 1 < n_files
            && self.files[self.current + 1].iter().all(|t| t.n_bytes() == Some(0))
        {
            self.current += 1;
            let path = self.dir.join(file_name(self.current, n_files));
            let next = Writer::create(&path, &self.metadata, &self.files[self.current])?;
            std::mem::replace(&mut self.writer, next).finish()?;
        }
        if self.current + 1 < n_files {
            let name = &self.files[self.current + 1][0].name;
            return Err(Error::not_writable(&self.dir, format_args!("tensor `{name}`"), "its bytes", "none"));
        }
        self.writer.finish()?;
        if n_files == 1 {
            return Ok(());
        }
        let mut index = AtomicFile::create(&self.dir.join(crate::shards::SAFETENSORS_INDEX))?;
        index
            .write(serde_json::to_string_pretty(&weight_map(&self.files)).expect("plain JSON").as_bytes())?;
        index.commit()
    }
}

fn weight_map(files: &[Vec<TensorInfo>]) -> serde_json::Value {
    let total_size: usize = files.iter().flatten().filter_map(TensorInfo::n_bytes).sum();
    let mut map = serde_json::Map::new();
    for (i, tensors) in files.iter().enumerate() {
        for info in tensors {
            map.insert(info.name.clone(), file_name(i, files.len()).into());
        }
    }
    serde_json::json!({ "metadata": { "total_size": total_size }, "weight_map": map })
}

fn file_name(i: usize, n_files: usize) -> String {
    match n_files {
        1 => crate::shards::SAFETENSORS.into(),
        _ => format!("model-{:05}-of-{n_files:05}.safetensors", i + 1),
    }
}

fn check(path: &Path, metadata: &[(String, String)], tensors: &[TensorInfo]) -> Result<Vec<usize>> {
    let mut keys = HashSet::new();
    for (key, _) in metadata {
        if !keys.insert(key) {
            return Err(Error::not_writable(path, format_args!("metadata `{key}`"), "one value", "a second"));
        }
    }
    let mut names = HashSet::from(["__metadata__"]);
    let mut sizes = Vec::new();
    for info in tensors {
        let field = format_args!("tensor `{}`", info.name);
        if !names.insert(&info.name) {
            return Err(Error::not_writable(path, field, "a name of its own", "one that is taken"));
        }
        if dtype_name(info.ty).is_none() {
            let expected = crate::error::quoted(&PLAIN.map(|(ty, _)| ty));
            return Err(Error::not_writable(path, field, expected, info.ty));
        }
        let n_bytes = info.n_bytes();
        let too_big =
            || Error::not_writable(path, field, "a size below 2^64", format_args!("{:?}", info.shape));
        sizes.push(n_bytes.ok_or_else(too_big)?);
    }
    Ok(sizes)
}
