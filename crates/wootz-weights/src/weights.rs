//! The one way to open weights, whatever files hold them.
//!
//! Where:  `wootz-model` builds models from it; conversion copies from it.
//! Idea:   a list of files, a list of tensors in them, and the order of the tensors' names to search by.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::gguf::{self, Gguf};
use crate::shards::{self, Found, Index};
use crate::source::Source;
use crate::tensor::{Tensor, TensorInfo, TensorView};
use crate::{safetensors, torch};

/// How the files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One or several safetensors files.
    Safetensors,
    /// One GGUF file or a numbered set.
    Gguf,
    /// One or several PyTorch archives.
    Torch,
}

/// The tensors of a model, from one file or several.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    format: Format,
    sources: Vec<Source>,
    tensors: Vec<Tensor>,
    /// The tensors in the order of their names.
    by_name: Vec<u32>,
    /// `__metadata__` of the (first) safetensors file.
    metadata: Vec<(String, String)>,
    /// Of the (first) GGUF file.
    header: Option<gguf::Header>,
}

impl Weights {
    /// Opens a folder, an index, or a weight file, which is recognised by its first bytes.
    ///
    /// In a folder, safetensors come before PyTorch archives and those before GGUF. Nothing is read but headers.
    ///
    /// # Errors
    /// [`Error`] of every kind but `NoTensor`, `NoKey` and `NotWritable`; memory is bounded by the files' sizes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let found = match path.is_dir() {
            true => shards::in_folder(path)?,
            false => Found::File(path.into()),
        };
        match found {
            Found::Index(index, format) => Self::from_index(path, &index, format),
            Found::File(file) => match index_format(&file) {
                Some(format) => Self::from_index(path, &file, format),
                None => Self::from_file(path, &file),
            },
        }
    }

    /// Opens the bytes of one file, such as a model that is part of the program. `name` stands for it in messages.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(name: impl AsRef<Path>, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        let source = Source::from_bytes(name.as_ref(), bytes.into());
        let parsed = Parsed::parse(&source)?;
        Self::assemble(name.as_ref(), vec![(source, parsed)])
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the files are written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The files.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.sources.iter().map(Source::path)
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The tensors' names, in the files' order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.infos().map(|info| info.name.as_str())
    }

    /// The tensors without their bytes, in the files' order.
    pub fn infos(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter().map(|tensor| &tensor.info)
    }

    /// A tensor's name, shape and type. O(log n).
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.find(name).map(|tensor| &tensor.info)
    }

    /// A tensor. O(log n).
    ///
    /// Most are slices of the file. Strided ones and those of 8-bit floats, unsigned integers or truth values, which no
    /// `TensorType` describes, are copied (into F16, or the next wider signed integer) the first time, and kept.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        self.find(name).map(|tensor| tensor.view(&self.sources))
    }

    /// A tensor that must be there.
    ///
    /// # Errors
    /// [`Error::NoTensor`].
    pub fn need(&self, name: &str) -> Result<TensorView<'_>> {
        self.get(name).ok_or_else(|| Error::NoTensor {
            path: self.path.clone(),
            name: name.into(),
            n_tensors: self.len(),
        })
    }

    /// All tensors, in the files' order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.tensors.iter().map(|tensor| tensor.view(&self.sources))
    }

    /// Says that a tensor's bytes will not be needed soon, so that memory holds only what was made of them. A hint.
    pub fn release(&self, name: &str) {
        if let Some(tensor) = self.find(name)
            && let Some(range) = tensor.range()
        {
            self.sources[tensor.source as usize].release(range);
        }
    }

    /// The metadata of a GGUF file.
    pub fn gguf(&self) -> Option<Gguf<'_>> {
        self.header.as_ref().map(|header| Gguf { header, source: &self.sources[0] })
    }

    /// The texts that a safetensors file has under `__metadata__`.
    pub fn metadata(&self) -> &[(String, String)] {
        &self.metadata
    }

    fn find(&self, name: &str) -> Option<&Tensor> {
        let tensor = |i: u32| &self.tensors[i as usize];
        let at = self.by_name.binary_search_by(|&i| tensor(i).info.name.as_str().cmp(name)).ok()?;
        Some(tensor(self.by_name[at]))
    }

    fn from_file(path: &Path, file: &Path) -> Result<Self> {
        let source = Source::open(file)?;
        let parsed = Parsed::parse(&source)?;
        if let Parsed::Gguf(header) = &parsed
            && let Some(n_files) = split_count(&source, header)?
        {
            return Self::from_split(path, file, n_files);
        }
        Self::assemble(path, vec![(source, parsed)])
    }

    /// Opens all files that an index names, and checks that each has the tensors it should have.
    fn from_index(path: &Path, index_path: &Path, format: Format) -> Result<Self> {
        let index = Index::open(index_path)?;
        let mut parts = Vec::new();
        for (number, file) in index.files.iter().enumerate() {
            let source = Source::open(&index_path.with_file_name(file))?;
            let parsed = Parsed::parse(&source)?;
            if parsed.format() != format {
                let (expected, got) = (format!("{format:?}"), format!("{:?}", parsed.format()));
                return Err(Error::malformed(source.path(), "file", expected, got));
            }
            let names: HashSet<&str> =
                parsed.tensors().iter().map(|tensor| tensor.info.name.as_str()).collect();
            let mut here = index.tensors.iter().filter(|(_, file)| *file as usize == number);
            if let Some((name, _)) = here.find(|(name, _)| !names.contains(name.as_str())) {
                let expected = format!("to be in `{file}`");
                return Err(Error::malformed(
                    index_path,
                    format_args!("tensor `{name}`"),
                    expected,
                    "not there",
                ));
            }
            parts.push((source, parsed));
        }
        Self::assemble(path, parts)
    }

    /// Opens a numbered set of GGUF files, of which `file` is one.
    fn from_split(path: &Path, file: &Path, n_files: usize) -> Result<Self> {
        let files = shards::split_set(file);
        if files.len() != n_files {
            let expected = format!("a name that ends in -00001-of-{n_files:05}.gguf");
            return Err(Error::malformed(file, "key `split.count`", expected, "another"));
        }
        let mut parts = Vec::new();
        for (number, file) in files.iter().enumerate() {
            let source = Source::open(file)?;
            let parsed = Parsed::parse(&source)?;
            if let Parsed::Gguf(header) = &parsed {
                let got = Gguf { header, source: &source }.find::<usize>("split.no")?;
                if got != Some(number) || split_count(&source, header)? != Some(n_files) {
                    let expected = format!("{number} of {n_files}");
                    return Err(Error::malformed(file, "key `split.no`", expected, format_args!("{got:?}")));
                }
            }
            parts.push((source, parsed));
        }
        let weights = Self::assemble(path, parts)?;
        let gguf = weights.gguf().expect("the files of the set were recognised as GGUF");
        match gguf.find::<usize>("split.tensors.count")? {
            Some(expected) if expected != weights.len() => {
                Err(Error::malformed(path, "key `split.tensors.count`", weights.len(), expected))
            }
            _ => Ok(weights),
        }
    }

    fn assemble(path: &Path, parts: Vec<(Source, Parsed)>) -> Result<Self> {
        let format = parts[0].1.format();
        let mut weights = Self {
            path: path.into(),
            format,
            sources: Vec::new(),
            tensors: Vec::new(),
            by_name: Vec::new(),
            metadata: Vec::new(),
            header: None,
        };
        for (number, (source, parsed)) in parts.into_iter().enumerate() {
            weights.sources.push(source);
            let mut tensors = match parsed {
                Parsed::Safetensors(safetensors::Header { metadata, tensors }) => {
                    if number == 0 {
                        weights.metadata = metadata;
                    }
                    tensors
                }
                Parsed::Gguf(mut header) => {
                    let tensors = std::mem::take(&mut header.tensors);
                    weights.header.get_or_insert(header);
                    tensors
                }
                Parsed::Torch(archive) => archive.tensors,
            };
            tensors.iter_mut().for_each(|tensor| tensor.source = number as u32);
            weights.tensors.append(&mut tensors);
        }
        weights.sort_names()?;
        Ok(weights)
    }

    fn sort_names(&mut self) -> Result<()> {
        let name = |i: u32| &self.tensors[i as usize].info.name;
        let mut by_name: Vec<u32> = (0..self.tensors.len() as u32).collect();
        by_name.sort_unstable_by_key(|&i| name(i));
        if let Some(pair) = by_name.array_windows().find(|&&[a, b]| name(a) == name(b)) {
            let name = format_args!("tensor `{}`", name(pair[0])).to_string();
            return Err(Error::malformed(&self.path, name, "one of this name", "a second one"));
        }
        self.by_name = by_name;
        Ok(())
    }
}

/// A file's checked header.
enum Parsed {
    Safetensors(safetensors::Header),
    Gguf(gguf::Header),
    Torch(torch::Archive),
}

impl Parsed {
    /// Recognises a file by its first bytes.
    fn parse(source: &Source) -> Result<Self> {
        let (path, bytes) = (source.path(), source.bytes());
        let known = "safetensors, GGUF, or a PyTorch archive";
        match bytes {
            [b'G', b'G', b'U', b'F', ..] => Ok(Parsed::Gguf(gguf::Header::parse(path, bytes)?)),
            [b'P', b'K', 3, 4, ..] => Ok(Parsed::Torch(torch::Archive::parse(path, bytes)?)),
            [_, _, _, _, _, _, _, _, b'{', ..] => {
                Ok(Parsed::Safetensors(safetensors::Header::parse(path, bytes)?))
            }
            [] => Err(Error::unsupported(path, "an empty file", known)),
            [0x80, 2, 0x8a, 0x0a, ..] => {
                let what = "PyTorch's format from before version 1.6";
                Err(Error::unsupported(path, what, "an archive as `torch.save` writes now"))
            }
            [b'l' | b't' | b'f', b'm' | b'j', b'g', b'g', ..] | [b't', b'j', ..] => {
                Err(Error::unsupported(path, "GGML's format from before GGUF", known))
            }
            _ if bytes.starts_with(b"version https://git-lfs") => {
                Err(Error::unsupported(path, "a Git LFS pointer", "the file itself (`git lfs pull`)"))
            }
            _ => {
                let first = &bytes[..bytes.len().min(8)];
                Err(Error::unsupported(path, format_args!("a file that starts with {first:02x?}"), known))
            }
        }
    }

    fn format(&self) -> Format {
        match self {
            Parsed::Safetensors(_) => Format::Safetensors,
            Parsed::Gguf(_) => Format::Gguf,
            Parsed::Torch(_) => Format::Torch,
        }
    }

    fn tensors(&self) -> &[Tensor] {
        match self {
            Parsed::Safetensors(header) => &header.tensors,
            Parsed::Gguf(header) => &header.tensors,
            Parsed::Torch(archive) => &archive.tensors,
        }
    }
}

fn index_format(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?;
    match name {
        name if name.ends_with(".safetensors.index.json") => Some(Format::Safetensors),
        name if name.ends_with(".bin.index.json") => Some(Format::Torch),
        _ => None,
    }
}

/// How many files the set has that this one belongs to, if it is split.
fn split_count(source: &Source, header: &gguf::Header) -> Result<Option<usize>> {
    let n_files = Gguf { header, source }.find::<usize>("split.count")?;
    Ok(n_files.filter(|&n_files| n_files > 1))
}
