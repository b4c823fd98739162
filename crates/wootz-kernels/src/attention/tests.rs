//! Attention against its formula, and the promise that a row's bits depend on nothing but its keys.

use super::*;
use crate::test_rng::{Rng, assert_close};

/// The twin: all scores of one query, in f64.
fn plain(spec: &AttendSpec<'_>, q: &[f32], k: &[f32], v: &[f32], seqs: &[DenseSeq]) -> Vec<f32> {
    let AttendSpec { n_heads, n_kv_heads, d_k, d_v, .. } = *spec;
    let mut out = vec![0.0; q.len() / d_k * d_v];
    for seq in seqs {
        for (i, token) in seq.q_rows.clone().enumerate() {
            for head in 0..n_heads {
                let kv = |j: usize| (seq.kv_rows.start + j) * n_kv_heads + head / (n_heads / n_kv_heads);
                let q = &q[(token * n_heads + head) * d_k..][..d_k];
                let position = seq.first_position + i;
                let visible = spec.visible.range(position, seq.kv_rows.len());
                let score = |j: usize| {
                    let dot: f64 = (0..d_k).map(|d| f64::from(q[d]) * f64::from(k[kv(j) * d_k + d])).sum();
                    let score = dot * f64::from(spec.scale);
                    let score = spec.softcap.map_or(score, |c| f64::from(c) * (score / f64::from(c)).tanh());
                    score
                        + spec.alibi_slopes.map_or(0.0, |s| f64::from(s[head]) * (j as f64 - position as f64))
                };
                let scores: Vec<f64> = visible.clone().map(score).collect();
                let sink = spec.sinks.map(|sinks| f64::from(sinks[head]));
                let max = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().copied().chain(sink).map(|s| (s - max).exp()).sum();
                for d in 0..d_v {
                    let weighed: f64 = visible
                        .clone()
                        .zip(&scores)
                        .map(|(j, s)| (s - max).exp() * f64::from(v[kv(j) * d_v + d]))
                        .sum();
                    out[(token * n_heads + head) * d_v + d] =
                        if visible.is_empty() { 0.0 } else { (weighed / sum) as f32 };
                }
            }
        }
    }
    out
}

fn spec(n_heads: usize, n_kv_heads: usize, d_k: usize, d_v: usize) -> AttendSpec<'static> {
    let scale = 1.0 / (d_k as f32).sqrt();
    AttendSpec {
        n_heads,
        n_kv_heads,
        d_k,
        d_v,
        scale,
        softcap: None,
        visible: Visible::CAUSAL,
        alibi_slopes: None,
        sinks: None,
    }
}

#[test]
fn every_variant_agrees_with_the_formula() {
    let per_head = [0.5, -0.3, 0.1, 1.5, 0.0, -2.0];
    let base = spec(6, 2, 20, 12);
    let window = Visible { back: Some(6), ahead: Some(0) };
    let both = Visible { back: Some(3), ahead: Some(3) };
    let specs = [
        base,
        AttendSpec { visible: Visible::ALL, ..base },
        AttendSpec { visible: window, ..base },
        AttendSpec { visible: both, softcap: Some(2.0), ..base },
        AttendSpec { alibi_slopes: Some(&per_head), ..base },
        AttendSpec { sinks: Some(&per_head), visible: window, ..base },
        spec(1, 1, 3, 17),
        spec(12, 1, 16, 64),
    ];
    let mut rng = Rng::seeded(61);
    let pool = Pool::new(2);
    // A whole sequence, a continued one, one that attends elsewhere, an empty one.
    let seqs = [
        DenseSeq { q_rows: 0..70, kv_rows: 0..70, first_position: 0 },
        DenseSeq { q_rows: 70..75, kv_rows: 70..211, first_position: 136 },
        DenseSeq { q_rows: 75..76, kv_rows: 211..212, first_position: 0 },
        DenseSeq { q_rows: 76..76, kv_rows: 212..212, first_position: 0 },
    ];
    for spec in specs {
        let (q, k, v) = (
            rng.normals(76 * spec.n_heads * spec.d_k),
            rng.normals(212 * spec.n_kv_heads * spec.d_k),
            rng.normals(212 * spec.n_kv_heads * spec.d_v),
        );
        let want = plain(&spec, &q, &k, &v, &seqs);
        for isa in Isa::all_here() {
            let mut out = vec![f32::NAN; want.len()];
            attend_dense(isa, &pool, &spec, &q, &k, &v, &seqs, &mut out);
            assert_close(&out, &want, 1e-5, 1e-5);
        }
    }
}

/// A cache with two sequences in mixed blocks; the rest of it holds NaN, which must not leak.
struct Cached {
    store: KvStore,
    tables: [Vec<u32>; 2],
    k: Vec<f32>,
    v: Vec<f32>,
}

const LENS: [usize; 2] = [1301, 77];

fn cached(dtype: TensorType, block_len: usize, spec: &AttendSpec<'_>, values: Values) -> Cached {
    let (isa, pool) = (Isa::detect(), Pool::new(1));
    let mut rng = Rng::seeded(62);
    let n_rows = LENS.iter().sum::<usize>();
    let k = rng.normals(n_rows * spec.n_kv_heads * spec.d_k);
    let v = rng.normals(n_rows * spec.n_kv_heads * spec.d_v);
    let n_blocks = LENS.iter().map(|len| len.div_ceil(block_len)).sum::<usize>() + 1;
    let mut store = KvStore::new(dtype, n_blocks, block_len, spec.n_kv_heads, (spec.d_k, spec.d_v), values);
    let poison = vec![f32::NAN; spec.n_kv_heads * spec.d_k.max(spec.d_v)];
    let (k_len, v_len) = (spec.n_kv_heads * spec.d_k, spec.n_kv_heads * spec.d_v);
    let stored_v_len = if values == Values::Stored { v_len } else { 0 };
    for block in 0..n_blocks as u32 {
        for offset in 0..block_len as u32 {
            store.append(isa, &pool, &poison[..k_len], &poison[..stored_v_len], &[Slot { block, offset }]);
        }
    }
    let mut blocks: Vec<u32> = (0..n_blocks as u32).rev().collect();
    let tables = LENS.map(|len| blocks.drain(..len.div_ceil(block_len)).collect::<Vec<_>>());
    let mut row = 0;
    for (len, table) in LENS.into_iter().zip(&tables) {
        for j in 0..len {
            let slot = Slot { block: table[j / block_len], offset: (j % block_len) as u32 };
            let v_row = &v[row * v_len..][..stored_v_len];
            store.append(isa, &pool, &k[row * k_len..][..k_len], v_row, &[slot]);
            row += 1;
        }
    }
    Cached { store, tables, k, v }
}

/// The last `n_queries` queries of both sequences, in chunks of `chunk`, each call on its own.
fn in_chunks(
    isa: Isa,
    threads: usize,
    spec: &AttendSpec<'_>,
    cached: &Cached,
    q: &[f32],
    chunk: usize,
) -> Vec<f32> {
    let pool = Pool::new(threads);
    let n = q.len() / (spec.n_heads * spec.d_k) / 2;
    let mut out = vec![0.0; 2 * n * spec.n_heads * spec.d_v];
    for first in (0..n).step_by(chunk) {
        let rows = first..(first + chunk).min(n);
        let seq = |i: usize| AttendSeq {
            q_rows: i * n + rows.start..i * n + rows.end,
            first_position: LENS[i] - n + rows.start,
            kv_len: LENS[i] - n + rows.end,
            block_table: &cached.tables[i],
        };
        attend(isa, &pool, spec, q, &[seq(0), seq(1)], &cached.store, &mut out);
    }
    out
}

#[test]
fn cached_attention_agrees_and_does_not_depend_on_chunks_or_threads() {
    let base = spec(8, 2, 18, 18);
    let n = 40;
    let q = Rng::seeded(63).normals(2 * n * base.n_heads * base.d_k);
    let seqs = [
        DenseSeq { q_rows: 0..n, kv_rows: 0..LENS[0], first_position: LENS[0] - n },
        DenseSeq { q_rows: n..2 * n, kv_rows: LENS[0]..LENS[0] + LENS[1], first_position: LENS[1] - n },
    ];
    for visible in [Visible::CAUSAL, Visible { back: Some(99), ahead: Some(0) }] {
        let spec = AttendSpec { visible, ..base };
        for (dtype, atol) in [
            (TensorType::F32, 3e-6),
            (TensorType::F16, 1e-3),
            (TensorType::BF16, 8e-3),
            (TensorType::Q8_0, 2e-2),
        ] {
            for block_len in [16, 64, 128] {
                let cached = cached(dtype, block_len, &spec, Values::Stored);
                let want = plain(&spec, &q, &cached.k, &cached.v, &seqs);
                for isa in Isa::all_here().skip(usize::from(block_len != 64)) {
                    let all = in_chunks(isa, 2, &spec, &cached, &q, n);
                    assert_close(&all, &want, atol, atol);
                    // One thread computes spans one after the other, several at the same time.
                    assert_eq!(in_chunks(isa, 1, &spec, &cached, &q, n), all, "{isa:?} {dtype}, one thread");
                    for chunk in [1, 3, 7, 17] {
                        let threads = 1 + chunk % 3;
                        let got = in_chunks(isa, threads, &spec, &cached, &q, chunk);
                        assert_eq!(got, all, "{isa:?} {dtype} {chunk}");
                    }
                }
            }
        }
    }
}

/// The twin of rounding to 8 bits: 32 numbers of a head share a scale that is an f16.
fn rounded_to_8_bits(rows: &[f32], width: usize) -> Vec<f32> {
    let group = |x: &[f32]| -> Vec<f32> {
        let max = x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let scale = half::f16::from_f32(max / 127.0).to_f32();
        let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        x.iter().map(|x| scale * (x * factor).clamp(-127.0, 127.0).round_ties_even()).collect()
    };
    rows.chunks(width).flat_map(|row| row.chunks(32).flat_map(group)).collect()
}

#[test]
fn a_cache_of_8_bits_is_one_of_f32_that_holds_the_rounded_numbers() {
    for (d_k, d_v) in [(64, 64), (40, 24), (7, 50), (32, 17)] {
        let spec = spec(4, 2, d_k, d_v);
        let eight = cached(TensorType::Q8_0, 32, &spec, Values::Stored);
        let mut f32 = cached(TensorType::F32, 32, &spec, Values::Stored);
        let k = rounded_to_8_bits(&f32.k, d_k);
        let v = rounded_to_8_bits(&f32.v, d_v);
        let slots: Vec<Slot> = LENS
            .into_iter()
            .zip(&f32.tables)
            .flat_map(|(len, table)| (0..len).map(|j| Slot { block: table[j / 32], offset: (j % 32) as u32 }))
            .collect();
        f32.store.append(Isa::scalar(), &Pool::new(2), &k, &v, &slots);
        let q = Rng::seeded(67).normals(2 * 3 * 4 * d_k);
        for isa in Isa::all_here() {
            let got = in_chunks(isa, 2, &spec, &eight, &q, 3);
            assert_eq!(got, in_chunks(isa, 2, &spec, &f32, &q, 3), "{isa:?}, heads of {d_k} and {d_v}");
        }
    }
}

#[test]
fn values_that_are_part_of_keys_agree() {
    let spec = spec(5, 1, 24, 17);
    for (dtype, atol) in [(TensorType::F32, 3e-6), (TensorType::Q8_0, 2e-2)] {
        let cached = cached(dtype, 32, &spec, Values::FirstOfKeys);
        let v: Vec<f32> = cached.k.chunks(24).flat_map(|row| row[..17].to_vec()).collect();
        let n = 9;
        let q = Rng::seeded(64).normals(2 * n * 5 * 24);
        let seqs = [
            DenseSeq { q_rows: 0..n, kv_rows: 0..LENS[0], first_position: LENS[0] - n },
            DenseSeq { q_rows: n..2 * n, kv_rows: LENS[0]..LENS[0] + LENS[1], first_position: LENS[1] - n },
        ];
        let want = plain(&spec, &q, &cached.k, &v, &seqs);
        for isa in Isa::all_here() {
            let all = in_chunks(isa, 2, &spec, &cached, &q, n);
            assert_close(&all, &want, atol, 3.0 * atol);
            assert_eq!(in_chunks(isa, 2, &spec, &cached, &q, 2), all);
        }
    }
}

#[test]
fn copied_blocks_are_equal() {
    let spec = spec(2, 2, 6, 6);
    let mut cached = cached(TensorType::F16, 16, &spec, Values::Stored);
    let last = cached.store.n_blocks() - 1;
    let free = (0..=last as u32).find(|b| !cached.tables.concat().contains(b)).unwrap();
    let q = Rng::seeded(65).normals(2 * 2 * 6);
    let before = in_chunks(Isa::detect(), 1, &spec, &cached, &q, 1);
    cached.store.copy_block(cached.tables[0][3] as usize, free as usize);
    cached.tables[0][3] = free;
    assert_eq!(in_chunks(Isa::detect(), 1, &spec, &cached, &q, 1), before);
}

#[test]
fn gradients_agree_with_central_differences() {
    let slopes = [0.2, -0.1, 0.3, 0.0];
    let sinks = [0.5, -1.0, 0.0, 2.0];
    let base = spec(4, 2, 5, 3);
    let specs = [
        base,
        AttendSpec { visible: Visible { back: Some(2), ahead: Some(1) }, softcap: Some(1.5), ..base },
        AttendSpec { alibi_slopes: Some(&slopes), sinks: Some(&sinks), ..base },
    ];
    let seqs = [
        DenseSeq { q_rows: 0..6, kv_rows: 0..6, first_position: 0 },
        DenseSeq { q_rows: 6..9, kv_rows: 6..13, first_position: 4 },
    ];
    let pool = Pool::new(2);
    for spec in specs {
        let mut rng = Rng::seeded(66);
        let (q, k, v) = (rng.normals(9 * 4 * 5), rng.normals(13 * 2 * 5), rng.normals(13 * 2 * 3));
        let d_out = rng.normals(9 * 4 * 3);
        let loss = |q: &[f32], k: &[f32], v: &[f32]| -> f64 {
            plain(&spec, q, k, v, &seqs).iter().zip(&d_out).map(|(&o, &d)| f64::from(o) * f64::from(d)).sum()
        };
        for isa in Isa::all_here() {
            let mut out = vec![0.0; 9 * 4 * 3];
            attend_dense(isa, &pool, &spec, &q, &k, &v, &seqs, &mut out);
            let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
            let forward = AttendForward { q: &q, k: &k, v: &v, out: &out, d_out: &d_out };
            let grads = AttendGrads { dq: &mut dq, dk: &mut dk, dv: &mut dv };
            attend_dense_backward(isa, &pool, &spec, forward, &seqs, grads);
            let h = 1e-2;
            for (which, grad) in [(0, &dq), (1, &dk), (2, &dv)] {
                let nudged = |i: usize, h: f32| {
                    let mut inputs = [q.clone(), k.clone(), v.clone()];
                    inputs[which][i] += h;
                    loss(&inputs[0], &inputs[1], &inputs[2])
                };
                for i in (0..grad.len()).step_by(3) {
                    let want = ((nudged(i, h) - nudged(i, -h)) / f64::from(2.0 * h)) as f32;
                    assert!(
                        (grad[i] - want).abs() < 2e-3,
                        "input {which}, place {i}: {} instead of {want}",
                        grad[i]
                    );
                }
            }
        }
    }
}

/// The twin of the gradients: row by row, in f64.
fn plain_backward(spec: &AttendSpec<'_>, forward: &AttendForward<'_>, seqs: &[DenseSeq]) -> [Vec<f32>; 3] {
    let AttendSpec { n_heads, n_kv_heads, d_k, d_v, .. } = *spec;
    let mut grads = [forward.q.len(), forward.k.len(), forward.v.len()].map(|len| vec![0.0_f64; len]);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    for seq in seqs {
        for (i, token) in seq.q_rows.clone().enumerate() {
            for head in 0..n_heads {
                let (q_at, o_at) = ((token * n_heads + head) * d_k, (token * n_heads + head) * d_v);
                let key = |j: usize| (seq.kv_rows.start + j) * n_kv_heads + head / spec.group();
                let position = seq.first_position + i;
                let visible = spec.visible.range(position, seq.kv_rows.len());
                let capped: Vec<f64> = visible
                    .clone()
                    .map(|j| {
                        let x = dot(&forward.q[q_at..q_at + d_k], &forward.k[key(j) * d_k..][..d_k]);
                        let x = x * f64::from(spec.scale);
                        spec.softcap.map_or(x, |cap| f64::from(cap) * (x / f64::from(cap)).tanh())
                    })
                    .collect();
                let slope = spec.alibi_slopes.map_or(0.0, |slopes| f64::from(slopes[head]));
                let exp = |n: usize, j: usize| (capped[n] + slope * (j as f64 - position as f64)).exp();
                let sum: f64 = visible.clone().enumerate().map(|(n, j)| exp(n, j)).sum();
                let sum = sum + spec.sinks.map_or(0.0, |sinks| f64::from(sinks[head]).exp());
                let d_out = &forward.d_out[o_at..o_at + d_v];
                let d_weight = |j: usize| dot(d_out, &forward.v[key(j) * d_v..][..d_v]);
                let mean: f64 = visible.clone().enumerate().map(|(n, j)| exp(n, j) / sum * d_weight(j)).sum();
                for (n, j) in visible.clone().enumerate() {
                    let p = exp(n, j) / sum;
                    let left = spec.softcap.map_or(1.0, |cap| 1.0 - (capped[n] / f64::from(cap)).powi(2));
                    let ds = p * (d_weight(j) - mean) * f64::from(spec.scale) * left;
                    for d in 0..d_k {
                        grads[0][q_at + d] += ds * f64::from(forward.k[key(j) * d_k + d]);
                        grads[1][key(j) * d_k + d] += ds * f64::from(forward.q[q_at + d]);
                    }
                    for d in 0..d_v {
                        grads[2][key(j) * d_v + d] += p * f64::from(d_out[d]);
                    }
                }
            }
        }
    }
    grads.map(|grad| grad.into_iter().map(|x| x as f32).collect())
}

#[test]
fn gradients_of_many_blocks_agree_with_the_formula_and_do_not_depend_on_threads() {
    let slopes = [0.02, -0.01, 0.03, 0.0, 0.01, 0.05];
    let sinks = [0.5, -1.0, 0.0, 2.0, 0.1, -3.0];
    let base = spec(6, 2, 20, 33);
    let specs = [
        base,
        AttendSpec { n_kv_heads: 1, d_k: 64, d_v: 64, ..base },
        AttendSpec { visible: Visible { back: Some(70), ahead: Some(3) }, softcap: Some(1.5), ..base },
        AttendSpec { visible: Visible::ALL, alibi_slopes: Some(&slopes), sinks: Some(&sinks), ..base },
    ];
    // More than a block of rows and of keys; rows that see no key; a short sequence beside.
    let seqs = [
        DenseSeq { q_rows: 0..101, kv_rows: 0..150, first_position: 40 },
        DenseSeq { q_rows: 101..104, kv_rows: 150..150, first_position: 0 },
        DenseSeq { q_rows: 104..109, kv_rows: 150..155, first_position: 0 },
    ];
    for spec in specs {
        let mut rng = Rng::seeded(67);
        let AttendSpec { n_kv_heads, d_k, d_v, .. } = spec;
        let (q, k, v) = (
            rng.normals(109 * 6 * d_k),
            rng.normals(155 * n_kv_heads * d_k),
            rng.normals(155 * n_kv_heads * d_v),
        );
        let d_out = rng.normals(109 * 6 * d_v);
        let mut out = vec![0.0; d_out.len()];
        attend_dense(Isa::detect(), &Pool::new(1), &spec, &q, &k, &v, &seqs, &mut out);
        let forward = AttendForward { q: &q, k: &k, v: &v, out: &out, d_out: &d_out };
        let want = plain_backward(&spec, &forward, &seqs);
        for isa in Isa::all_here() {
            let grads = |threads: usize| {
                let mut grads = [vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]];
                let [dq, dk, dv] = &mut grads;
                let pool = Pool::new(threads);
                attend_dense_backward(isa, &pool, &spec, forward, &seqs, AttendGrads { dq, dk, dv });
                grads
            };
            let got = grads(1);
            for (got, want) in got.iter().zip(&want) {
                assert_close(got, want, 3e-5, 3e-5);
            }
            assert_eq!(grads(3), got);
        }
    }
}
