//! Gradients of the causal convolution, which are a convolution and sums over rows.
//!
//! Where:  the backward pass of Mamba layers, for training.
//! Idea:   a task has some channels of all sequences, so additions have one order.

use super::{Conv1d, ScanSeq, check_seqs, load, store};
use crate::isa::Kernel;
use crate::pool::SharedSlice;
use crate::simd::{LANES, Simd};
use crate::{Isa, Pool};

/// Channels of a task.
const STRETCH: usize = 4 * LANES;

/// `dx[t, c] = Σ_w weight[c, w]·dy[t + W − 1 − w, c]` and `dw[c, w] = Σₜ dy[t, c]·x[t − W + 1 + w, c]` within each sequence, from
/// zero states. Slots and the bias are not read; the bias's gradient is the sum of `dy`'s rows.
pub fn conv1d_grad(
    isa: Isa,
    pool: &Pool,
    conv: &Conv1d<'_>,
    seqs: &[ScanSeq],
    dy: &[f32],
    dx: Option<&mut [f32]>,
    dw: Option<&mut [f32]>,
) {
    let Conv1d { x, n_channels: c, weight, .. } = *conv;
    assert!(c > 0 && x.len().is_multiple_of(c), "conv1d_grad: `x` has rows of {c}");
    let width = weight.len() / c;
    assert!(width > 0 && weight.len() == width * c, "conv1d_grad: `weight` is ({c}, width)");
    assert_eq!(dy.len(), x.len(), "conv1d_grad: length of `dy`");
    assert!(dx.as_ref().is_none_or(|dx| dx.len() == x.len()), "conv1d_grad: length of `dx`");
    assert!(dw.as_ref().is_none_or(|dw| dw.len() == weight.len()), "conv1d_grad: length of `dw`");
    check_seqs("conv1d_grad", seqs, x.len() / c, usize::MAX);
    let [dx, dw] = [dx, dw].map(|out| out.map(SharedSlice::new));
    pool.run(c.div_ceil(STRETCH), |task| {
        let channels = task * STRETCH..((task + 1) * STRETCH).min(c);
        isa.run(Body { conv, width, seqs, dy, channels, dx, dw });
    });
}

struct Body<'a> {
    conv: &'a Conv1d<'a>,
    width: usize,
    seqs: &'a [ScanSeq],
    dy: &'a [f32],
    channels: std::ops::Range<usize>,
    dx: Option<SharedSlice<'a, f32>>,
    dw: Option<SharedSlice<'a, f32>>,
}

impl Kernel for Body<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Conv1d { x, n_channels: c, weight, .. } = *self.conv;
        let width = self.width;
        for first in self.channels.clone().step_by(LANES) {
            let n = LANES.min(self.channels.end - first);
            let mut taps = vec![[0.0; LANES]; width];
            for (w, tap) in taps.iter_mut().enumerate() {
                (0..n).for_each(|i| tap[i] = weight[(first + i) * width + w]);
            }
            let lanes = |row: usize| row * c + first..row * c + first + n;
            let mut sums = vec![[0.0; LANES]; width];
            for seq in self.seqs {
                for row in seq.rows.clone() {
                    let mut of_row = s.splat(0.0);
                    // The rows that this one was an input of, and this row's sums with them.
                    let x = load(s, &x[lanes(row)]);
                    for later in row..(row + width).min(seq.rows.end) {
                        let w = width - 1 - (later - row);
                        let dy = load(s, &self.dy[lanes(later)]);
                        of_row = s.mul_add(s.load(&taps[w]), dy, of_row);
                        s.store(s.mul_add(dy, x, s.load(&sums[w])), &mut sums[w]);
                    }
                    if let Some(dx) = &self.dx {
                        // SAFETY: these channels belong to this task.
                        unsafe { store(s, of_row, dx, lanes(row)) };
                    }
                }
            }
            if let Some(dw) = &self.dw {
                // SAFETY: these channels belong to this task.
                let dw = unsafe { dw.slice(first * width..(first + n) * width) };
                for (i, dw) in dw.chunks_exact_mut(width).enumerate() {
                    dw.iter_mut().zip(&sums).for_each(|(dw, sum)| *dw = sum[i]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    #[test]
    fn gradients_agree_with_plain_loops() {
        let mut rng = Rng::seeded(76);
        let lens = [1, 9, 30, 2];
        let n_rows: usize = lens.iter().sum();
        for (c, width) in [(1, 1), (5, 4), (100, 4), (33, 3)] {
            let (x, dy, weight) = (rng.normals(n_rows * c), rng.normals(n_rows * c), rng.normals(c * width));
            let (mut want_dx, mut want_dw) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
            let (mut seqs, mut start) = (Vec::new(), 0);
            for (slot, len) in lens.into_iter().enumerate() {
                seqs.push(ScanSeq { rows: start..start + len, slot });
                for t in start..start + len {
                    for w in 0..width {
                        let Some(from) = (t + w + 1).checked_sub(width).filter(|&from| from >= start) else {
                            continue;
                        };
                        for i in 0..c {
                            want_dx[from * c + i] += weight[i * width + w] * dy[t * c + i];
                            want_dw[i * width + w] += x[from * c + i] * dy[t * c + i];
                        }
                    }
                }
                start += len;
            }
            let conv = Conv1d { x: &x, n_channels: c, weight: &weight, bias: None };
            for isa in Isa::all_here() {
                let (mut dx, mut dw) = (vec![f32::NAN; x.len()], vec![f32::NAN; weight.len()]);
                conv1d_grad(isa, &Pool::new(2), &conv, &seqs, &dy, Some(&mut dx), Some(&mut dw));
                assert_close(&dx, &want_dx, 1e-5, 1e-5);
                assert_close(&dw, &want_dw, 1e-4, 1e-5);
            }
        }
    }
}
