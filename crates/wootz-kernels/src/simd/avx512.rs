//! Sixteen lanes in one AVX-512 register.
//!
//! Where:  inside `on_avx512` of [`isa`](crate::isa), and nowhere else.

use std::arch::x86_64::*;

use super::{LANES, Simd};
use crate::isa::Kernel;

/// Proof of being inside a function compiled for AVX-512 F, BW, VL, DQ and VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// Only a function with these features can call it.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    pub(crate) fn new() -> Self {
        Avx512(())
    }
}

/// Calls an intrinsic.
macro_rules! x86 {
    ($call:expr) => {
        // SAFETY: `self` exists only where the features of this module were detected; memory operands come from
        // references to arrays of the register's size.
        unsafe { $call }
    };
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;
    const WIDE: bool = true;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` exists only where these features were detected.
        unsafe { crate::isa::on_avx512(kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        x86!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        x86!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; LANES]) {
        x86!(_mm512_storeu_ps(out.as_mut_ptr(), v))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        x86!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        x86!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        x86!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        x86!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        x86!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        x86!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        x86!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        x86!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        x86!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        x86!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x))
    }
    #[inline(always)]
    fn scale_by_power(self, a: Self::F, n: Self::F) -> Self::F {
        x86!({
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_mul_ps(a, _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent)))
        })
    }

    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::F {
        x86!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_f16(self, a: Self::F, out: &mut [u16; LANES]) {
        x86!({
            let half = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), half);
        });
    }
    #[inline(always)]
    fn prefetch<T>(self, soon: &T) {
        x86!(super::avx2::prefetch(soon));
    }
    #[inline(always)]
    fn has_nan(self, a: Self::F) -> bool {
        x86!(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a)) != 0
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        x86!({
            let high = _mm512_extractf32x8_ps::<1>(a);
            super::avx2::sum_of_eight(_mm256_add_ps(_mm512_castps512_ps256(a), high))
        })
    }
    #[inline(always)]
    fn max_lane(self, a: Self::F) -> f32 {
        if self.has_nan(a) {
            return f32::NAN;
        }
        x86!({
            let high = _mm512_extractf32x8_ps::<1>(a);
            super::avx2::max_of_eight(_mm256_max_ps(_mm512_castps512_ps256(a), high))
        })
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Self::F {
        x86!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(
            x.as_ptr().cast()
        )))))
    }
    #[inline(always)]
    fn load_bf16_even(self, x: &[u16; 2 * LANES]) -> Self::F {
        x86!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_loadu_si512(x.as_ptr().cast()))))
    }
    #[inline(always)]
    fn load_bf16_odd(self, x: &[u16; 2 * LANES]) -> Self::F {
        x86!({
            let pairs = _mm512_loadu_si512(x.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32)))
        })
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        x86!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        x86!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn round_to_i8(self, a: Self::F) -> [i8; LANES] {
        let mut out = [0; LANES];
        x86!(_mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a))));
        out
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::F {
        x86!(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()))))
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8; 4 * LANES]) -> Self::B {
        x86!(_mm512_loadu_si512(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn splat_byte(self, x: u8) -> Self::B {
        x86!(_mm512_set1_epi8(x as i8))
    }
    #[inline(always)]
    fn and(self, a: Self::B, b: Self::B) -> Self::B {
        x86!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        x86!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn shr_words<const N: u32>(self, a: Self::B) -> Self::B {
        x86!(_mm512_srli_epi16::<N>(a))
    }
    #[inline(always)]
    fn shl_words<const N: u32>(self, a: Self::B) -> Self::B {
        x86!(_mm512_slli_epi16::<N>(a))
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16], index: Self::B) -> Self::B {
        x86!(_mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), index))
    }
    #[inline(always)]
    fn dot4(self, acc: Self::I, w: Self::B, x: i32) -> Self::I {
        x86!(_mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(x)))
    }
}
