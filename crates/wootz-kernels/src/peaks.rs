//! What this machine can do at most, measured in the moment: the ceilings that speeds are printed beside.
//!
//! Where:  `wootz bench`, `wootz doctor`, this crate's benchmarks.
//! Idea:   arithmetic peaks are loops over registers alone; bandwidth is summing a buffer that no cache holds. Each is the best of
//!         many short passes, because a ceiling is what was reached once. They go on for much longer than a pool leaves a
//!         late helper out: otherwise the peak of one thread would pass for that of all.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::cast::cast;
use crate::isa::Kernel;
use crate::simd::Simd;
use crate::{AlignedBytes, Isa, Pool};

/// Ceilings of all threads of a pool together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// 10⁹ bytes read from memory a second.
    pub read_gb_per_s: f64,
    /// 10⁹ multiplications and additions of bytes a second.
    pub int8_gop_per_s: f64,
    /// 10⁹ multiplications and additions of bf16 a second; `None` where they are not an instruction.
    pub bf16_gflop_per_s: Option<f64>,
    /// 10⁹ multiplications and additions of f32 a second.
    pub f32_gflop_per_s: f64,
}

impl Peaks {
    /// Measures for less than half a second, with 128 MiB of memory.
    pub fn measure(isa: Isa, pool: &Pool) -> Self {
        let per_call = |ops: usize| (STEPS * CHAINS * 16 * ops) as f64;
        let arithmetic = |ops: usize, call: &(dyn Fn() + Sync)| {
            let seconds = best(|| pool.run(4 * pool.threads(), |_| call()));
            4.0 * pool.threads() as f64 * per_call(ops) / seconds / 1e9
        };
        Peaks {
            read_gb_per_s: read_bandwidth(isa, pool),
            int8_gop_per_s: arithmetic(8, &|| _ = black_box(isa.run(Bytes(black_box(3))))),
            #[cfg(target_arch = "x86_64")]
            bf16_gflop_per_s: isa
                .has_bf16()
                .then(|| arithmetic(4, &|| _ = black_box(crate::linear::bf16_chains(isa, STEPS)))),
            #[cfg(not(target_arch = "x86_64"))]
            bf16_gflop_per_s: None,
            f32_gflop_per_s: arithmetic(2, &|| _ = black_box(isa.run(Floats(black_box(0.5))))),
        }
    }
}

/// Independent chains of additions: more than an instruction's latency.
pub(crate) const CHAINS: usize = 12;
const STEPS: usize = 10_000;

/// How long the best pass of each ceiling is looked for.
const LONG_ENOUGH: Duration = Duration::from_millis(100);

/// Seconds of the fastest pass.
fn best(mut pass: impl FnMut()) -> f64 {
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < LONG_ENOUGH {
        let start = Instant::now();
        pass();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn read_bandwidth(isa: Isa, pool: &Pool) -> f64 {
    const STRETCH: usize = 1 << 18;
    let mut bytes = AlignedBytes::zeroed(128 << 20);
    pool.rows(&mut bytes, STRETCH, 1, |_, part| part.fill(1));
    let floats = cast::<f32>(&bytes).expect("aligned");
    let seconds = best(|| {
        pool.run(bytes.len() / STRETCH, |i| {
            let part = &floats[i * STRETCH / 4..(i + 1) * STRETCH / 4];
            black_box(isa.run(Sum(part)));
        });
    });
    bytes.len() as f64 / seconds / 1e9
}

struct Floats(f32);

impl Kernel for Floats {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let x = s.splat(self.0);
        let mut acc = [x; CHAINS];
        for _ in 0..STEPS {
            for a in &mut acc {
                *a = s.mul_add(*a, x, x);
            }
        }
        acc.into_iter().map(|a| s.sum(a)).sum()
    }
}

struct Bytes(i32);

impl Kernel for Bytes {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let w = s.splat_byte(self.0 as u8);
        let mut acc = [s.splat_i(self.0); CHAINS];
        for step in 0..STEPS {
            // Not constant, or the loop would be a multiplication.
            let x = step as i32 & 0x0101_0101;
            for a in &mut acc {
                *a = s.dot4(*a, w, x);
            }
        }
        acc.into_iter().map(|a| s.sum(s.to_f(a))).sum()
    }
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut acc = [s.splat(0.0); 4];
        for four in self.0.as_chunks::<16>().0.as_chunks::<4>().0 {
            for (a, x) in acc.iter_mut().zip(four) {
                *a = s.add(*a, s.load(x));
            }
        }
        acc.into_iter().map(|a| s.sum(a)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peak_is_measured() {
        let peaks = Peaks::measure(Isa::detect(), &Pool::new(1));
        let all = [peaks.read_gb_per_s, peaks.int8_gop_per_s, peaks.f32_gflop_per_s];
        assert!(all.iter().all(|&peak| peak > 0.0 && peak.is_finite()), "{peaks:?}");
        assert_eq!(peaks.bf16_gflop_per_s.is_some(), Isa::detect().has_bf16());
    }
}
