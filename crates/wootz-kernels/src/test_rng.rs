//! Random numbers for this crate's tests.
//!
//! Idea:   SplitMix64; normals from sums of uniform numbers are normal enough to test with.

use crate::TensorType;

pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn seeded(seed: u64) -> Self {
        Rng(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1 << 24) as f32
    }

    pub(crate) fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (0..6).map(|_| self.uniform() - 0.5).sum::<f32>() * 1.414).collect()
    }
}

/// Asserts that two slices agree within `atol + rtol·|want|`, naming the first place where they do not.
#[track_caller]
pub(crate) fn assert_close(got: &[f32], want: &[f32], atol: f32, rtol: f32) {
    assert_eq!(got.len(), want.len());
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!(g == w || (g - w).abs() <= atol + rtol * w.abs(), "place {i}: {g} instead of {w}");
    }
}

/// Random blocks of any type that is multiplied as integers, with scales of a sane size.
pub(crate) fn random_blocks(rng: &mut Rng, ty: TensorType, n: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..ty.row_bytes(n).unwrap()).map(|_| rng.next_u64() as u8).collect();
    let halves: &[usize] = match ty {
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4_K | TensorType::Q5_K => &[0, 2],
        TensorType::Q2_K => &[80, 82],
        TensorType::Q3_K => &[108],
        TensorType::Q6_K => &[208],
        TensorType::TQ1_0 => &[52],
        TensorType::TQ2_0 => &[64],
        TensorType::MXFP4 => &[],
        _ => &[0],
    };
    for block in bytes.chunks_mut(ty.block_bytes()) {
        for &at in halves {
            let scale = half::f16::from_f32((rng.uniform() - 0.3) * 0.02);
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
        if ty == TensorType::MXFP4 {
            block[0] = 118 + (block[0] & 7);
        }
    }
    bytes
}
