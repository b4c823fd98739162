//! The plainest recurrence, `h = f·h + x` number by number, and its gradient.
//!
//! Where:  gated linear recurrences (MinGRU, HGRN, language models without products), by way of the `cpu` device.
//! Source: Qin et al. 2023, arXiv:2311.04823, eq. 4; Zhu et al. 2024, arXiv:2406.02528, §3.3.

use super::{ScanSeq, check_seqs, load, store};
use crate::isa::Kernel;
use crate::pool::SharedSlice;
use crate::simd::{LANES, Simd};
use crate::{Isa, Pool};

/// Channels of a task.
const STRETCH: usize = 8 * LANES;

/// `out[t] = f[t]·out[t − 1] + x[t]` in each sequence from its state `(slots, C)`, which is carried on. All are `(T, C)`.
#[expect(clippy::too_many_arguments, reason = "the machine, the operator, its state and three tensors")]
pub fn decay_scan(
    isa: Isa,
    pool: &Pool,
    n_channels: usize,
    f: &[f32],
    x: &[f32],
    seqs: &[ScanSeq],
    states: &mut [f32],
    out: &mut [f32],
) {
    assert!(n_channels > 0 && x.len().is_multiple_of(n_channels), "decay_scan: rows of {n_channels}");
    assert_eq!((f.len(), out.len()), (x.len(), x.len()), "decay_scan: lengths differ");
    assert!(states.len().is_multiple_of(n_channels), "decay_scan: states of {n_channels}");
    check_seqs("decay_scan", seqs, x.len() / n_channels, states.len() / n_channels);
    let (states, out) = (SharedSlice::new(states), SharedSlice::new(out));
    let stretches = n_channels.div_ceil(STRETCH);
    pool.run(seqs.len() * stretches, |task| {
        let first = task % stretches * STRETCH;
        let channels = first..(first + STRETCH).min(n_channels);
        isa.run(Forward { n_channels, f, x, seq: &seqs[task / stretches], channels, states, out });
    });
}

struct Forward<'a> {
    n_channels: usize,
    f: &'a [f32],
    x: &'a [f32],
    seq: &'a ScanSeq,
    channels: std::ops::Range<usize>,
    states: SharedSlice<'a, f32>,
    out: SharedSlice<'a, f32>,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for first in self.channels.clone().step_by(LANES) {
            let n = LANES.min(self.channels.end - first);
            let at = self.seq.slot * self.n_channels + first;
            // SAFETY: this sequence's state and these channels belong to this task.
            let state = unsafe { self.states.slice(at..at + n) };
            let mut h = load(s, state);
            for row in self.seq.rows.clone() {
                let range = row * self.n_channels + first..row * self.n_channels + first + n;
                h = s.mul_add(load(s, &self.f[range.clone()]), h, load(s, &self.x[range.clone()]));
                // SAFETY: this sequence's rows and these channels belong to this task.
                unsafe { store(s, h, &self.out, range) };
            }
            s.store_part(h, state);
        }
    }
}

/// The gradients of [`decay_scan`] from zero states, given its output `y`: `dx[t] = dy[t] + f[t + 1]·dx[t + 1]` and
/// `df[t] = dx[t]·y[t − 1]`.
#[expect(clippy::too_many_arguments, reason = "the machine, the operator and its five tensors")]
pub fn decay_scan_grad(
    isa: Isa,
    pool: &Pool,
    n_channels: usize,
    f: &[f32],
    y: &[f32],
    seqs: &[ScanSeq],
    dy: &[f32],
    df: Option<&mut [f32]>,
    dx: Option<&mut [f32]>,
) {
    assert!(n_channels > 0 && y.len().is_multiple_of(n_channels), "decay_scan_grad: rows of {n_channels}");
    assert_eq!((f.len(), dy.len()), (y.len(), y.len()), "decay_scan_grad: lengths differ");
    let lens = [&df, &dx].map(|out| out.as_ref().map_or(y.len(), |out| out.len()));
    assert_eq!(lens, [y.len(), y.len()], "decay_scan_grad: lengths of the gradients");
    check_seqs("decay_scan_grad", seqs, y.len() / n_channels, usize::MAX);
    let [df, dx] = [df, dx].map(|out| out.map(SharedSlice::new));
    let stretches = n_channels.div_ceil(STRETCH);
    pool.run(seqs.len() * stretches, |task| {
        let first = task % stretches * STRETCH;
        let channels = first..(first + STRETCH).min(n_channels);
        isa.run(Backward { n_channels, f, y, dy, seq: &seqs[task / stretches], channels, df, dx });
    });
}

struct Backward<'a> {
    n_channels: usize,
    f: &'a [f32],
    y: &'a [f32],
    dy: &'a [f32],
    seq: &'a ScanSeq,
    channels: std::ops::Range<usize>,
    df: Option<SharedSlice<'a, f32>>,
    dx: Option<SharedSlice<'a, f32>>,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for first in self.channels.clone().step_by(LANES) {
            let n = LANES.min(self.channels.end - first);
            let lanes = |row: usize| row * self.n_channels + first..row * self.n_channels + first + n;
            let mut carried = s.splat(0.0);
            for row in self.seq.rows.clone().rev() {
                let g = s.add(load(s, &self.dy[lanes(row)]), carried);
                let before = match row > self.seq.rows.start {
                    true => load(s, &self.y[lanes(row - 1)]),
                    false => s.splat(0.0),
                };
                if let Some(df) = &self.df {
                    // SAFETY: this sequence's rows and these channels belong to this task.
                    unsafe { store(s, s.mul(g, before), df, lanes(row)) };
                }
                if let Some(dx) = &self.dx {
                    // SAFETY: as above.
                    unsafe { store(s, g, dx, lanes(row)) };
                }
                carried = s.mul(load(s, &self.f[lanes(row)]), g);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    #[test]
    fn scan_and_gradients_agree_with_plain_loops() {
        let mut rng = Rng::seeded(77);
        let lens = [4, 1, 30];
        let n_rows: usize = lens.iter().sum();
        for c in [1, 16, 150] {
            let f: Vec<f32> = (0..n_rows * c).map(|_| rng.uniform()).collect();
            let (x, dy) = (rng.normals(n_rows * c), rng.normals(n_rows * c));
            let (mut seqs, mut start) = (Vec::new(), 0);
            let [mut y, mut df, mut dx] = [(); 3].map(|()| vec![0.0; n_rows * c]);
            for (slot, len) in lens.into_iter().enumerate() {
                seqs.push(ScanSeq { rows: start..start + len, slot });
                for i in 0..c {
                    for t in start..start + len {
                        let before = if t > start { y[(t - 1) * c + i] } else { 0.0 };
                        y[t * c + i] = f[t * c + i] * before + x[t * c + i];
                    }
                    let mut carried = 0.0;
                    for t in (start..start + len).rev() {
                        let before = if t > start { y[(t - 1) * c + i] } else { 0.0 };
                        dx[t * c + i] = dy[t * c + i] + carried;
                        df[t * c + i] = dx[t * c + i] * before;
                        carried = f[t * c + i] * dx[t * c + i];
                    }
                }
                start += len;
            }
            let pool = Pool::new(2);
            for isa in Isa::all_here() {
                let [mut out, mut got_df, mut got_dx] = [(); 3].map(|()| vec![f32::NAN; n_rows * c]);
                let mut states = vec![0.0; lens.len() * c];
                decay_scan(isa, &pool, c, &f, &x, &seqs, &mut states, &mut out);
                assert_close(&out, &y, 1e-5, 1e-5);
                for seq in &seqs {
                    let last = (seq.rows.end - 1) * c;
                    assert_eq!(states[seq.slot * c..(seq.slot + 1) * c], out[last..last + c]);
                }
                let [df_out, dx_out] = [&mut got_df, &mut got_dx].map(|grad| Some(&mut grad[..]));
                decay_scan_grad(isa, &pool, c, &f, &y, &seqs, &dy, df_out, dx_out);
                assert_close(&got_df, &df, 1e-5, 1e-5);
                assert_close(&got_dx, &dx, 1e-5, 1e-5);
            }
        }
    }
}
