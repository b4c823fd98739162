//! Depthwise causal convolution: every channel sees its own last few inputs.

use std::ops::Range;

use super::{ScanSeq, check_seqs, load, store};
use crate::isa::Kernel;
use crate::pool::SharedSlice;
use crate::simd::{LANES, Simd};
use crate::{Isa, Pool};

/// The convolution's constants and its rows.
#[derive(Clone, Copy, Debug)]
pub struct Conv1d<'a> {
    /// `(T, C)`
    pub x: &'a [f32],
    /// `C`
    pub n_channels: usize,
    /// `(C, W)`: the last of the `W` weights meets the row itself.
    pub weight: &'a [f32],
    /// `(C)`
    pub bias: Option<&'a [f32]>,
}

/// `out[t, c] = bias[c] + Σ_w weight[c, w]·x[t − W + 1 + w, c]`, where rows before the sequence's come from its state.
///
/// `states` is `(slots, W − 1, C)`, the last inputs in order; it is carried on. `out` is `(T, C)`.
pub fn conv1d_update(
    isa: Isa,
    pool: &Pool,
    conv: &Conv1d<'_>,
    seqs: &[ScanSeq],
    states: &mut [f32],
    out: &mut [f32],
) {
    let Conv1d { x, n_channels: c, weight, bias } = *conv;
    assert!(c > 0 && x.len().is_multiple_of(c), "conv1d_update: `x` has rows of {c}");
    let width = weight.len() / c;
    assert!(width > 0 && weight.len() == width * c, "conv1d_update: `weight` is ({c}, width)");
    assert!(bias.is_none_or(|bias| bias.len() == c), "conv1d_update: a bias for each of {c} channels");
    assert_eq!(out.len(), x.len(), "conv1d_update: length of `out`");
    let state_len = (width - 1) * c;
    let n_slots = states.len().checked_div(state_len).unwrap_or(usize::MAX);
    assert!(state_len == 0 || states.len() == n_slots * state_len, "conv1d_update: states of {state_len}");
    check_seqs("conv1d_update", seqs, x.len() / c, n_slots);
    let (states, out) = (SharedSlice::new(states), SharedSlice::new(out));
    const STRETCH: usize = 8 * LANES;
    let stretches = c.div_ceil(STRETCH);
    pool.run(seqs.len() * stretches, |task| {
        let first = task % stretches * STRETCH;
        let channels = first..(first + STRETCH).min(c);
        isa.run(Body { conv, width, seq: &seqs[task / stretches], channels, states, out });
    });
}

struct Body<'a> {
    conv: &'a Conv1d<'a>,
    width: usize,
    seq: &'a ScanSeq,
    channels: Range<usize>,
    states: SharedSlice<'a, f32>,
    out: SharedSlice<'a, f32>,
}

impl Kernel for Body<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Conv1d { x, n_channels: c, weight, bias } = *self.conv;
        let (width, before) = (self.width, self.width - 1);
        let mut history = vec![0.0; (before + self.seq.rows.len()) * LANES];
        let mut taps = vec![0.0; width * LANES];
        for first in self.channels.clone().step_by(LANES) {
            let n = LANES.min(self.channels.end - first);
            let (history, _) = history.as_chunks_mut::<LANES>();
            let (taps, _) = taps.as_chunks_mut::<LANES>();
            for (w, tap) in taps.iter_mut().enumerate() {
                (0..n).for_each(|i| tap[i] = weight[(first + i) * width + w]);
            }
            for w in 0..before {
                let at = (self.seq.slot * before + w) * c + first;
                // SAFETY: this sequence's state and these channels belong to this task.
                history[w][..n].copy_from_slice(unsafe { self.states.slice(at..at + n) });
            }
            for (row, history) in self.seq.rows.clone().zip(&mut history[before..]) {
                history[..n].copy_from_slice(&x[row * c + first..][..n]);
            }
            for (t, row) in self.seq.rows.clone().enumerate() {
                let mut acc = match bias {
                    Some(bias) => load(s, &bias[first..first + n]),
                    None => s.splat(0.0),
                };
                for w in 0..width {
                    acc = s.mul_add(s.load(&taps[w]), s.load(&history[t + w]), acc);
                }
                // SAFETY: this sequence's rows and these channels belong to this task.
                unsafe { store(s, acc, &self.out, row * c + first..row * c + first + n) };
            }
            let end = self.seq.rows.len();
            for w in 0..before {
                let at = (self.seq.slot * before + w) * c + first;
                // SAFETY: as above.
                unsafe { self.states.slice(at..at + n) }.copy_from_slice(&history[end + w][..n]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    #[test]
    fn convolution_agrees_with_its_formula_in_any_chunks() {
        let mut rng = Rng::seeded(71);
        for (c, width) in [(1, 1), (5, 4), (16, 3), (150, 4)] {
            let (x, weight, bias) = (rng.normals(11 * c), rng.normals(c * width), rng.normals(c));
            let conv = |x| Conv1d { x, n_channels: c, weight: &weight, bias: Some(&bias) };
            // Rows 0..7 are one sequence, 7..11 another.
            let mut want = vec![0.0; 11 * c];
            for t in 0..11 {
                for i in 0..c {
                    let start = if t < 7 { 0 } else { 7 };
                    let seen = (0..width).filter(|w| t + w >= start + width - 1);
                    want[t * c + i] = bias[i]
                        + seen.map(|w| weight[i * width + w] * x[(t + w + 1 - width) * c + i]).sum::<f32>();
                }
            }
            for isa in Isa::all_here() {
                let pool = Pool::new(2);
                let mut states = vec![0.0; 3 * (width - 1) * c];
                let mut out = vec![0.0; 11 * c];
                let seqs = [ScanSeq { rows: 0..7, slot: 2 }, ScanSeq { rows: 7..11, slot: 0 }];
                conv1d_update(isa, &pool, &conv(&x), &seqs, &mut states, &mut out);
                assert_close(&out, &want, 1e-5, 1e-5);
                let mut states = vec![0.0; (width - 1) * c];
                for t in 0..7 {
                    let mut row = vec![0.0; c];
                    let seqs = [ScanSeq { rows: 0..1, slot: 0 }];
                    conv1d_update(isa, &pool, &conv(&x[t * c..(t + 1) * c]), &seqs, &mut states, &mut row);
                    assert_eq!(row, out[t * c..(t + 1) * c]);
                }
            }
        }
    }
}
