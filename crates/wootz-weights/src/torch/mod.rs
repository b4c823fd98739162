//! PyTorch archives (`.bin`, `.pth`, `.pt`): a zip of a pickle and raw storages. Nothing in them is executed.
//!
//! Where:  read through [`Weights`](crate::Weights); never written.
//! Idea:   the pickle runs on a machine that can build containers and call six functions, which only describe tensors;
//!         a tensor is then a view into a storage, which lies uncompressed in the archive and is mapped in place.
//! Source: torch/serialization.py, torch/_utils.py; PEP 307 and 3154 for the pickle opcodes.

mod pickle;
mod zip;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use wootz_kernels::TensorType;

use crate::error::{Error, Result};
use crate::tensor::{Gather, Recipe, Tensor, TensorInfo, Widen, check_made_bytes, n_elements};

/// The tensors of an archive.
#[derive(Debug)]
pub struct Archive {
    pub(crate) tensors: Vec<Tensor>,
}

impl Archive {
    /// Reads the archive `bytes`; `path` is for messages.
    ///
    /// The archive must hold a dict of tensors, or a dict that holds one under `state_dict`, `model_state_dict`, `model`
    /// or `module`. Values in it that are no tensors (counters, configurations) are left out.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Unsupported`], naming the field, tensor or forbidden global.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let entries = zip::entries(path, bytes)?;
        let pickles: Vec<&str> = entries.keys().copied().filter(|name| name.ends_with("/data.pkl")).collect();
        let &[pickle] = &pickles[..] else {
            let got = format!("{} of them among {} entries", pickles.len(), entries.len());
            return Err(Error::malformed(path, "archive", "one entry named `…/data.pkl`", got));
        };
        let folder = pickle.strip_suffix("data.pkl").expect("it was found by that ending");
        let storages = Storages { path, folder, entries };
        if storages.entries.contains_key(&*format!("{folder}constants.pkl")) {
            return Err(Error::unsupported(path, "a TorchScript archive", "a saved state dict"));
        }
        if let Some(range) = storages.entry("byteorder")?
            && &bytes[range] != b"little"
        {
            return Err(Error::unsupported(path, "a big-endian archive", "a little-endian one"));
        }
        let pickle = storages.entry("data.pkl")?.expect("it is there");
        let tensors = pickle::tensors(path, &bytes[pickle], bytes.len(), |view| storages.tensor(view))?;
        check_made_bytes(path, &tensors, bytes.len())?;
        Ok(Self { tensors })
    }
}

/// A tensor as the pickle describes it.
#[derive(Debug)]
struct View {
    name: String,
    dtype: Dtype,
    /// The storage's name in the archive, and its size: in elements of `dtype`, or in bytes where it is untyped.
    storage: String,
    storage_len: StorageLen,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
enum StorageLen {
    Elements(usize),
    Bytes(usize),
}

/// How a stored type is read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dtype {
    Same(TensorType),
    Widened(Widen),
}

impl Dtype {
    /// By the name of the storage's class.
    fn from_storage(class: &str) -> Option<Self> {
        Some(match class {
            "DoubleStorage" => Dtype::Same(TensorType::F64),
            "FloatStorage" => Dtype::Same(TensorType::F32),
            "HalfStorage" => Dtype::Same(TensorType::F16),
            "BFloat16Storage" => Dtype::Same(TensorType::BF16),
            "LongStorage" => Dtype::Same(TensorType::I64),
            "IntStorage" => Dtype::Same(TensorType::I32),
            "ShortStorage" => Dtype::Same(TensorType::I16),
            "CharStorage" => Dtype::Same(TensorType::I8),
            "ByteStorage" => Dtype::Widened(Widen::U8),
            "BoolStorage" => Dtype::Widened(Widen::Bool),
            _ => return None,
        })
    }

    /// By the name of the `torch.dtype`, which newer types are saved with.
    fn from_torch(name: &str) -> Option<Self> {
        Some(match name {
            "float64" => Dtype::Same(TensorType::F64),
            "float32" => Dtype::Same(TensorType::F32),
            "float16" => Dtype::Same(TensorType::F16),
            "bfloat16" => Dtype::Same(TensorType::BF16),
            "int64" => Dtype::Same(TensorType::I64),
            "int32" => Dtype::Same(TensorType::I32),
            "int16" => Dtype::Same(TensorType::I16),
            "int8" => Dtype::Same(TensorType::I8),
            "uint8" => Dtype::Widened(Widen::U8),
            "uint16" => Dtype::Widened(Widen::U16),
            "uint32" => Dtype::Widened(Widen::U32),
            "bool" => Dtype::Widened(Widen::Bool),
            "float8_e4m3fn" => Dtype::Widened(Widen::E4m3),
            "float8_e5m2" => Dtype::Widened(Widen::E5m2),
            _ => return None,
        })
    }

    fn stored_bytes(self) -> usize {
        match self {
            Dtype::Same(ty) => ty.block_bytes(),
            Dtype::Widened(widen) => widen.stored_bytes(),
        }
    }
}

struct Storages<'a> {
    path: &'a Path,
    folder: &'a str,
    entries: HashMap<&'a str, Option<Range<usize>>>,
}

impl Storages<'_> {
    /// The place of an entry, if there is one.
    fn entry(&self, name: &str) -> Result<Option<Range<usize>>> {
        let name = format!("{}{name}", self.folder);
        match self.entries.get(&*name) {
            None => Ok(None),
            Some(Some(range)) => Ok(Some(range.clone())),
            Some(None) => {
                let what = format_args!("zip entry `{name}`, compressed or encrypted,").to_string();
                Err(Error::unsupported(self.path, what, "a stored one"))
            }
        }
    }

    fn tensor(&self, view: View) -> Result<Tensor> {
        let field = format_args!("tensor `{}`", view.name);
        let size = view.dtype.stored_bytes();
        let entry = format!("data/{}", view.storage);
        let Some(stored) = self.entry(&entry)? else {
            return Err(Error::malformed(self.path, field, format_args!("an entry `{entry}`"), "none"));
        };
        let expected = match view.storage_len {
            StorageLen::Elements(n) => n.checked_mul(size),
            StorageLen::Bytes(n) => Some(n),
        };
        if expected != Some(stored.len()) {
            let expected = format!("a storage of {:?}", view.storage_len);
            return Err(Error::malformed(self.path, field, expected, format_args!("{} bytes", stored.len())));
        }
        let reach = reach(&view);
        let range = reach.filter(|reach| reach.end <= stored.len() / size);
        let Some(reach) = range else {
            let expected = format!("numbers within its storage of {}", stored.len() / size);
            let got =
                format_args!("shape {:?}, strides {:?}, offset {}", view.shape, view.strides, view.offset)
                    .to_string();
            return Err(Error::malformed(self.path, field, expected, got));
        };
        let ty = match view.dtype {
            Dtype::Same(ty) => ty,
            Dtype::Widened(widen) => widen.becomes(),
        };
        let start = stored.start + reach.start * size;
        let range = start..start + reach.len() * size;
        let gather = (!is_contiguous(&view.shape, &view.strides))
            .then(|| Gather { element_bytes: size, strides: moving_strides(&view.shape, &view.strides) });
        let widen = match view.dtype {
            Dtype::Same(_) => None,
            Dtype::Widened(widen) => Some(widen),
        };
        let info = TensorInfo { name: view.name, shape: view.shape, ty };
        if info.n_bytes().is_none() {
            return Err(Error::malformed(
                self.path,
                format_args!("tensor `{}`", info.name),
                "a size below 2^64",
                format_args!("shape {:?}", info.shape),
            ));
        }
        Ok(Tensor::made(info, Recipe { range, gather, widen }))
    }
}

/// The elements between a view's first and last, or `None` if that overflows.
fn reach(view: &View) -> Option<Range<usize>> {
    if n_elements(&view.shape)? == 0 {
        return Some(0..0);
    }
    let steps = view
        .shape
        .iter()
        .zip(&view.strides)
        .try_fold(0usize, |steps, (dim, stride)| steps.checked_add((dim - 1).checked_mul(*stride)?))?;
    Some(view.offset..view.offset.checked_add(steps)?.checked_add(1)?)
}

/// Whether elements lie one after the other. Dimensions of one element may have any stride.
fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut expected = 1usize;
    shape.iter().zip(strides).rev().all(|(&dim, &stride)| {
        let follows = dim == 1 || stride == expected;
        expected = expected.saturating_mul(dim);
        follows
    })
}

/// Strides, 0 where a dimension has one element, whose stride means nothing.
fn moving_strides(shape: &[usize], strides: &[usize]) -> Vec<usize> {
    shape.iter().zip(strides).map(|(&dim, &stride)| if dim == 1 { 0 } else { stride }).collect()
}
