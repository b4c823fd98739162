//! Measures the linear product on real shapes, beside the ceilings that this machine shows in the same minute.
//!
//! Run with `cargo run --release -p wootz-kernels --example products -- [threads] [type]`. Each line is the median of
//! several passes with the spread of the middle half, over enough matrices that none stays in a cache.

use std::hint::black_box;
use std::time::Instant;

use wootz_kernels::{Isa, LinearPart, PackedMatrix, Packing, Peaks, Pool, Precision, TensorType, linear};

/// Outputs and inputs of a 1B Llama's matrices, and of a small one's.
const SHAPES: [(&str, usize, usize); 7] = [
    ("part", 512, 2048),
    ("wq", 2048, 2048),
    ("w_gate", 8192, 2048),
    ("w_down", 2048, 8192),
    ("output", 128_256, 2048),
    ("135M wo", 576, 576),
    ("135M up", 1536, 576),
];
const TOKENS: [usize; 6] = [1, 4, 8, 16, 96, 512];

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
    println!("{isa:?}, {threads} threads, {:?}", Peaks::measure(isa, &pool));
    println!("type   shape            tokens      ms  ± half     best      GB/s    GOP/s (of the best)");
    for ty in types {
        for (name, n, k) in SHAPES {
            if n > 100_000 && (only.is_none() || ty == TensorType::F32) {
                continue;
            }
            // Memory-bound, except for a part of a matrix that stays in a core's cache.
            let copies = if name == "part" { 1 } else { ((128 << 20) / (n * k)).max(1) };
            let start = Instant::now();
            let weights: Vec<PackedMatrix> = (0..copies).map(|_| random(&pool, ty, n, k)).collect();
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "{:6} {name:7} made and packed {:.1} million weights a second",
                ty.name(),
                (copies * n * k) as f64 / seconds / 1e6
            );
            for m in TOKENS {
                let x: Vec<f32> =
                    (0..m * k).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0).collect();
                let mut out = vec![0.0; m * n];
                let mut next = 0;
                let Time { median, half, best } = measure(|| {
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
                    "{:6} {name:7} {n:>6}×{k:<5} {m:5} {:8.3} {:8.3} {:8.3} {:8.1} {:8.1}",
                    ty.name(),
                    median * 1e3,
                    half * 1e3,
                    best * 1e3,
                    bytes / best / 1e9,
                    2.0 * (m * n * k) as f64 / best / 1e9
                );
            }
        }
    }
}

fn random(pool: &Pool, ty: TensorType, n: usize, k: usize) -> PackedMatrix {
    let mut bytes = vec![0; ty.row_bytes(n * k).expect("whole blocks")];
    let mut state = 1_u64;
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let word = (state >> 8 & 0x3b3b_3b3b_3b3b_3b3b).to_le_bytes(); // no exponent of all ones in any float
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    Packing { pool, precision: Precision::Fast, slab: None }.pack(ty, n, k, &bytes)
}

/// Seconds of a pass: the median, half the width of the middle half, the least.
struct Time {
    median: f64,
    half: f64,
    best: f64,
}

fn measure(mut pass: impl FnMut()) -> Time {
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
    Time { median: at(0.5), half: (at(0.75) - at(0.25)) / 2.0, best: at(0.0) }
}
