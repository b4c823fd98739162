//! BitNet's matrices: −1, 0 and 1 times one number a matrix.
//!
//! Where:  called when weights are read, for the two parts of that kind in [`names`](crate::names).
//! Source: Ma et al. 2025, arXiv:2504.12285, §2; the packing and both meanings of the scale are transformers'.

use half::{bf16, f16};
use wootz_graph::HostTensor;
use wootz_kernels::{TensorType, cast};
use wootz_weights::TensorView;

use crate::names::TernaryScale;
use crate::{Error, Result};

/// Two bits a number, four rows in one, unpacked and scaled.
pub(crate) fn unpacked(
    packed: &TensorView,
    scale: &TensorView,
    scaled: TernaryScale,
) -> Result<HostTensor<'static>> {
    let fail = |tensor: &TensorView, expected: &str| Error::Tensor {
        name: tensor.name.to_owned(),
        expected: expected.to_owned(),
        got: format!("{:?} of `{}`", tensor.shape, tensor.ty),
    };
    if !scale.ty.is_plain() || scale.n_elements() != 1 {
        return Err(fail(scale, "one number"));
    }
    let bytes = packed.to_f32();
    if bytes.iter().any(|byte| !(0.0..256.0).contains(byte)) {
        return Err(fail(packed, "bytes"));
    }
    let number = scale.to_f32()[0];
    let unit = match scaled {
        TernaryScale::Times => number,
        TernaryScale::By => 1.0 / number,
    };
    if !unit.is_finite() {
        return Err(fail(scale, "a finite number other than zero"));
    }
    let levels = [-unit, 0.0, unit, 2.0 * unit];
    let numbers =
        (0..4).flat_map(|part| bytes.iter().map(move |byte| levels[*byte as usize >> (2 * part) & 3]));
    // A number stored in 16 bits is kept in as many; one that is divided by has more digits.
    Ok(match (scaled, scale.ty) {
        (TernaryScale::Times, TensorType::BF16) => {
            host(TensorType::BF16, cast::bytes_of(&numbers.map(bf16::from_f32).collect::<Vec<_>>()))
        }
        (TernaryScale::Times, TensorType::F16) => {
            host(TensorType::F16, cast::bytes_of(&numbers.map(f16::from_f32).collect::<Vec<_>>()))
        }
        _ => host(TensorType::F32, cast::bytes_of(&numbers.collect::<Vec<f32>>())),
    })
}

/// Each number rounded to −1, 0 or 1 times the mean magnitude of all.
pub(crate) fn made(numbers: &[f32]) -> HostTensor<'static> {
    let mean = numbers.iter().map(|x| f64::from(x.abs())).sum::<f64>() / numbers.len().max(1) as f64;
    let scale = 1.0 / (mean as f32).max(1e-5);
    let ternary = |x: &f32| (x * scale).round_ties_even().clamp(-1.0, 1.0) / scale;
    host(TensorType::F32, cast::bytes_of(&numbers.iter().map(ternary).collect::<Vec<_>>()))
}

fn host(ty: TensorType, bytes: &[u8]) -> HostTensor<'static> {
    HostTensor { ty, bytes: bytes.to_vec().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'a>(ty: TensorType, shape: &'a [usize], bytes: &'a [u8]) -> TensorView<'a> {
        TensorView { name: "w", ty, shape, bytes }
    }

    #[test]
    fn a_byte_holds_its_column_of_four_rows_that_lie_apart() {
        let packed: [i32; 4] = [0b10_10_00_01, 0b00_01_10_00, 0b10_01_00_00, 0b00_00_10_10];
        let packed = view(TensorType::I32, &[2, 2], cast::bytes_of(&packed));
        let scale = view(TensorType::F32, &[1], cast::bytes_of(&[0.5_f32]));
        let ternary = |scaled| {
            let host = unpacked(&packed, &scale, scaled).unwrap();
            view(host.ty, &[8, 2], &host.bytes).to_f32()
        };
        let rows = [0., -1., -1., 1., -1., 1., -1., 1., 1., 0., 0., -1., 1., -1., 1., -1.];
        assert_eq!(ternary(TernaryScale::Times), rows.map(|x| x * 0.5));
        assert_eq!(ternary(TernaryScale::By), rows.map(|x| x * 2.0));
    }

    #[test]
    fn a_scale_of_zero_is_an_error_where_it_divides() {
        let packed = view(TensorType::I16, &[1, 1], &[0, 0]);
        let scale = view(TensorType::F32, &[1], &[0; 4]);
        assert!(unpacked(&packed, &scale, TernaryScale::By).is_err());
    }

    #[test]
    fn numbers_become_the_nearest_of_three() {
        let host = made(&[0.9, -0.1, 0.4, -1.0]); // mean magnitude 0.6
        let got = view(host.ty, &[4], &host.bytes).to_f32();
        for (got, expected) in got.iter().zip([0.6, 0.0, 0.6, -0.6]) {
            assert!((got - expected).abs() < 1e-6, "{got} is not {expected}");
        }
    }
}
