//! Rotary positions: pairs of a head's numbers turn by an angle that grows with the position.
//!
//! Source: Su et al. 2021, arXiv:2104.09864, eq. 34.
//! Elsewhere: how frequencies are stretched for long contexts; the caller gives them ready.

use super::rows_per_task;
use crate::Pool;

/// Which numbers of a head make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopeStyle {
    /// `i` and `i + rotated/2`: Llama in Hugging Face's order, GPT-NeoX.
    Halves,
    /// `2i` and `2i + 1`: the paper, GPT-J, Cohere, DeepSeek.
    Pairs,
}

/// `cos` and `sin`, each `(T, F)`, of `position·frequency·1` times `factor`, for `F` frequencies.
///
/// Angles are rounded to f32 as PyTorch's are. Cost: `T·F` sines; made once a step and shared by all layers.
pub fn rope_tables(positions: &[u32], frequencies: &[f32], factor: f32) -> (Vec<f32>, Vec<f32>) {
    let angles = positions.iter().flat_map(|&p| frequencies.iter().map(move |f| p as f32 * f));
    angles.map(|angle| (angle.cos() * factor, angle.sin() * factor)).unzip()
}

/// Turns the first `2·F` numbers of every head; the others are copied.
///
/// `x` and `out` are `(T, H·head_dim)`, `cos` and `sin` `(T, F)`.
pub fn rope(
    pool: &Pool,
    style: RopeStyle,
    x: &[f32],
    head_dim: usize,
    (cos, sin): (&[f32], &[f32]),
    n_rows: usize,
    out: &mut [f32],
) {
    assert_eq!(x.len(), out.len(), "rope: length of `out`");
    if n_rows == 0 || x.is_empty() {
        return;
    }
    let (row_len, half) = (x.len() / n_rows, cos.len() / n_rows);
    assert_eq!((cos.len(), sin.len()), (n_rows * half, n_rows * half), "rope: tables of {n_rows} rows");
    assert!(x.len() == n_rows * row_len && row_len.is_multiple_of(head_dim), "rope: rows of whole heads");
    assert!(2 * half <= head_dim, "rope: {half} frequencies in a head of {head_dim}");
    pool.rows(out, row_len, rows_per_task(row_len), |first, out| {
        for (i, out) in out.chunks_exact_mut(row_len).enumerate() {
            let row = first + i;
            let (cos, sin) = (&cos[row * half..][..half], &sin[row * half..][..half]);
            let heads = x[row * row_len..][..row_len].chunks_exact(head_dim);
            for (x, out) in heads.zip(out.chunks_exact_mut(head_dim)) {
                match style {
                    RopeStyle::Halves => turn_halves(x, cos, sin, out),
                    RopeStyle::Pairs => turn_pairs(x, cos, sin, out),
                }
                out[2 * half..].copy_from_slice(&x[2 * half..]);
            }
        }
    });
}

fn turn_halves(x: &[f32], cos: &[f32], sin: &[f32], out: &mut [f32]) {
    let half = cos.len();
    let (a, b) = x[..2 * half].split_at(half);
    let (out_a, out_b) = out[..2 * half].split_at_mut(half);
    for i in 0..half {
        out_a[i] = a[i] * cos[i] - b[i] * sin[i];
        out_b[i] = b[i] * cos[i] + a[i] * sin[i];
    }
}

fn turn_pairs(x: &[f32], cos: &[f32], sin: &[f32], out: &mut [f32]) {
    let pairs = x.as_chunks::<2>().0.iter().zip(out.as_chunks_mut::<2>().0);
    for (([a, b], out), (cos, sin)) in pairs.zip(cos.iter().zip(sin)) {
        *out = [a * cos - b * sin, b * cos + a * sin];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    #[test]
    fn both_styles_turn_the_same_pairs_in_different_places() {
        let (head_dim, n_heads, half) = (10, 2, 3);
        let positions = [0, 1, 500];
        let (cos, sin) = rope_tables(&positions, &[1.0, 0.1, 0.01], 1.0);
        let x = Rng::seeded(51).normals(3 * n_heads * head_dim);
        let pool = Pool::new(2);
        let turned = |style| {
            let mut out = vec![0.0; x.len()];
            rope(&pool, style, &x, head_dim, (&cos, &sin), 3, &mut out);
            out
        };
        let place = |style, i: usize| match style {
            RopeStyle::Halves => (i, i + half),
            RopeStyle::Pairs => (2 * i, 2 * i + 1),
        };
        for style in [RopeStyle::Halves, RopeStyle::Pairs] {
            let mut want = x.clone();
            for (t, &position) in positions.iter().enumerate() {
                for head in 0..n_heads {
                    for i in 0..half {
                        let angle = position as f32 * [1.0, 0.1, 0.01][i];
                        let start = (t * n_heads + head) * head_dim;
                        let (a, b) = (start + place(style, i).0, start + place(style, i).1);
                        want[a] = x[a] * angle.cos() - x[b] * angle.sin();
                        want[b] = x[a] * angle.sin() + x[b] * angle.cos();
                    }
                }
            }
            assert_close(&turned(style), &want, 1e-6, 1e-6);
        }
        assert_eq!(
            turned(RopeStyle::Halves)[..n_heads * head_dim],
            x[..n_heads * head_dim],
            "position 0 turns nothing"
        );
    }
}
