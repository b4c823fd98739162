//! What the bytes of every [`TensorType`] mean: one plain reader per type, and a writer where rounding is obvious.
//!
//! Where:  called by weight conversion and by tests; the reference that packed layouts and SIMD products are held to.
//! Idea:   a format is a function from one block's bytes to its numbers; one table names them, one loop walks rows.
//! Source: ggml's block structures; results are equal bit for bit to the PyPI package `gguf` (`golden/blocks.py`).
//! Elsewhere: names and sizes ([`TensorType`]), products that never leave the packed form (the quantized product).

mod iq;
mod iq_grid;
mod k_quant;
mod legacy;
mod micro_float;
mod plain;
mod ternary;

use half::f16;

use crate::TensorType;

/// Writes the numbers that `bytes` holds to `out`. Plain, portable, and the definition of each format.
///
/// `bytes` is a whole number of blocks and `out` as long as they say: `ty.row_bytes(out.len()) == Some(bytes.len())`,
/// which is asserted. Integers and F64 are rounded to the nearest f32.
pub fn dequantize(ty: TensorType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(ty.row_bytes(out.len()), Some(bytes.len()), "dequantize {ty}: {} numbers", out.len());
    match ty {
        TensorType::F64 => each(bytes, out, plain::f64),
        TensorType::F32 => each(bytes, out, plain::f32),
        TensorType::F16 => each(bytes, out, plain::f16),
        TensorType::BF16 => each(bytes, out, plain::bf16),
        TensorType::I8 => each(bytes, out, plain::i8),
        TensorType::I16 => each(bytes, out, plain::i16),
        TensorType::I32 => each(bytes, out, plain::i32),
        TensorType::I64 => each(bytes, out, plain::i64),
        TensorType::Q1_0 => each(bytes, out, legacy::q1_0),
        TensorType::Q2_0 => each(bytes, out, legacy::q2_0),
        TensorType::Q4_0 => each(bytes, out, legacy::q4_0),
        TensorType::Q4_1 => each(bytes, out, legacy::q4_1),
        TensorType::Q5_0 => each(bytes, out, legacy::q5_0),
        TensorType::Q5_1 => each(bytes, out, legacy::q5_1),
        TensorType::Q8_0 => each(bytes, out, legacy::q8_0),
        TensorType::Q8_1 => each(bytes, out, legacy::q8_1),
        TensorType::Q2_K => each(bytes, out, k_quant::q2_k),
        TensorType::Q3_K => each(bytes, out, k_quant::q3_k),
        TensorType::Q4_K => each(bytes, out, k_quant::q4_k),
        TensorType::Q5_K => each(bytes, out, k_quant::q5_k),
        TensorType::Q6_K => each(bytes, out, k_quant::q6_k),
        TensorType::Q8_K => each(bytes, out, k_quant::q8_k),
        TensorType::IQ1_S => each(bytes, out, iq::iq1_s),
        TensorType::IQ1_M => each(bytes, out, iq::iq1_m),
        TensorType::IQ2_XXS => each(bytes, out, iq::iq2_xxs),
        TensorType::IQ2_XS => each(bytes, out, iq::iq2_xs),
        TensorType::IQ2_S => each(bytes, out, iq::iq2_s),
        TensorType::IQ3_XXS => each(bytes, out, iq::iq3_xxs),
        TensorType::IQ3_S => each(bytes, out, iq::iq3_s),
        TensorType::IQ4_NL => each(bytes, out, iq::iq4_nl),
        TensorType::IQ4_XS => each(bytes, out, iq::iq4_xs),
        TensorType::TQ1_0 => each(bytes, out, ternary::tq1_0),
        TensorType::TQ2_0 => each(bytes, out, ternary::tq2_0),
        TensorType::MXFP4 => each(bytes, out, micro_float::mxfp4),
        TensorType::NVFP4 => each(bytes, out, micro_float::nvfp4),
    }
}

/// Writes `x` in the format `ty` to `bytes`, rounding as ggml's reference does. Lengths as for [`dequantize`].
///
/// # Errors
/// [`NotWritable`] for the types whose rounding is a search ([`can_quantize`] says no); `bytes` is then untouched.
pub fn quantize(ty: TensorType, x: &[f32], bytes: &mut [u8]) -> Result<(), NotWritable> {
    assert_eq!(ty.row_bytes(x.len()), Some(bytes.len()), "quantize {ty}: {} numbers", x.len());
    match ty {
        TensorType::F64 => each_back(x, bytes, plain::write_f64),
        TensorType::F32 => each_back(x, bytes, plain::write_f32),
        TensorType::F16 => each_back(x, bytes, plain::write_f16),
        TensorType::BF16 => each_back(x, bytes, plain::write_bf16),
        TensorType::Q4_0 => each_back(x, bytes, legacy::write_q4_0),
        TensorType::Q4_1 => each_back(x, bytes, legacy::write_q4_1),
        TensorType::Q5_0 => each_back(x, bytes, legacy::write_q5_0),
        TensorType::Q5_1 => each_back(x, bytes, legacy::write_q5_1),
        TensorType::Q8_0 => each_back(x, bytes, legacy::write_q8_0),
        TensorType::TQ1_0 => each_back(x, bytes, ternary::write_tq1_0),
        TensorType::TQ2_0 => each_back(x, bytes, ternary::write_tq2_0),
        TensorType::MXFP4 => each_back(x, bytes, micro_float::write_mxfp4),
        _ => return Err(NotWritable { ty }),
    }
    Ok(())
}

/// Whether [`quantize`] writes this type.
pub fn can_quantize(ty: TensorType) -> bool {
    WRITABLE.contains(&ty)
}

/// The types that [`quantize`] writes.
const WRITABLE: [TensorType; 12] = [
    TensorType::F64,
    TensorType::F32,
    TensorType::F16,
    TensorType::BF16,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::TQ1_0,
    TensorType::TQ2_0,
    TensorType::MXFP4,
];

/// The type asked of [`quantize`] can be read but not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWritable {
    /// The type that was asked for.
    pub ty: TensorType,
}

impl std::fmt::Display for NotWritable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot quantize to `{}`: expected one of", self.ty)?;
        WRITABLE.iter().try_for_each(|ty| write!(f, " `{ty}`"))
    }
}

impl std::error::Error for NotWritable {}

/// Walks blocks of `B` bytes that hold `N` numbers each.
fn each<const B: usize, const N: usize>(bytes: &[u8], out: &mut [f32], read: fn(&[u8; B], &mut [f32; N])) {
    for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        read(block, out);
    }
}

/// The way back of [`each`].
fn each_back<const B: usize, const N: usize>(
    x: &[f32],
    bytes: &mut [u8],
    write: fn(&[f32; N], &mut [u8; B]),
) {
    for (x, block) in x.as_chunks().0.iter().zip(bytes.as_chunks_mut().0) {
        write(x, block);
    }
}

/// The f16 at byte `at`.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Rounds `value` to f16 and writes it at byte `at`.
fn put_half(block: &mut [u8], at: usize, value: f32) {
    block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records made by `golden/blocks.py`: `d` reads bytes into f32 bits, `q` writes f32 as bytes.
    struct Record {
        kind: u8,
        ty: TensorType,
        bytes: Vec<u8>,
        numbers: Vec<f32>,
    }

    fn golden() -> Vec<Record> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/blocks.bin");
        let file = std::fs::read(path).unwrap();
        let header = file.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let mut rest = &file[header..];
        let mut take = |n: usize| {
            let (head, tail) = rest.split_at(n);
            rest = tail;
            head
        };
        let mut records = Vec::new();
        while let [kind, name_len] = take(2) {
            if *kind == b'.' {
                break;
            }
            let name = std::str::from_utf8(take(usize::from(*name_len))).unwrap();
            let ty = TensorType::from_name(name).unwrap();
            let n = u32::from_le_bytes(take(4).try_into().unwrap()) as usize;
            let bytes = take(ty.row_bytes(n).unwrap()).to_vec();
            let numbers = take(4 * n).as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            records.push(Record { kind: *kind, ty, bytes, numbers });
        }
        records
    }

    #[test]
    fn every_type_reads_as_the_reference_reads_it() {
        let records = golden();
        for &ty in TensorType::ALL {
            let mut n_records = 0;
            for record in records.iter().filter(|record| record.kind == b'd' && record.ty == ty) {
                let mut out = vec![f32::NAN; record.numbers.len()];
                dequantize(ty, &record.bytes, &mut out);
                for (i, (got, expected)) in out.iter().zip(&record.numbers).enumerate() {
                    assert_eq!(got.to_bits(), expected.to_bits(), "{ty}, number {i}: {got} for {expected}");
                }
                n_records += 1;
            }
            assert!(n_records > 0, "no golden data for {ty}");
        }
    }

    #[test]
    fn writable_types_are_written_as_the_reference_writes_them() {
        let records = golden();
        for &ty in TensorType::ALL {
            let mut n_records = 0;
            for record in records.iter().filter(|record| record.kind == b'q' && record.ty == ty) {
                let mut bytes = vec![0xa5; record.bytes.len()];
                quantize(ty, &record.numbers, &mut bytes).unwrap();
                assert_eq!(bytes, record.bytes, "{ty}");
                n_records += 1;
            }
            assert_eq!(n_records > 0, can_quantize(ty), "{ty}");
        }
    }

    #[test]
    fn a_type_that_cannot_be_written_says_which_can() {
        let error = quantize(TensorType::Q4_K, &[0.0; 256], &mut [0; 144]).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot quantize to `q4_k`: expected one of `f64` `f32`"),
            "{error}"
        );
    }

    #[test]
    fn numbers_that_are_not_finite_never_panic() {
        for fill in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-45, 0.0] {
            for ty in WRITABLE {
                let mut x = vec![fill; 256];
                x[3] = -1.0;
                let mut bytes = vec![0; ty.row_bytes(256).unwrap()];
                quantize(ty, &x, &mut bytes).unwrap();
                dequantize(ty, &bytes, &mut x);
            }
        }
        for &ty in TensorType::ALL {
            for fill in [0, 0x7f, 0x80, 0xff] {
                dequantize(ty, &vec![fill; ty.row_bytes(512).unwrap()], &mut [0.0; 512]);
            }
        }
    }

    #[test]
    #[should_panic(expected = "dequantize q4_0")]
    fn lengths_that_disagree_are_a_bug_of_the_caller() {
        dequantize(TensorType::Q4_0, &[0; 18], &mut [0.0; 64]);
    }
}
