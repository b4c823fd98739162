//! Measures the linear product on real shapes, beside the ceilings that this machine shows in the same minute.
//!
//! Run with `cargo run --release -p wootz-kernels --example products -- [threads] [type]`. Each line is the median of
//! several passes with the spread of the middle half, over enough matrices that none stays in a cache.

use std::hint::black_box;
use std::time::Instant;

use wootz_kernels::{Isa, LinearPart, PackedMatrix, Pool, Precision, TensorType, linear};

/// Outputs and inputs of a 1B Llama's matrices.
const SHAPES: [(&str, usize, usize); 4] =
    [("wq", 2048, 2048), ("w_gate", 8192, 2048), ("w_down", 2048, 8192), ("output", 128_256, 2048)];
const TOKENS: [usize; 5] = [1, 4, 8, 16, 512];

fn main() {
    let mut args = std::env::args().skip(1);
    let threads = args.next().map_or(2, |n| n.parse().expect("a number of threads"));
    let only = args.next();
    let types: Vec<TensorType> = match &only {
        Some(name) => vec![TensorType::from_name(name).expect("a type")],
        None => vec![
            TensorType::Q4_0,
            TensorType::Q8_0,
            TensorType::Q4_K,
            TensorType::Q6_K,
            TensorType::BF16,
            TensorType::F16,
            TensorType::F32,
        ],
    };
    let (isa, pool) = (Isa::detect(), Pool::new(threads));
    println!("{isa:?}, {threads} threads, read {:.1} GB/s", read_bandwidth(&pool));
    println!("type   shape            tokens      ms  ± half      GB/s    GOP/s");
    for ty in types {
        for (name, n, k) in SHAPES {
            if n > 100_000 && (only.is_none() || ty == TensorType::F32) {
                continue;
            }
            // 128 MiB of matrices: more than any cache here.
            let copies = ((128 << 20) / (n * k)).max(1);
            let weights: Vec<PackedMatrix> = (0..copies).map(|_| random(isa, &pool, ty, n, k)).collect();
            for m in TOKENS {
                let x: Vec<f32> =
                    (0..m * k).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0).collect();
                let mut out = vec![0.0; m * n];
                let mut next = 0;
                let (median, half) = measure(|| {
                    let weight = &weights[next % copies];
                    next += 1;
                    linear(
                        isa,
                        &pool,
                        black_box(&x),
                        m,
                        &mut [LinearPart { weight, bias: None, out: &mut out }],
                    );
                });
                let bytes = ty.row_bytes(n * k).expect("whole blocks") as f64;
                println!(
                    "{:6} {name:7} {n:>6}×{k:<5} {m:5} {:8.3} {:8.3} {:8.1} {:8.1}",
                    ty.name(),
                    median * 1e3,
                    half * 1e3,
                    bytes / median / 1e9,
                    2.0 * (m * n * k) as f64 / median / 1e9
                );
            }
        }
    }
}

fn random(isa: Isa, pool: &Pool, ty: TensorType, n: usize, k: usize) -> PackedMatrix {
    let mut bytes = vec![0; ty.row_bytes(n * k).expect("whole blocks")];
    let mut state = 1_u64;
    for byte in &mut bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8 & 0x3b; // no exponent of all ones in any float
    }
    PackedMatrix::pack(isa, pool, ty, n, k, &bytes, Precision::Fast)
}

/// Median of the passes' seconds, and half the width of their middle half.
fn measure(mut pass: impl FnMut()) -> (f64, f64) {
    pass();
    let start = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < 5 || (start.elapsed().as_secs_f64() < 0.3 && seconds.len() < 400) {
        let start = Instant::now();
        pass();
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds[(share * (seconds.len() - 1) as f64) as usize];
    (at(0.5), (at(0.75) - at(0.25)) / 2.0)
}

/// GB/s of summing 256 MiB on all threads.
fn read_bandwidth(pool: &Pool) -> f64 {
    let words = vec![1_u64; 32 << 20];
    let stretch = 1 << 17;
    let (median, _) = measure(|| {
        pool.run(words.len() / stretch, |i| {
            let words = &words[i * stretch..(i + 1) * stretch];
            black_box(words.iter().fold(0_u64, |sum, &word| sum.wrapping_add(word)));
        });
    });
    (words.len() * 8) as f64 / median / 1e9
}
