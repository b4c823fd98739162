//! Measures attention over a cache, for a 1B Llama's heads, and the pool's hand-over.
//!
//! Run with `cargo run --release -p wootz-kernels --example attention -- [threads]`. Best of several passes: bytes of the cache a
//! second for one new token, arithmetic a second for 512.

use std::hint::black_box;
use std::time::Instant;

use wootz_kernels::{
    AttendSeq, AttendSpec, Isa, KvStore, Peaks, Pool, Slot, TensorType, Values, Visible, attend,
};

const BLOCK_LEN: usize = 64;

fn main() {
    let threads = std::env::args().nth(1).map_or(2, |n| n.parse().expect("a number of threads"));
    let (isa, pool) = (Isa::detect(), Pool::new(threads));
    println!("{isa:?}, {threads} threads, {:?}", Peaks::measure(isa, &pool));
    let seconds = best(2000, || pool.run(threads, |i| _ = black_box(i)));
    println!("handing over {threads} empty tasks: {:.2} µs", seconds * 1e6);
    println!("cache  positions  tokens       ms      GB/s  GFLOP/s");
    let spec = AttendSpec {
        n_heads: 32,
        n_kv_heads: 8,
        d_k: 64,
        d_v: 64,
        scale: 0.125,
        softcap: None,
        visible: Visible::CAUSAL,
        alibi_slopes: None,
        sinks: None,
    };
    for dtype in [TensorType::F16, TensorType::Q8_0, TensorType::BF16, TensorType::F32] {
        for kv_len in [128, 512, 4096, 16_384] {
            let store = filled(isa, &pool, dtype, kv_len);
            let block_table: Vec<u32> = (0..store.n_blocks() as u32).collect();
            for tokens in [1, 8, 512] {
                if tokens > kv_len {
                    continue;
                }
                let q = vec![0.1; tokens * 32 * 64];
                let mut out = vec![0.0; q.len()];
                let first_position = kv_len - tokens;
                let seq = AttendSeq { q_rows: 0..tokens, first_position, kv_len, block_table: &block_table };
                let seconds = best(50, || {
                    attend(isa, &pool, &spec, black_box(&q), std::slice::from_ref(&seq), &store, &mut out);
                });
                let pairs: usize = (first_position + 1..=kv_len).sum();
                println!(
                    "{:5} {kv_len:>9} {tokens:>7} {:9.3} {:8.1} {:8.1}",
                    dtype.name(),
                    seconds * 1e3,
                    (kv_len * 8) as f64 * dtype.row_bytes(128).expect("whole blocks") as f64 / seconds / 1e9,
                    (pairs * 32 * 64 * 4) as f64 / seconds / 1e9
                );
            }
        }
    }
}

fn filled(isa: Isa, pool: &Pool, dtype: TensorType, kv_len: usize) -> KvStore {
    let mut store = KvStore::new(dtype, kv_len.div_ceil(BLOCK_LEN), BLOCK_LEN, 8, (64, 64), Values::Stored);
    let rows: Vec<f32> = (0..kv_len * 512).map(|i| (i % 97) as f32 / 97.0 - 0.5).collect();
    let slot = |j: usize| Slot { block: (j / BLOCK_LEN) as u32, offset: (j % BLOCK_LEN) as u32 };
    store.append(isa, pool, &rows, &rows, &(0..kv_len).map(slot).collect::<Vec<_>>());
    store
}

/// The least seconds of up to `n` passes within a quarter of a second.
fn best(n: usize, mut pass: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    for i in 0..n {
        let start_of_pass = Instant::now();
        pass();
        best = best.min(start_of_pass.elapsed().as_secs_f64());
        if i > 3 && start.elapsed().as_secs_f64() > 0.25 {
            break;
        }
    }
    best
}
