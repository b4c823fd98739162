//! Vectors of sixteen numbers, the one width in which kernels are written.
//!
//! Where:  below every kernel; an implementation is chosen by [`Isa::run`](crate::Isa).
//! Idea:   sixteen lanes are one AVX-512 register, two AVX2 registers, or an array that the compiler vectorizes. A kernel
//!         written over [`Simd`] is one body for all, and the two x86 sets give the same bits.
//!
//! # Invariants
//! - `Avx512` and `Avx2` values exist only inside functions compiled with their features.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod math;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;

use crate::isa::Kernel;

/// How many tokens a tile holds at most.
pub(crate) const fn max_tile_width(wide: bool) -> usize {
    if wide { 12 } else { 4 }
}

/// How many tokens a tile of quantized products holds at most: all sums of one panel, and the panel's eight registers.
pub(crate) const fn max_integer_tile_width(wide: bool) -> usize {
    if wide { 16 } else { 4 }
}

/// The number of tokens, among those for which there are kernels, that holds `n`.
pub(crate) fn tile_width(wide: bool, n: usize) -> usize {
    let widths: &[usize] = if wide { &[1, 2, 4, 8, 12, 16] } else { &[1, 4] };
    widths.iter().copied().find(|&width| width >= n).expect("a tile holds sixteen at most")
}

/// Lanes of every vector here.
pub(crate) const LANES: usize = 16;

/// Operations on sixteen `f32` (`F`), sixteen `i32` (`I`) and sixty-four bytes (`B`).
pub(crate) trait Simd: Copy {
    type F: Copy;
    type I: Copy;
    type B: Copy;
    /// Whether registers hold tiles of twelve tokens; otherwise four.
    const WIDE: bool;
    /// Runs a kernel as a call of its own, where inlining it would only make more code.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; LANES]) -> Self::F;
    fn store(self, v: Self::F, out: &mut [f32; LANES]);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a·b + c`, rounded once where the machine can.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a > b ? a : b`: a NaN in either gives `b`.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b`: a NaN in either gives `b`.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    /// To the nearest integer, halves to even.
    fn round(self, a: Self::F) -> Self::F;
    /// `a < b ? x : y`; a NaN in `a` or `b` gives `y`.
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;
    /// `a·2ⁿ` for integral `n` in −126..=127.
    fn scale_by_power(self, a: Self::F, n: Self::F) -> Self::F;

    fn load_f16(self, x: &[u16; LANES]) -> Self::F;
    fn load_bf16(self, x: &[u16; LANES]) -> Self::F;
    /// The even numbers of sixteen bf16 pairs.
    fn load_bf16_even(self, x: &[u16; 2 * LANES]) -> Self::F;
    /// The odd numbers of sixteen bf16 pairs.
    fn load_bf16_odd(self, x: &[u16; 2 * LANES]) -> Self::F;

    fn splat_i(self, x: i32) -> Self::I;
    fn to_f(self, a: Self::I) -> Self::F;
    /// To the nearest integers, halves to even, of numbers in −128..=127.
    fn round_to_i8(self, a: Self::F) -> [i8; LANES];
    /// Sixteen unsigned bytes as numbers.
    fn load_u8(self, x: &[u8; LANES]) -> Self::F;
    fn load_bytes(self, x: &[u8; 4 * LANES]) -> Self::B;
    fn splat_byte(self, x: u8) -> Self::B;
    fn and(self, a: Self::B, b: Self::B) -> Self::B;
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
    /// Shifts right by `N` bits inside 16-bit words: mask afterwards.
    fn shr_words<const N: u32>(self, a: Self::B) -> Self::B;
    /// Shifts left by `N` bits inside 16-bit words: mask afterwards.
    fn shl_words<const N: u32>(self, a: Self::B) -> Self::B;
    /// `table[index]` for every byte; indices are below 16.
    fn lookup(self, table: &[u8; 16], index: Self::B) -> Self::B;
    /// Adds in each lane the product of four unsigned bytes of `w` with the four signed bytes in `x`.
    fn dot4(self, acc: Self::I, w: Self::B, x: i32) -> Self::I;

    /// Rounds to f16: to nearest, halves to even.
    fn store_f16(self, a: Self::F, out: &mut [u16; LANES]);

    /// Asks memory for what will be read soon.
    #[inline(always)]
    fn prefetch<T>(self, _soon: &T) {}

    /// Whether a lane is not a number.
    #[inline(always)]
    fn has_nan(self, a: Self::F) -> bool {
        let mut v = [0.0; LANES];
        self.store(a, &mut v);
        v.iter().any(|x| x.is_nan())
    }

    /// Sum of the lanes, in one order for all: halves are added until one is left.
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        let mut v = [0.0; LANES];
        self.store(a, &mut v);
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                v[i] += v[i + width];
            }
            width /= 2;
        }
        v[0]
    }

    /// Greatest lane; a NaN if there is one.
    #[inline(always)]
    fn max_lane(self, a: Self::F) -> f32 {
        let mut v = [0.0; LANES];
        self.store(a, &mut v);
        v.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m || x.is_nan() { x } else { m })
    }

    #[inline(always)]
    fn neg(self, a: Self::F) -> Self::F {
        self.sub(self.splat(-0.0), a)
    }

    /// The first `x.len()` lanes from `x`, the others `fill`.
    #[inline(always)]
    fn load_part(self, x: &[f32], fill: f32) -> Self::F {
        let mut v = [fill; LANES];
        v[..x.len()].copy_from_slice(x);
        self.load(&v)
    }

    /// Stores the first `out.len()` lanes.
    #[inline(always)]
    fn store_part(self, a: Self::F, out: &mut [f32]) {
        let mut v = [0.0; LANES];
        self.store(a, &mut v);
        out.copy_from_slice(&v[..out.len()]);
    }
}
