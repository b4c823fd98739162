//! Sixteen lanes as plain arrays.
//!
//! Where:  the scalar and NEON levels of [`Isa`](crate::Isa).
//! Idea:   loops of a fixed length over arrays, which the compiler vectorizes for the target's baseline. Operations on bytes are
//!         calls: inlined into every product's body, they made this crate compile for minutes.

use super::{LANES, Simd};
use crate::isa::Kernel;

/// See the module.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(never)]
fn call_portable<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Portable)
}

#[inline(always)]
fn zip<T: Copy + Default, U: Copy>(a: [U; LANES], b: [U; LANES], f: impl Fn(U, U) -> T) -> [T; LANES] {
    let mut out = [T::default(); LANES];
    for i in 0..LANES {
        out[i] = f(a[i], b[i]);
    }
    out
}

#[inline(always)]
fn words(a: [u8; 64], f: impl Fn(u16) -> u16) -> [u8; 64] {
    let mut out = [0; 64];
    for (o, x) in out.as_chunks_mut::<2>().0.iter_mut().zip(a.as_chunks::<2>().0) {
        *o = f(u16::from_le_bytes(*x)).to_le_bytes();
    }
    out
}

impl Simd for Portable {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type B = [u8; 4 * LANES];
    const WIDE: bool = false;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        call_portable(kernel)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        *x
    }
    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; LANES]) {
        *out = v;
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // Fused only where that is one instruction; a library call for each lane would be a hundred times slower.
        #[cfg(target_arch = "aarch64")]
        {
            let mut out = c;
            for i in 0..LANES {
                out[i] = a[i].mul_add(b[i], c[i]);
            }
            out
        }
        #[cfg(not(target_arch = "aarch64"))]
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        zip(a, a, |a, _| a.abs())
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        // Adding and subtracting 1.5·2²³ rounds to an integer; beyond 2²² a number is left as it is.
        const MAGIC: f32 = 12_582_912.0;
        zip(a, a, |a, _| if a.abs() < 4_194_304.0 { (a + MAGIC) - MAGIC } else { a.round_ties_even() })
    }
    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        let mut out = y;
        for i in 0..LANES {
            out[i] = if a[i] < b[i] { x[i] } else { y[i] };
        }
        out
    }
    #[inline(always)]
    fn scale_by_power(self, a: Self::F, n: Self::F) -> Self::F {
        zip(a, n, |a, n| a * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::F {
        let mut out = [0.0; LANES];
        for (o, &h) in out.iter_mut().zip(x) {
            *o = half::f16::from_bits(h).to_f32_const();
        }
        out
    }
    #[inline(always)]
    fn store_f16(self, a: Self::F, out: &mut [u16; LANES]) {
        *out = zip(a, a, |a, _| half::f16::from_f32_const(a).to_bits());
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Self::F {
        let mut out = [0.0; LANES];
        for (o, &h) in out.iter_mut().zip(x) {
            *o = f32::from_bits(u32::from(h) << 16);
        }
        out
    }
    #[inline(always)]
    fn load_bf16_even(self, x: &[u16; 2 * LANES]) -> Self::F {
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = f32::from_bits(u32::from(x[2 * i]) << 16);
        }
        out
    }
    #[inline(always)]
    fn load_bf16_odd(self, x: &[u16; 2 * LANES]) -> Self::F {
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = f32::from_bits(u32::from(x[2 * i + 1]) << 16);
        }
        out
    }

    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        zip(a, a, |a, _| a as f32)
    }
    #[inline(always)]
    fn round_to_i8(self, a: Self::F) -> [i8; LANES] {
        zip(self.round(a), a, |a, _| a as i8)
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::F {
        zip(*x, *x, |a, _| f32::from(a))
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8; 4 * LANES]) -> Self::B {
        *x
    }
    #[inline(always)]
    fn splat_byte(self, x: u8) -> Self::B {
        [x; 64]
    }
    #[inline(never)]
    fn and(self, a: Self::B, b: Self::B) -> Self::B {
        let mut out = a;
        for i in 0..64 {
            out[i] &= b[i];
        }
        out
    }
    #[inline(never)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        let mut out = a;
        for i in 0..64 {
            out[i] |= b[i];
        }
        out
    }
    #[inline(never)]
    fn shr_words<const N: u32>(self, a: Self::B) -> Self::B {
        words(a, |w| w >> N)
    }
    #[inline(never)]
    fn shl_words<const N: u32>(self, a: Self::B) -> Self::B {
        words(a, |w| w << N)
    }
    #[inline(never)]
    fn lookup(self, table: &[u8; 16], index: Self::B) -> Self::B {
        let mut out = index;
        for o in &mut out {
            *o = table[usize::from(*o & 15)];
        }
        out
    }
    #[inline(never)]
    fn dot4(self, acc: Self::I, w: Self::B, x: i32) -> Self::I {
        let x = x.to_le_bytes();
        let mut out = acc;
        for (o, w) in out.iter_mut().zip(w.as_chunks::<4>().0) {
            for j in 0..4 {
                *o += i32::from(w[j]) * i32::from(x[j] as i8);
            }
        }
        out
    }
}
