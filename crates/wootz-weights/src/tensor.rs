//! A stored tensor: its name, shape and type, and where its bytes are.
//!
//! Where:  listed by the readers, looked up through [`Weights`](crate::Weights), named to the writers.
//! Idea:   most tensors are a range of a mapped file. The few that no [`TensorType`] describes as they lie (strided
//!         views of PyTorch, 8-bit floats, unsigned integers) have a recipe and are made when first asked for.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use half::f16;
use wootz_kernels::TensorType;

use crate::error::{Error, Result};
use crate::source::Source;

/// A tensor's name, shape (outermost dimension first, as PyTorch says it) and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: String,
    /// The dimensions, outermost first; none for a single number.
    pub shape: Vec<usize>,
    /// The type of its numbers.
    pub ty: TensorType,
}

impl TensorInfo {
    /// A description from its parts.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>, ty: TensorType) -> Self {
        Self { name: name.into(), shape: shape.into(), ty }
    }

    /// How many numbers it has, or `None` if that overflows.
    pub fn n_elements(&self) -> Option<usize> {
        n_elements(&self.shape)
    }

    /// How many bytes its numbers take, or `None` if that overflows or a row is no whole number of blocks.
    pub fn n_bytes(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let (row, outer) = match self.shape.split_last() {
            Some((row, outer)) => (*row, outer),
            None => (1, &[][..]),
        };
        self.ty.row_bytes(row)?.checked_mul(n_elements(outer)?)
    }
}

/// A tensor and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The name in the file.
    pub name: &'a str,
    /// The dimensions, outermost first.
    pub shape: &'a [usize],
    /// The type of its numbers.
    pub ty: TensorType,
    /// Its numbers, row after row. Aligned to nothing in particular.
    pub bytes: &'a [u8],
}

impl TensorView<'_> {
    /// How many numbers it has.
    pub fn n_elements(&self) -> usize {
        n_elements(self.shape).expect("checked when the file was opened")
    }

    /// All its numbers as f32. Allocates 4 bytes for each.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.n_elements()];
        wootz_kernels::dequantize(self.ty, self.bytes, &mut out);
        out
    }
}

/// A tensor of an opened file.
#[derive(Debug)]
pub(crate) struct Tensor {
    pub(crate) info: TensorInfo,
    /// Which of the sources.
    pub(crate) source: u32,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Stored(Range<usize>),
    Made(Box<Made>),
}

#[derive(Debug)]
struct Made {
    recipe: Recipe,
    bytes: OnceLock<Box<[u8]>>,
}

/// How the bytes of a tensor come out of a range of the file: first gathered, then widened.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) range: Range<usize>,
    pub(crate) gather: Option<Gather>,
    pub(crate) widen: Option<Widen>,
}

/// A strided view: element `(i, j, …)` lies `i·strides[0] + j·strides[1] + …` elements into the range.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    pub(crate) element_bytes: usize,
    pub(crate) strides: Vec<usize>,
}

/// Stored types that [`TensorType`] lacks, and the exact wider type that they are read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Widen {
    /// F8_E4M3 (finite, one NaN) → F16.
    E4m3,
    /// F8_E5M2 → F16.
    E5m2,
    /// Unsigned byte → I16.
    U8,
    /// Unsigned 16 bits → I32.
    U16,
    /// Unsigned 32 bits → I64.
    U32,
    /// A byte that is 0 or not → I8, 0 or 1.
    Bool,
}

impl Widen {
    pub(crate) fn stored_bytes(self) -> usize {
        match self {
            Widen::E4m3 | Widen::E5m2 | Widen::U8 | Widen::Bool => 1,
            Widen::U16 => 2,
            Widen::U32 => 4,
        }
    }

    pub(crate) fn becomes(self) -> TensorType {
        match self {
            Widen::E4m3 | Widen::E5m2 => TensorType::F16,
            Widen::U8 => TensorType::I16,
            Widen::U16 => TensorType::I32,
            Widen::U32 => TensorType::I64,
            Widen::Bool => TensorType::I8,
        }
    }
}

impl Tensor {
    pub(crate) fn stored(info: TensorInfo, range: Range<usize>) -> Self {
        Self { info, source: 0, data: Data::Stored(range) }
    }

    /// A tensor that needs work, unless the recipe asks for none.
    pub(crate) fn made(info: TensorInfo, recipe: Recipe) -> Self {
        let data = match recipe {
            Recipe { range, gather: None, widen: None } => Data::Stored(range),
            recipe => Data::Made(Box::new(Made { recipe, bytes: OnceLock::new() })),
        };
        Self { info, source: 0, data }
    }

    /// Where its bytes lie in the file, if they lie there as they are.
    pub(crate) fn range(&self) -> Option<Range<usize>> {
        match &self.data {
            Data::Stored(range) => Some(range.clone()),
            Data::Made(_) => None,
        }
    }

    /// Bytes that will be allocated when the tensor is asked for.
    pub(crate) fn made_bytes(&self) -> usize {
        match &self.data {
            Data::Stored(_) => 0,
            Data::Made(_) => self.info.n_bytes().unwrap_or(usize::MAX),
        }
    }

    /// The tensor with its bytes, which are made now if they must be.
    pub(crate) fn view<'a>(&'a self, sources: &'a [Source]) -> TensorView<'a> {
        let file = sources[self.source as usize].bytes();
        let bytes = match &self.data {
            Data::Stored(range) => &file[range.clone()],
            Data::Made(made) => made.bytes.get_or_init(|| make(&made.recipe, &self.info.shape, file)),
        };
        TensorView { name: &self.info.name, shape: &self.info.shape, ty: self.info.ty, bytes }
    }
}

/// Refuses files whose strided or widened tensors would take more than twice the file and 16 MiB.
///
/// An expanded view repeats few stored numbers as many, so a short file could ask for any amount.
pub(crate) fn check_made_bytes(path: &Path, tensors: &[Tensor], file_len: usize) -> Result<()> {
    let limit = file_len.saturating_mul(2).saturating_add(16 << 20);
    let mut total = 0usize;
    for tensor in tensors {
        total = total.saturating_add(tensor.made_bytes());
        if total > limit {
            let field = format_args!("tensor `{}`", tensor.info.name).to_string();
            let expected = format_args!("at most {limit} bytes of views to copy").to_string();
            return Err(Error::malformed(path, field, expected, format_args!("{total} with this one")));
        }
    }
    Ok(())
}

/// The product of the dimensions, or `None` if it overflows.
pub(crate) fn n_elements(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim))
}

fn make(recipe: &Recipe, shape: &[usize], file: &[u8]) -> Box<[u8]> {
    let stored = &file[recipe.range.clone()];
    match (&recipe.gather, recipe.widen) {
        (Some(gather), None) => gathered(gather, shape, stored).into(),
        (Some(gather), Some(widen)) => widened(widen, &gathered(gather, shape, stored)).into(),
        (None, Some(widen)) => widened(widen, stored).into(),
        (None, None) => stored.into(),
    }
}

/// Copies a strided view to rows. All positions were checked when the file was opened.
fn gathered(gather: &Gather, shape: &[usize], stored: &[u8]) -> Vec<u8> {
    let n = n_elements(shape).expect("checked when the file was opened");
    let size = gather.element_bytes;
    let mut out = Vec::with_capacity(n * size);
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    for _ in 0..n {
        out.extend_from_slice(&stored[at * size..(at + 1) * size]);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            at += gather.strides[d];
            if index[d] < shape[d] {
                break;
            }
            at -= gather.strides[d] * shape[d];
            index[d] = 0;
        }
    }
    out
}

fn widened(widen: Widen, stored: &[u8]) -> Vec<u8> {
    match widen {
        Widen::E4m3 => stored.iter().flat_map(|&x| e4m3(x).to_le_bytes()).collect(),
        Widen::E5m2 => stored.iter().flat_map(|&x| [0, x]).collect(), // the upper byte of an f16
        Widen::U8 => stored.iter().flat_map(|&x| [x, 0]).collect(),
        Widen::U16 => stored.as_chunks::<2>().0.iter().flat_map(|&[a, b]| [a, b, 0, 0]).collect(),
        Widen::U32 => {
            stored.as_chunks::<4>().0.iter().flat_map(|&[a, b, c, d]| [a, b, c, d, 0, 0, 0, 0]).collect()
        }
        Widen::Bool => stored.iter().map(|&x| u8::from(x != 0)).collect(),
    }
}

/// Micikevicius et al. 2022, arXiv:2209.05433: bias 7, no infinities, the largest code of each sign is NaN.
fn e4m3(x: u8) -> f16 {
    let sign = u16::from(x & 0x80) << 8;
    let (exponent, mantissa) = (u16::from(x >> 3 & 15), u16::from(x & 7));
    let magnitude = match (exponent, mantissa) {
        (15, 7) => f16::NAN,
        (0, _) => f16::from_f32(f32::from(mantissa) / 512.0),
        _ => f16::from_bits((exponent + 15 - 7) << 10 | mantissa << 7),
    };
    f16::from_bits(sign | magnitude.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposed_view_is_copied_to_rows() {
        // Stored (2, 3): 0 1 2 / 3 4 5. Its transpose (3, 2), without the first row: 1 4 / 2 5.
        let gather = Gather { element_bytes: 1, strides: vec![1, 3] };
        assert_eq!(gathered(&gather, &[2, 2], &[1, 2, 3, 4, 5]), [1, 4, 2, 5]);
        assert_eq!(gathered(&gather, &[], &[1]), [1]);
        assert_eq!(gathered(&gather, &[0, 2], &[]), [0u8; 0]);
    }

    #[test]
    fn eight_bit_floats_have_the_values_of_their_papers() {
        let table = [(0x00, 0.0), (0x01, 1.0 / 512.0), (0x08, 1.0 / 64.0), (0x38, 1.0), (0x7e, 448.0)];
        for (code, value) in table {
            assert_eq!(e4m3(code).to_f32(), value);
            assert_eq!(e4m3(code | 0x80).to_f32(), -value);
        }
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
        let e5m2 = |code| f16::from_le_bytes(widened(Widen::E5m2, &[code]).try_into().unwrap()).to_f32();
        assert_eq!([e5m2(0x3c), e5m2(0x7b), e5m2(0x01)], [1.0, 57344.0, 1.0 / 65536.0]);
    }

    #[test]
    fn sizes_that_overflow_are_no_sizes() {
        assert_eq!(TensorInfo::new("x", [usize::MAX, 2], TensorType::F32).n_bytes(), None);
        assert_eq!(TensorInfo::new("x", [usize::MAX, usize::MAX, 0], TensorType::F32).n_bytes(), Some(0));
        assert_eq!(TensorInfo::new("x", [2, 33], TensorType::Q8_0).n_bytes(), None);
        assert_eq!(TensorInfo::new("x", [], TensorType::F16).n_bytes(), Some(2));
    }
}
