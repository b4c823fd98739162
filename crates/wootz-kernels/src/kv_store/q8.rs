//! Keys and values in 8 bits: numbers as elsewhere in the cache, with one scale for each 32 of a head.
//!
//! Where:  caches of type Q8_0: rows on their way in, blocks on their way into attention.
//! Idea:   a number is `scale·(q − 128)`. A block is made f32 once for all queries that go through it together, so attention itself
//!         rounds nothing, and results are those of an f32 cache that holds the rounded numbers.
//! Source: the rounding is that of ggml's Q8_0, the scale rounded to f16 before numbers are divided by it.
//!
//! # Layout
//! A head's keys in a block: `[position / 16][d_k / 2][2][16]` bytes, then `[position / 16][d_k / 32][16]` scales in f16. Its values:
//! `[d_v / 16][position / 2][2][16]` bytes, then `[d_v / 32][position]` scales.

use crate::cast::{cast, cast_mut};
use crate::packed::Chunk;
use crate::simd::{LANES, Simd};

/// Numbers that share a scale.
pub(crate) const GROUP: usize = 32;

/// Up to 32 numbers as bytes, and their scale.
#[inline(always)]
fn round<S: Simd>(s: S, x: &[f32]) -> ([u8; GROUP], u16) {
    let (low, high) = x.split_at(x.len().min(LANES));
    let x = [s.load_part(low, 0.0), s.load_part(high, 0.0)];
    let size = [s.abs(x[0]), s.abs(x[1])];
    let broken = s.has_nan(s.mul(s.add(size[0], size[1]), s.splat(0.0)));
    let max = if broken { f32::NAN } else { s.max_lane(s.max(size[0], size[1])) };
    let mut bits = [0; LANES];
    s.store_f16(s.splat(max / 127.0), &mut bits);
    let mut scale = [0.0; LANES];
    s.store(s.load_f16(&bits), &mut scale);
    let factor = s.splat(if scale[0] > 0.0 { 1.0 / scale[0] } else { 0.0 });
    let mut out = [0; GROUP];
    for (x, out) in x.into_iter().zip(out.as_chunks_mut::<LANES>().0) {
        // A scale that lost digits in f16 may lead past the greatest byte.
        let q = s.max(s.splat(-127.0), s.min(s.splat(127.0), s.mul(x, factor)));
        *out = s.round_to_i8(q).map(|q| (q as u8) ^ 0x80);
    }
    (out, bits[0])
}

/// Writes a head's key of one position.
#[inline(always)]
pub(super) fn put_key<S: Simd>(s: S, key: &[f32], offset: usize, block_len: usize, keys: &mut [u8]) {
    let (n_pairs, n_groups) = (key.len().div_ceil(2), key.len().div_ceil(GROUP));
    let (numbers, scales) = keys.split_at_mut(block_len * n_pairs * 2);
    let (panel, lane) = (offset / LANES, offset % LANES);
    let panel_numbers = &mut numbers.as_chunks_mut::<{ 2 * LANES }>().0[panel * n_pairs..][..n_pairs];
    let scales = cast_mut::<u16>(scales).expect("blocks are aligned");
    for (i, (x, chunks)) in key.chunks(GROUP).zip(panel_numbers.chunks_mut(GROUP / 2)).enumerate() {
        let (q, scale) = round(s, x);
        for (pair, chunk) in q.as_chunks::<2>().0.iter().zip(chunks) {
            [chunk[lane], chunk[LANES + lane]] = *pair;
        }
        scales[(panel * n_groups + i) * LANES + lane] = scale;
    }
}

/// Writes a head's value of one position.
#[inline(always)]
pub(super) fn put_value<S: Simd>(s: S, value: &[f32], offset: usize, block_len: usize, values: &mut [u8]) {
    let n_panels = value.len().div_ceil(LANES);
    let (numbers, scales) = values.split_at_mut(n_panels * LANES * block_len);
    let rows = numbers.as_chunks_mut::<LANES>().0;
    let scales = cast_mut::<u16>(scales).expect("blocks are aligned");
    for (i, x) in value.chunks(GROUP).enumerate() {
        let (q, scale) = round(s, x);
        for (half, q) in q.as_chunks::<LANES>().0.iter().enumerate().take(x.len().div_ceil(LANES)) {
            rows[(2 * i + half) * block_len + offset] = *q;
        }
        scales[i * block_len + offset] = scale;
    }
}

/// A head's keys in a block as f32, in the same order, while the block that comes next is asked for.
#[inline(always)]
pub(crate) fn expand_keys<S: Simd>(
    s: S,
    [keys, soon]: [&[u8]; 2],
    block_len: usize,
    d_k: usize,
    out: &mut Vec<Chunk<f32>>,
) {
    let (n_pairs, n_groups) = (d_k.div_ceil(2), d_k.div_ceil(GROUP));
    let (numbers, scales) = keys.split_at(block_len * n_pairs * 2);
    let scales = cast::<u16>(scales).expect("blocks are aligned").as_chunks::<LANES>().0;
    let numbers = numbers.as_chunks::<LANES>().0.as_chunks::<2>().0;
    let soon = soon.as_chunks::<LANES>().0.as_chunks::<2>().0;
    out.resize(numbers.len(), [0.0; 2 * LANES]);
    for (panel, out) in out.chunks_exact_mut(n_pairs).enumerate() {
        let numbers = &numbers[panel * n_pairs..][..n_pairs];
        let soon = &soon[panel * n_pairs..][..n_pairs];
        for (group, out) in out.chunks_mut(GROUP / 2).enumerate() {
            let scale = s.load_f16(&scales[panel * n_groups + group]);
            let chunks = numbers[group * GROUP / 2..].iter().zip(&soon[group * GROUP / 2..]);
            for ((q, soon), out) in chunks.zip(out) {
                s.prefetch(soon);
                for (q, out) in q.iter().zip(out.as_chunks_mut::<LANES>().0) {
                    s.store(s.mul(scale, s.sub(s.load_u8(q), s.splat(128.0))), out);
                }
            }
        }
    }
}

/// A head's values in a block as f32, in the same order, while the block that comes next is asked for.
#[inline(always)]
pub(crate) fn expand_values<S: Simd>(
    s: S,
    [values, soon]: [&[u8]; 2],
    block_len: usize,
    d_v: usize,
    out: &mut Vec<Chunk<f32>>,
) {
    let n_panels = d_v.div_ceil(LANES);
    let (numbers, scales) = values.split_at(n_panels * LANES * block_len);
    let scales = cast::<u16>(scales).expect("blocks are aligned").as_chunks::<LANES>().0;
    let (numbers, soon) = (numbers.as_chunks::<LANES>().0, soon.as_chunks::<LANES>().0);
    out.resize(numbers.len() / 2, [0.0; 2 * LANES]);
    let rows = out.as_flattened_mut().as_chunks_mut::<LANES>().0;
    for (panel, rows) in rows.chunks_exact_mut(block_len).enumerate() {
        for (i, rows) in rows.chunks_exact_mut(LANES).enumerate() {
            let mut scale = [0.0; LANES];
            s.store(s.load_f16(&scales[panel / 2 * block_len / LANES + i]), &mut scale);
            let first = panel * block_len + i * LANES;
            let numbers = numbers[first..][..LANES].iter().zip(&soon[first..][..LANES]);
            for (((q, soon), row), scale) in numbers.zip(rows).zip(scale) {
                s.prefetch(soon);
                s.store(s.mul(s.splat(scale), s.sub(s.load_u8(q), s.splat(128.0))), row);
            }
        }
    }
}
