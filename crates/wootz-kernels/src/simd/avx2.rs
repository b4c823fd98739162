//! Sixteen lanes in two AVX2 registers.
//!
//! Where:  inside `on_avx2` of [`isa`](crate::isa), and nowhere else.

use std::arch::x86_64::*;

use super::{LANES, Simd};
use crate::isa::Kernel;

/// Proof of being inside a function compiled for AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// Only a function with these features can call it.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(crate) fn new() -> Self {
        Avx2(())
    }
}

/// Calls an intrinsic on both halves.
macro_rules! both {
    ($i:ident => $call:expr) => {
        // SAFETY: `self` exists only where the features of this module were detected; memory operands come from
        // references to arrays that hold both halves.
        unsafe {
            [
                {
                    let $i = 0_usize;
                    $call
                },
                {
                    let $i = 1_usize;
                    $call
                },
            ]
        }
    };
}

/// Halves are added until one is left.
#[target_feature(enable = "avx")]
#[inline]
pub(super) fn sum_of_eight(a: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// The greatest of eight numbers.
#[target_feature(enable = "avx")]
#[inline]
pub(super) fn max_of_eight(a: __m256) -> f32 {
    let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// Asks for the cache lines of a value, into the second cache.
#[target_feature(enable = "sse")]
#[inline]
pub(super) fn prefetch<T>(soon: &T) {
    for offset in (0..size_of::<T>()).step_by(64) {
        // SAFETY: the address lies inside a reference's value, and asking for it reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(soon).cast::<i8>().add(offset)) };
    }
}

impl Simd for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type B = [__m256i; 2];
    const WIDE: bool = false;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` exists only where these features were detected.
        unsafe { crate::isa::on_avx2(kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        both!(_i => _mm256_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        both!(i => _mm256_loadu_ps(x.as_ptr().add(8 * i)))
    }
    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; LANES]) {
        both!(i => _mm256_storeu_ps(out.as_mut_ptr().add(8 * i), v[i]));
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        both!(i => _mm256_add_ps(a[i], b[i]))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        both!(i => _mm256_sub_ps(a[i], b[i]))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        both!(i => _mm256_mul_ps(a[i], b[i]))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        both!(i => _mm256_div_ps(a[i], b[i]))
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        both!(i => _mm256_fmadd_ps(a[i], b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        both!(i => _mm256_max_ps(a[i], b[i]))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        both!(i => _mm256_min_ps(a[i], b[i]))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        both!(i => _mm256_andnot_ps(_mm256_set1_ps(-0.0), a[i]))
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        both!(i => _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a[i]))
    }
    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        both!(i => _mm256_blendv_ps(y[i], x[i], _mm256_cmp_ps::<_CMP_LT_OQ>(a[i], b[i])))
    }
    #[inline(always)]
    fn scale_by_power(self, a: Self::F, n: Self::F) -> Self::F {
        both!(i => {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n[i]), _mm256_set1_epi32(127));
            _mm256_mul_ps(a[i], _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        })
    }

    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::F {
        both!(i => _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().add(8 * i).cast())))
    }
    #[inline(always)]
    fn store_f16(self, a: Self::F, out: &mut [u16; LANES]) {
        both!(i => {
            let half = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a[i]);
            _mm_storeu_si128(out.as_mut_ptr().add(8 * i).cast(), half);
        });
    }
    #[inline(always)]
    fn prefetch<T>(self, soon: &T) {
        // SAFETY: as in `both`; asking for a reference's memory reads nothing.
        unsafe { prefetch(soon) }
    }
    #[inline(always)]
    fn has_nan(self, a: Self::F) -> bool {
        let nan = both!(i => _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(a[i], a[i])));
        nan != [0, 0]
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        // SAFETY: as in `both`.
        unsafe { sum_of_eight(_mm256_add_ps(a[0], a[1])) }
    }
    #[inline(always)]
    fn max_lane(self, a: Self::F) -> f32 {
        if self.has_nan(a) {
            return f32::NAN;
        }
        // SAFETY: as in `both`.
        unsafe { max_of_eight(_mm256_max_ps(a[0], a[1])) }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Self::F {
        both!(i => {
            let half = _mm_loadu_si128(x.as_ptr().add(8 * i).cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half)))
        })
    }
    #[inline(always)]
    fn load_bf16_even(self, x: &[u16; 2 * LANES]) -> Self::F {
        both!(i => {
            let pairs = _mm256_loadu_si256(x.as_ptr().add(16 * i).cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs))
        })
    }
    #[inline(always)]
    fn load_bf16_odd(self, x: &[u16; 2 * LANES]) -> Self::F {
        both!(i => {
            let pairs = _mm256_loadu_si256(x.as_ptr().add(16 * i).cast());
            _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32)))
        })
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        both!(_i => _mm256_set1_epi32(x))
    }
    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        both!(i => _mm256_cvtepi32_ps(a[i]))
    }
    #[inline(always)]
    fn round_to_i8(self, a: Self::F) -> [i8; LANES] {
        let mut out = [0; LANES];
        // SAFETY: as in `both`; sixteen bytes are written to sixteen.
        unsafe {
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        }
        out
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::F {
        both!(i => _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(x.as_ptr().add(8 * i).cast()))))
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8; 4 * LANES]) -> Self::B {
        both!(i => _mm256_loadu_si256(x.as_ptr().add(32 * i).cast()))
    }
    #[inline(always)]
    fn splat_byte(self, x: u8) -> Self::B {
        both!(_i => _mm256_set1_epi8(x as i8))
    }
    #[inline(always)]
    fn and(self, a: Self::B, b: Self::B) -> Self::B {
        both!(i => _mm256_and_si256(a[i], b[i]))
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        both!(i => _mm256_or_si256(a[i], b[i]))
    }
    #[inline(always)]
    fn shr_words<const N: u32>(self, a: Self::B) -> Self::B {
        both!(i => _mm256_srl_epi16(a[i], _mm_cvtsi32_si128(N as i32)))
    }
    #[inline(always)]
    fn shl_words<const N: u32>(self, a: Self::B) -> Self::B {
        both!(i => _mm256_sll_epi16(a[i], _mm_cvtsi32_si128(N as i32)))
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16], index: Self::B) -> Self::B {
        both!(i => {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            _mm256_shuffle_epi8(table, index[i])
        })
    }
    #[inline(always)]
    fn dot4(self, acc: Self::I, w: Self::B, x: i32) -> Self::I {
        // `maddubs` saturates its sums of two products at 16 bits, so the top bit of `w` goes on its own.
        both!(i => {
            let x = _mm256_set1_epi32(x);
            let low = _mm256_maddubs_epi16(_mm256_and_si256(w[i], _mm256_set1_epi8(0x7f)), x);
            let top = _mm256_and_si256(_mm256_srli_epi16::<7>(w[i]), _mm256_set1_epi8(1));
            let top = _mm256_maddubs_epi16(top, x);
            let low = _mm256_madd_epi16(low, _mm256_set1_epi16(1));
            let top = _mm256_madd_epi16(top, _mm256_set1_epi16(128));
            _mm256_add_epi32(acc[i], _mm256_add_epi32(low, top))
        })
    }
}
