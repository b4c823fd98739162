//! safetensors: a JSON header and raw tensors, one file or several with an index.
//!
//! Where:  read through [`Weights`](crate::Weights), written by conversion and by training's checkpoints.
//! Source: the safetensors format (huggingface/safetensors, README); `model.safetensors.index.json` as transformers
//!         writes it.

mod header;
mod writer;

pub use header::Header;
pub use writer::{FolderWriter, Writer};

use wootz_kernels::TensorType;

use crate::tensor::Widen;

/// Header bytes that the format allows at most.
const MAX_HEADER: u64 = 100_000_000;
/// Dimensions that are read at most.
const MAX_DIMS: usize = 8;

/// How a stored type is read.
#[derive(Clone, Copy, Debug)]
enum Dtype {
    Same(TensorType),
    Widened(Widen),
}

impl Dtype {
    const NAMES: &str = "F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, U32, U16, U8 or BOOL";

    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "F8_E4M3" => Dtype::Widened(Widen::E4m3),
            "F8_E5M2" => Dtype::Widened(Widen::E5m2),
            "U8" => Dtype::Widened(Widen::U8),
            "U16" => Dtype::Widened(Widen::U16),
            "U32" => Dtype::Widened(Widen::U32),
            "BOOL" => Dtype::Widened(Widen::Bool),
            _ => Dtype::Same(PLAIN.into_iter().find(|(_, plain)| *plain == name)?.0),
        })
    }

    fn stored_bytes(self) -> usize {
        match self {
            Dtype::Same(ty) => ty.block_bytes(),
            Dtype::Widened(widen) => widen.stored_bytes(),
        }
    }

    fn ty(self) -> TensorType {
        match self {
            Dtype::Same(ty) => ty,
            Dtype::Widened(widen) => widen.becomes(),
        }
    }
}

/// The types that both sides have, with the format's name.
const PLAIN: [(TensorType, &str); 8] = [
    (TensorType::F64, "F64"),
    (TensorType::F32, "F32"),
    (TensorType::F16, "F16"),
    (TensorType::BF16, "BF16"),
    (TensorType::I64, "I64"),
    (TensorType::I32, "I32"),
    (TensorType::I16, "I16"),
    (TensorType::I8, "I8"),
];

/// The format's name of a type, or `None` for block types.
fn dtype_name(ty: TensorType) -> Option<&'static str> {
    PLAIN.into_iter().find(|(plain, _)| *plain == ty).map(|(_, name)| name)
}
