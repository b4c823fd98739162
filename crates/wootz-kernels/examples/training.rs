//! Measures the three products of training on real shapes, beside the ceilings that this machine shows in the same minute.
//!
//! Run with `cargo run --release -p wootz-kernels --example training -- [threads] [rows]`. Best and median of several passes, in
//! 10⁹ operations a second; the same shapes as `golden/train/products.py`, which measures PyTorch.

use std::hint::black_box;
use std::time::Instant;

use wootz_kernels::{
    AttendForward, AttendGrads, AttendSpec, DenseSeq, Isa, LinearPart, Packing, Peaks, Pool, Precision,
    TensorType, Visible, attend_dense, attend_dense_backward, linear, linear_input_grad, linear_weight_grad,
};

/// Outputs and inputs.
const SHAPES: [(usize, usize); 4] = [(768, 768), (2048, 768), (768, 2048), (32_000, 768)];

fn main() {
    let mut args = std::env::args().skip(1).map(|n| n.parse().expect("a number"));
    let (threads, rows) = (args.next().unwrap_or(2), args.next());
    let (isa, pool) = (Isa::detect(), Pool::new(threads));
    println!("{isa:?}, {threads} threads, {:?}", Peaks::measure(isa, &pool));
    println!("type  rows      n      k     forward          dx          dw   best (median) GFLOP/s");
    for m in rows.map_or(vec![512, 2048], |rows| vec![rows]) {
        for (n, k) in SHAPES {
            for ty in [TensorType::F32, TensorType::BF16, TensorType::Q4_K] {
                if !k.is_multiple_of(ty.block_len()) {
                    continue;
                }
                products(isa, &pool, ty, m, n, k);
            }
        }
    }
    for (len, n_kv_heads) in [(512, 12), (2048, 12), (2048, 3)] {
        attention(isa, &pool, len, n_kv_heads);
    }
}

fn products(isa: Isa, pool: &Pool, ty: TensorType, m: usize, n: usize, k: usize) {
    let numbers =
        |len: usize| -> Vec<f32> { (0..len).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect() };
    let mut bytes = vec![0x3b; ty.row_bytes(n * k).expect("whole blocks")];
    bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= (i * 7 % 4) as u8);
    let weight = Packing { pool, precision: Precision::Fast, slab: None }.pack(ty, n, k, &bytes);
    let (x, dy) = (numbers(m * k), numbers(m * n));
    let (mut y, mut dx, mut dw) = (vec![0.0; m * n], vec![0.0; m * k], vec![0.0; n * k]);
    let forward = measure(|| {
        let part = LinearPart { weight: &weight, bias: None, out: &mut y };
        linear(isa, pool, black_box(&x), m, &mut [part]);
    });
    let input = measure(|| linear_input_grad(isa, pool, black_box(&dy), m, &weight, &mut dx, false));
    let precision = weight.grad_precision();
    let of_weight =
        measure(|| linear_weight_grad(isa, pool, black_box(&x), &dy, m, precision, &mut dw, false));
    let rate = |seconds: f64| 2.0 * (m * n * k) as f64 / seconds / 1e9;
    let show = |(best, median): (f64, f64)| format!("{:6.1} ({:5.1})", rate(best), rate(median));
    println!("{:5} {m:4} {n:6} {k:6} {} {} {}", ty.name(), show(forward), show(input), show(of_weight));
}

/// One sequence, twelve heads of 64.
fn attention(isa: Isa, pool: &Pool, len: usize, n_kv_heads: usize) {
    let spec = AttendSpec {
        n_heads: 12,
        n_kv_heads,
        d_k: 64,
        d_v: 64,
        scale: 0.125,
        softcap: None,
        visible: Visible::CAUSAL,
        alibi_slopes: None,
        sinks: None,
    };
    let numbers =
        |len: usize| -> Vec<f32> { (0..len).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect() };
    let (q, d_out, mut out) = (numbers(len * 768), numbers(len * 768), vec![0.0; len * 768]);
    let (k, v) = (numbers(len * n_kv_heads * 64), numbers(len * n_kv_heads * 64));
    let seqs = [DenseSeq { q_rows: 0..len, kv_rows: 0..len, first_position: 0 }];
    let forward = measure(|| attend_dense(isa, pool, &spec, black_box(&q), &k, &v, &seqs, &mut out));
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    let backward = measure(|| {
        let forward = AttendForward { q: black_box(&q), k: &k, v: &v, out: &out, d_out: &d_out };
        let grads = AttendGrads { dq: &mut dq, dk: &mut dk, dv: &mut dv };
        attend_dense_backward(isa, pool, &spec, forward, &seqs, grads);
    });
    // Two products forward, five backward, over what is not masked.
    let pairs = (len * (len + 1) / 2 * 12 * 64 * 2) as f64 / 1e9;
    println!(
        "attention of {len}, 12 heads over {n_kv_heads}: forward {:.2} ms, {:.1} GFLOP/s; backward {:.2} ms, {:.1} GFLOP/s",
        forward.0 * 1e3,
        2.0 * pairs / forward.0,
        backward.0 * 1e3,
        5.0 * pairs / backward.0
    );
}

/// Seconds of the best pass, and of the one in the middle.
fn measure(mut pass: impl FnMut()) -> (f64, f64) {
    pass();
    let start = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < 3 || (start.elapsed().as_secs_f64() < 0.15 && seconds.len() < 100) {
        let start = Instant::now();
        pass();
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    (seconds[0], seconds[seconds.len() / 2])
}
