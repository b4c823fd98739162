//! Weights as the CPU device keeps them: packed for the products that read them.

use wootz_kernels::{PackedMatrix, Packing, Slab, TensorType, cast};

use crate::device::HostTensor;
use crate::device::cpu::Cpu;
use crate::param::{ParamKind, ParamSpec};

/// A weight as this device keeps it.
#[derive(Debug)]
pub(crate) enum Stored {
    Vector(Vec<f32>),
    Matrix(PackedMatrix),
    Stack(Vec<PackedMatrix>),
    Table { ty: TensorType, width: usize, bytes: Vec<u8> },
}

impl Stored {
    /// Packs a tensor whose length was checked, into `slab` if it lives as long as the others there.
    pub(crate) fn new(cpu: &Cpu, slab: Option<&Slab>, spec: &ParamSpec, tensor: &HostTensor) -> Self {
        let packing = Packing { pool: &cpu.pool, precision: cpu.precision, slab };
        let pack = |n: usize, k: usize, bytes: &[u8]| packing.pack(tensor.ty, n, k, bytes);
        match (spec.kind, &spec.shape[..]) {
            (ParamKind::Matrix, &[n, k]) => Stored::Matrix(pack(n, k, &tensor.bytes)),
            (ParamKind::Stack, &[e, n, k]) => {
                let each = tensor.bytes.chunks_exact(tensor.bytes.len() / e);
                Stored::Stack(each.map(|bytes| pack(n, k, bytes)).collect())
            }
            (ParamKind::Table, &[_, width]) => {
                Stored::Table { ty: tensor.ty, width, bytes: tensor.bytes.to_vec() }
            }
            _ => {
                let mut numbers = vec![0.0; spec.n_elements()];
                wootz_kernels::dequantize(tensor.ty, &tensor.bytes, &mut numbers);
                Stored::Vector(numbers)
            }
        }
    }

    /// The same weight with other numbers, rounded to `ty`; or why that cannot be.
    pub(crate) fn from_f32(
        cpu: &Cpu,
        spec: &ParamSpec,
        ty: TensorType,
        numbers: &[f32],
    ) -> Result<Self, String> {
        let bytes = match ty {
            TensorType::F32 => cast::bytes_of(numbers).into(),
            _ => {
                let width = spec.shape.last().copied().unwrap_or(1);
                let row =
                    ty.row_bytes(width).ok_or_else(|| format!("rows of {width} are no blocks of `{ty}`"))?;
                let mut bytes = vec![0; row * (numbers.len() / width)];
                wootz_kernels::quantize(ty, numbers, &mut bytes).map_err(|error| error.to_string())?;
                bytes.into()
            }
        };
        Ok(Stored::new(cpu, None, spec, &HostTensor { ty, bytes }))
    }

    /// Row `i` of a matrix or a table. Panics if there is no such row.
    pub(crate) fn row(&self, i: usize, out: &mut [f32]) {
        match self {
            Stored::Matrix(matrix) => matrix.row(i, out),
            Stored::Table { ty, width, bytes } => {
                let len = ty.row_bytes(*width).expect("checked when it was loaded");
                wootz_kernels::dequantize(*ty, &bytes[i * len..][..len], out);
            }
            Stored::Vector(numbers) => out.copy_from_slice(&numbers[i * out.len()..][..out.len()]),
            Stored::Stack(_) => panic!("a stack of matrices has no rows"),
        }
    }

    pub(crate) fn to_f32(&self) -> Vec<f32> {
        match self {
            Stored::Vector(numbers) => numbers.clone(),
            Stored::Matrix(matrix) => matrix.to_f32(),
            Stored::Stack(matrices) => matrices.iter().flat_map(PackedMatrix::to_f32).collect(),
            Stored::Table { ty, bytes, .. } => {
                let mut numbers = vec![0.0; bytes.len() / ty.block_bytes() * ty.block_len()];
                wootz_kernels::dequantize(*ty, bytes, &mut numbers);
                numbers
            }
        }
    }
}
