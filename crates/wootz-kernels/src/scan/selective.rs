//! Mamba's selective scan: `h = exp(Δ·A)·h + Δ·x·B`, `y = C·h + D·x` for every channel.

use std::ops::Range;

use super::{ScanSeq, check_seqs, load, store};
use crate::isa::Kernel;
use crate::pool::SharedSlice;
use crate::simd::{LANES, Simd, math};
use crate::{Isa, Pool};

/// The scan's rows and constants, for `C` channels with states of `N`.
#[derive(Clone, Copy, Debug)]
pub struct SelectiveScan<'a> {
    /// `(T, C)`
    pub x: &'a [f32],
    /// `(T, C)`: step sizes, positive (after soft-plus).
    pub dt: &'a [f32],
    /// `(C, N)`, negative.
    pub a: &'a [f32],
    /// `(T, N)`
    pub b: &'a [f32],
    /// `(T, N)`
    pub c: &'a [f32],
    /// `(C)`
    pub d: Option<&'a [f32]>,
    /// `C`
    pub n_channels: usize,
}

/// Scans every sequence from its state and carries the state on. `states` is `(slots, N, C)`, `out` `(T, C)`.
pub fn selective_scan(
    isa: Isa,
    pool: &Pool,
    scan: &SelectiveScan<'_>,
    seqs: &[ScanSeq],
    states: &mut [f32],
    out: &mut [f32],
) {
    let SelectiveScan { x, dt, a, b, c, d, n_channels } = *scan;
    assert!(
        n_channels > 0 && x.len().is_multiple_of(n_channels),
        "selective_scan: `x` has rows of {n_channels}"
    );
    let (n_rows, n_state) = (x.len() / n_channels, a.len() / n_channels);
    assert!(n_state > 0 && a.len() == n_state * n_channels, "selective_scan: `a` is ({n_channels}, N)");
    assert_eq!((dt.len(), out.len()), (x.len(), x.len()), "selective_scan: `dt` and `out` are as `x`");
    assert_eq!(
        (b.len(), c.len()),
        (n_rows * n_state, n_rows * n_state),
        "selective_scan: `b`, `c` are ({n_rows}, {n_state})"
    );
    assert!(d.is_none_or(|d| d.len() == n_channels), "selective_scan: `d` for each of {n_channels} channels");
    let state_len = n_state * n_channels;
    assert!(states.len().is_multiple_of(state_len), "selective_scan: states of {state_len}");
    check_seqs("selective_scan", seqs, n_rows, states.len() / state_len);
    let (states, out) = (SharedSlice::new(states), SharedSlice::new(out));
    const STRETCH: usize = 4 * LANES;
    let stretches = n_channels.div_ceil(STRETCH);
    pool.run(seqs.len() * stretches, |task| {
        let first = task % stretches * STRETCH;
        let channels = first..(first + STRETCH).min(n_channels);
        isa.run(Body { scan, n_state, seq: &seqs[task / stretches], channels, states, out });
    });
}

struct Body<'a> {
    scan: &'a SelectiveScan<'a>,
    n_state: usize,
    seq: &'a ScanSeq,
    channels: Range<usize>,
    states: SharedSlice<'a, f32>,
    out: SharedSlice<'a, f32>,
}

impl Kernel for Body<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SelectiveScan { x, dt, a, b, c, d, n_channels } = *self.scan;
        let n_state = self.n_state;
        let mut decay = vec![[0.0; LANES]; n_state];
        let mut state = vec![[0.0; LANES]; n_state];
        for first in self.channels.clone().step_by(LANES) {
            let n = LANES.min(self.channels.end - first);
            let at = |j: usize| (self.seq.slot * n_state + j) * n_channels + first;
            for j in 0..n_state {
                (0..n).for_each(|i| decay[j][i] = a[(first + i) * n_state + j]);
                // SAFETY: this sequence's state and these channels belong to this task.
                state[j][..n].copy_from_slice(unsafe { self.states.slice(at(j)..at(j) + n) });
            }
            let skip = match d {
                Some(d) => load(s, &d[first..first + n]),
                None => s.splat(0.0),
            };
            for row in self.seq.rows.clone() {
                let range = row * n_channels + first..row * n_channels + first + n;
                let (x, dt) = (load(s, &x[range.clone()]), load(s, &dt[range.clone()]));
                let step = s.mul(dt, x);
                let mut y = s.mul(skip, x);
                for j in 0..n_state {
                    let kept = s.mul(math::exp(s, s.mul(dt, s.load(&decay[j]))), s.load(&state[j]));
                    let h = s.mul_add(step, s.splat(b[row * n_state + j]), kept);
                    s.store(h, &mut state[j]);
                    y = s.mul_add(h, s.splat(c[row * n_state + j]), y);
                }
                // SAFETY: this sequence's rows and these channels belong to this task.
                unsafe { store(s, y, &self.out, range) };
            }
            for j in 0..n_state {
                // SAFETY: as above.
                unsafe { self.states.slice(at(j)..at(j) + n) }.copy_from_slice(&state[j][..n]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    #[test]
    fn the_scan_agrees_with_its_recurrence_in_any_chunks() {
        let mut rng = Rng::seeded(72);
        let n_rows = 9;
        for (n_channels, n_state) in [(1, 1), (20, 16), (70, 5)] {
            let x = rng.normals(n_rows * n_channels);
            let dt: Vec<f32> = rng.normals(n_rows * n_channels).iter().map(|x| x.abs() * 0.3).collect();
            let a: Vec<f32> = rng.normals(n_channels * n_state).iter().map(|x| -x.abs() - 0.1).collect();
            let (b, c, d) =
                (rng.normals(n_rows * n_state), rng.normals(n_rows * n_state), rng.normals(n_channels));
            let mut want = vec![0.0; x.len()];
            for i in 0..n_channels {
                let mut h = vec![0.0_f64; n_state];
                for t in 0..n_rows {
                    let (xt, dt) = (f64::from(x[t * n_channels + i]), f64::from(dt[t * n_channels + i]));
                    let mut y = f64::from(d[i]) * xt;
                    for (j, h) in h.iter_mut().enumerate() {
                        *h = (dt * f64::from(a[i * n_state + j])).exp() * *h
                            + dt * xt * f64::from(b[t * n_state + j]);
                        y += *h * f64::from(c[t * n_state + j]);
                    }
                    want[t * n_channels + i] = y as f32;
                }
            }
            for isa in Isa::all_here() {
                let pool = Pool::new(2);
                let run = |rows: Range<usize>, states: &mut [f32]| {
                    let wide = rows.start * n_channels..rows.end * n_channels;
                    let narrow = rows.start * n_state..rows.end * n_state;
                    let scan = SelectiveScan {
                        x: &x[wide.clone()],
                        dt: &dt[wide.clone()],
                        a: &a,
                        b: &b[narrow.clone()],
                        c: &c[narrow],
                        d: Some(&d),
                        n_channels,
                    };
                    let mut out = vec![0.0; wide.len()];
                    selective_scan(
                        isa,
                        &pool,
                        &scan,
                        &[ScanSeq { rows: 0..rows.len(), slot: 1 }],
                        states,
                        &mut out,
                    );
                    out
                };
                let all = run(0..n_rows, &mut vec![0.0; 2 * n_state * n_channels]);
                assert_close(&all, &want, 2e-5, 2e-5);
                let mut states = vec![0.0; 2 * n_state * n_channels];
                let mut parts = run(0..4, &mut states);
                parts.extend(run(4..5, &mut states));
                parts.extend(run(5..n_rows, &mut states));
                assert_eq!(parts, all);
            }
        }
    }
}
