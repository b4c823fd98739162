//! Which vector instructions this machine has, as a value that is detected once and passed down.
//!
//! Where:  made by the caller at start-up, taken by every kernel of this crate.
//! Idea:   an [`Isa`] can only be made by detection or lowered, so holding one proves that its instructions exist.
//!
//! # Invariants
//! - No public function returns an `Isa` above what was detected; `unsafe` dispatch rests on this.

use crate::simd::{Portable, Simd};

/// The instruction sets that kernels are written for, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Plain Rust over arrays of 16 numbers; what the compiler makes of it for the target's baseline.
    Scalar,
    /// AArch64's baseline vectors.
    Neon,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL, DQ and VNNI: Ice Lake, Zen 4 and later.
    Avx512,
}

/// A detected instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa {
    level: Level,
    bf16: bool,
}

impl Isa {
    /// The best that this machine has. Cheap after the first call; the standard library caches CPUID.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni");
            if avx512 {
                return Isa { level: Level::Avx512, bf16: is_x86_feature_detected!("avx512bf16") };
            }
            if avx2 {
                return Isa { level: Level::Avx2, bf16: false };
            }
        }
        #[cfg(target_arch = "aarch64")]
        return Isa { level: Level::Neon, bf16: false };
        #[cfg(not(target_arch = "aarch64"))]
        Isa::scalar()
    }

    /// No vector instructions beyond the compiler's baseline.
    pub const fn scalar() -> Self {
        Isa { level: Level::Scalar, bf16: false }
    }

    /// Every instruction set that this machine can run, lowest first: what tests go through.
    pub fn all_here() -> impl Iterator<Item = Isa> {
        let best = Isa::detect();
        let mut all = vec![Isa::scalar()];
        if best.level == Level::Avx512 {
            all.push(Isa { level: Level::Avx2, bf16: false });
            all.push(Isa { level: Level::Avx512, bf16: false });
        }
        if best != Isa::scalar() && !all.contains(&best) {
            all.push(best);
        }
        all.into_iter()
    }

    /// The instruction set.
    pub const fn level(self) -> Level {
        self.level
    }

    /// Whether products of bf16 pairs are one instruction (AVX-512 BF16).
    pub const fn has_bf16(self) -> bool {
        self.bf16
    }

    /// Whether tiles are wide: what [`Simd::WIDE`] says to kernels.
    pub(crate) fn is_wide(self) -> bool {
        self.level == Level::Avx512
    }

    /// Runs `kernel` compiled for this instruction set.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` of this level exists only where these features were detected.
            Level::Avx512 => unsafe { on_avx512(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` of this level exists only where these features were detected.
            Level::Avx2 => unsafe { on_avx2(kernel) },
            _ => kernel.run(Portable),
        }
    }
}

/// A body written once over [`Simd`] and compiled for every instruction set.
///
/// `run` must be `#[inline(always)]`, and so must whatever it calls with vectors: only then is it compiled with
/// the features of its caller.
pub(crate) trait Kernel {
    /// What the body returns.
    type Output;
    /// The body.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline(never)]
pub(crate) fn on_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(crate::simd::Avx512::new())
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
pub(crate) fn on_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(crate::simd::Avx2::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_here_is_above_what_was_detected() {
        let best = Isa::detect();
        assert!(Isa::all_here().all(|isa| isa.level() <= best.level() && isa.has_bf16() <= best.has_bf16()));
        assert_eq!(Isa::all_here().last(), Some(best));
    }
}
