//! Gradients of Mamba's selective scan, by running it again.
//!
//! Where:  the backward pass of Mamba layers, for training.
//! Idea:   states are kept at the start of every stretch of rows and computed again within it; the adjoint then walks back. A
//!         task has some channels of all sequences, so sums over rows have one order; sums over channels (B, C) are added task
//!         by task, in order.
//! Source: Gu & Dao 2023, arXiv:2312.00752, §3.3.2 (recomputation). With `gₜ = Cₜ·dyₜ + aₜ₊₁·gₜ₊₁` and `aₜ = exp(Δₜ·A)`:
//!         `dC = Σ_c dy·h`, `dB = Σ_c g·Δ·x`, `dx = Σ_n g·Δ·B + D·dy`, `dΔ = Σ_n g·(A·a·hₜ₋₁ + B·x)`, `dA = Σₜ g·Δ·a·hₜ₋₁`.

use std::ops::Range;

use super::{ScanSeq, SelectiveScan, add_parts, check_seqs, load, store};
use crate::isa::Kernel;
use crate::pool::SharedSlice;
use crate::simd::{LANES, Simd, math};
use crate::{Isa, Pool};

/// The gradients of a scan's operands, in their shapes; all are overwritten.
#[derive(Debug)]
pub struct ScanGrads<'a> {
    /// As `x`.
    pub dx: &'a mut [f32],
    /// As `dt`.
    pub ddt: &'a mut [f32],
    /// As `b`.
    pub db: &'a mut [f32],
    /// As `c`.
    pub dc: &'a mut [f32],
    /// As `a`.
    pub da: &'a mut [f32],
    /// As `d`.
    pub dd: &'a mut [f32],
}

/// Rows whose states are there at the same time.
const ROWS: usize = 32;
/// Channels of a task.
const STRETCH: usize = 4 * LANES;

/// The gradients of [`selective_scan`](super::selective_scan) from zero states; `dy` is `(T, C)`. Slots are not read.
pub fn selective_scan_grad(
    isa: Isa,
    pool: &Pool,
    scan: &SelectiveScan<'_>,
    seqs: &[ScanSeq],
    dy: &[f32],
    grads: ScanGrads<'_>,
) {
    let SelectiveScan { x, dt, a, b, c, d, n_channels } = *scan;
    assert!(n_channels > 0 && x.len().is_multiple_of(n_channels), "selective_scan_grad: rows of `x`");
    let (n_rows, n_state) = (x.len() / n_channels, a.len() / n_channels);
    assert!(n_state > 0 && a.len() == n_state * n_channels, "selective_scan_grad: `a` is ({n_channels}, N)");
    assert_eq!((dt.len(), dy.len()), (x.len(), x.len()), "selective_scan_grad: `dt` and `dy` are as `x`");
    assert_eq!((b.len(), c.len()), (n_rows * n_state, n_rows * n_state), "selective_scan_grad: `b` and `c`");
    assert!(d.is_none_or(|d| d.len() == n_channels), "selective_scan_grad: `d` for each channel");
    let lens = [&grads.dx, &grads.ddt, &grads.db, &grads.dc, &grads.da].map(|grad| grad.len());
    assert_eq!(
        lens,
        [x.len(), x.len(), b.len(), c.len(), a.len()],
        "selective_scan_grad: lengths of gradients"
    );
    assert_eq!(grads.dd.len(), n_channels, "selective_scan_grad: length of `dd`");
    check_seqs("selective_scan_grad", seqs, n_rows, usize::MAX);
    let n_tasks = n_channels.div_ceil(STRETCH);
    let mut parts = vec![0.0; n_tasks * 2 * b.len()];
    let shared = SharedSlice::new(&mut parts);
    let [dx, ddt, da, dd] = [grads.dx, grads.ddt, grads.da, grads.dd].map(SharedSlice::new);
    pool.run(n_tasks, |task| {
        let channels = task * STRETCH..((task + 1) * STRETCH).min(n_channels);
        let range = task * 2 * b.len()..(task + 1) * 2 * b.len();
        // SAFETY: every task has its own part.
        let (db, dc) = unsafe { shared.slice(range) }.split_at_mut(b.len());
        isa.run(Body { scan, n_state, seqs, dy, channels, dx, ddt, da, dd, db, dc });
    });
    add_parts(isa, pool, &parts, 0, 2 * b.len(), grads.db);
    add_parts(isa, pool, &parts, b.len(), 2 * b.len(), grads.dc);
}

struct Body<'a> {
    scan: &'a SelectiveScan<'a>,
    n_state: usize,
    seqs: &'a [ScanSeq],
    dy: &'a [f32],
    channels: Range<usize>,
    dx: SharedSlice<'a, f32>,
    ddt: SharedSlice<'a, f32>,
    da: SharedSlice<'a, f32>,
    dd: SharedSlice<'a, f32>,
    /// This task's share of the sums over channels.
    db: &'a mut [f32],
    dc: &'a mut [f32],
}

type Lanes = [f32; LANES];

/// Sixteen channels: their constants, states and sums.
struct Block {
    first: usize,
    n: usize,
    a: Vec<Lanes>,
    skip: Lanes,
    /// The state at the start of each stretch of rows.
    starts: Vec<Lanes>,
    adjoint: Vec<Lanes>,
    da: Vec<Lanes>,
    dd: Lanes,
}

impl Kernel for Body<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SelectiveScan { x, dt, a, b, c, d, n_channels } = *self.scan;
        let n_state = self.n_state;
        let zero = [0.0; LANES];
        let mut blocks = Vec::new();
        for first in self.channels.clone().step_by(LANES) {
            let n = LANES.min(self.channels.end - first);
            let mut of_block = vec![zero; n_state];
            for (j, lanes) in of_block.iter_mut().enumerate() {
                (0..n).for_each(|i| lanes[i] = a[(first + i) * n_state + j]);
            }
            let mut skip = zero;
            if let Some(d) = d {
                skip[..n].copy_from_slice(&d[first..first + n]);
            }
            let [adjoint, da] = [vec![zero; n_state], vec![zero; n_state]];
            blocks.push(Block { first, n, a: of_block, skip, starts: Vec::new(), adjoint, da, dd: zero });
        }
        // Of one stretch: the states before its rows and the decays, then the sums over lanes' channels.
        let (mut before, mut decays) = (vec![zero; ROWS * n_state], vec![zero; ROWS * n_state]);
        let (mut of_b, mut of_c) = (vec![zero; ROWS * n_state], vec![zero; ROWS * n_state]);
        for seq in self.seqs {
            let n_stretches = seq.rows.len().div_ceil(ROWS);
            let stretch = |i: usize| {
                let start = seq.rows.start + i * ROWS;
                start..(start + ROWS).min(seq.rows.end)
            };
            for block in &mut blocks {
                let mut state = vec![zero; n_state];
                block.starts.clear();
                block.adjoint.fill(zero);
                for i in 0..n_stretches {
                    block.starts.extend_from_slice(&state);
                    if i + 1 == n_stretches {
                        break;
                    }
                    for row in stretch(i) {
                        let at = row * n_channels + block.first;
                        let (x, dt) = (load(s, &x[at..at + block.n]), load(s, &dt[at..at + block.n]));
                        let step = s.mul(dt, x);
                        for j in 0..n_state {
                            let decay = math::exp(s, s.mul(dt, s.load(&block.a[j])));
                            let kept = s.mul(decay, s.load(&state[j]));
                            let h = s.mul_add(step, s.splat(b[row * n_state + j]), kept);
                            s.store(h, &mut state[j]);
                        }
                    }
                }
            }
            for i in (0..n_stretches).rev() {
                let rows = stretch(i);
                of_b.fill(zero);
                of_c.fill(zero);
                for block in &mut blocks {
                    let mut state = block.starts[i * n_state..(i + 1) * n_state].to_vec();
                    for (t, row) in rows.clone().enumerate() {
                        let at = row * n_channels + block.first;
                        let (x, dt) = (load(s, &x[at..at + block.n]), load(s, &dt[at..at + block.n]));
                        let step = s.mul(dt, x);
                        for j in 0..n_state {
                            let decay = math::exp(s, s.mul(dt, s.load(&block.a[j])));
                            before[t * n_state + j] = state[j];
                            s.store(decay, &mut decays[t * n_state + j]);
                            let kept = s.mul(decay, s.load(&state[j]));
                            let h = s.mul_add(step, s.splat(b[row * n_state + j]), kept);
                            s.store(h, &mut state[j]);
                        }
                    }
                    for (t, row) in rows.clone().enumerate().rev() {
                        let at = row * n_channels + block.first;
                        let range = at..at + block.n;
                        let (xs, dts) = (load(s, &x[range.clone()]), load(s, &dt[range.clone()]));
                        let dy = load(s, &self.dy[range.clone()]);
                        let step = s.mul(dts, xs);
                        let (mut along_b, mut along_a) = (s.splat(0.0), s.splat(0.0));
                        for j in 0..n_state {
                            let (b, c) = (s.splat(b[row * n_state + j]), s.splat(c[row * n_state + j]));
                            let decay = s.load(&decays[t * n_state + j]);
                            let kept = s.mul(decay, s.load(&before[t * n_state + j]));
                            let h = s.mul_add(step, b, kept);
                            let g = s.mul_add(c, dy, s.load(&block.adjoint[j]));
                            let sum = &mut of_c[t * n_state + j];
                            s.store(s.mul_add(dy, h, s.load(sum)), sum);
                            let sum = &mut of_b[t * n_state + j];
                            s.store(s.mul_add(g, step, s.load(sum)), sum);
                            along_b = s.mul_add(g, b, along_b);
                            let through = s.mul(g, kept);
                            along_a = s.mul_add(through, s.load(&block.a[j]), along_a);
                            let sum = &mut block.da[j];
                            s.store(s.mul_add(through, dts, s.load(sum)), sum);
                            s.store(s.mul(decay, g), &mut block.adjoint[j]);
                        }
                        let dx = s.mul_add(dts, along_b, s.mul(s.load(&block.skip), dy));
                        let ddt = s.mul_add(xs, along_b, along_a);
                        // SAFETY: these channels belong to this task.
                        unsafe { store(s, dx, &self.dx, range.clone()) };
                        // SAFETY: as above.
                        unsafe { store(s, ddt, &self.ddt, range) };
                        let dd = s.mul_add(dy, xs, s.load(&block.dd));
                        s.store(dd, &mut block.dd);
                    }
                }
                for (t, row) in rows.enumerate() {
                    for j in 0..n_state {
                        self.db[row * n_state + j] = s.sum(s.load(&of_b[t * n_state + j]));
                        self.dc[row * n_state + j] = s.sum(s.load(&of_c[t * n_state + j]));
                    }
                }
            }
        }
        for block in &blocks {
            // SAFETY: these channels belong to this task.
            let dd = unsafe { self.dd.slice(block.first..block.first + block.n) };
            dd.copy_from_slice(&block.dd[..block.n]);
            // SAFETY: as above.
            let da = unsafe { self.da.slice(block.first * n_state..(block.first + block.n) * n_state) };
            for (i, da) in da.chunks_exact_mut(n_state).enumerate() {
                da.iter_mut().zip(&block.da).for_each(|(da, lanes)| *da = lanes[i]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    /// Rows, channels, states; the scan of one sequence in f64 and its gradients, written plainly.
    fn plain(scan: &SelectiveScan, n: usize, rows: Range<usize>, dy: &[f32], grads: &mut [Vec<f64>; 6]) {
        let SelectiveScan { x, dt, a, b, c, d, n_channels } = *scan;
        let wide = |x: &[f32], i: usize| f64::from(x[i]);
        for i in 0..n_channels {
            for j in 0..n {
                let a_ij = wide(a, i * n + j);
                let mut h = vec![0.0];
                for t in rows.clone() {
                    let at = t * n_channels + i;
                    let last = *h.last().unwrap();
                    h.push(
                        (wide(dt, at) * a_ij).exp() * last + wide(dt, at) * wide(x, at) * wide(b, t * n + j),
                    );
                }
                let mut carried = 0.0;
                for (k, t) in rows.clone().enumerate().rev() {
                    let at = t * n_channels + i;
                    let decay = (wide(dt, at) * a_ij).exp();
                    let g = wide(c, t * n + j) * wide(dy, at) + carried;
                    grads[0][at] += g * wide(dt, at) * wide(b, t * n + j);
                    grads[1][at] += g * (a_ij * decay * h[k] + wide(b, t * n + j) * wide(x, at));
                    grads[2][t * n + j] += g * wide(dt, at) * wide(x, at);
                    grads[3][t * n + j] += wide(dy, at) * h[k + 1];
                    grads[4][i * n + j] += g * wide(dt, at) * decay * h[k];
                    carried = decay * g;
                }
            }
            for t in rows.clone() {
                let at = t * n_channels + i;
                grads[0][at] += wide(d.unwrap(), i) * wide(dy, at);
                grads[5][i] += wide(dy, at) * wide(x, at);
            }
        }
    }

    #[test]
    fn gradients_agree_with_plain_loops_and_do_not_depend_on_threads() {
        let mut rng = Rng::seeded(74);
        let lens = [3, 70, 1, 33];
        let n_rows: usize = lens.iter().sum();
        for (n_channels, n) in [(1, 1), (20, 16), (150, 5)] {
            let (x, dy) = (rng.normals(n_rows * n_channels), rng.normals(n_rows * n_channels));
            let dt: Vec<f32> = rng.normals(n_rows * n_channels).iter().map(|x| x.abs() * 0.3).collect();
            let a: Vec<f32> = rng.normals(n_channels * n).iter().map(|x| -x.abs() - 0.1).collect();
            let (b, c, d) = (rng.normals(n_rows * n), rng.normals(n_rows * n), rng.normals(n_channels));
            let scan = SelectiveScan { x: &x, dt: &dt, a: &a, b: &b, c: &c, d: Some(&d), n_channels };
            let sizes = [x.len(), x.len(), b.len(), b.len(), a.len(), d.len()];
            let mut want = sizes.map(|n| vec![0.0; n]);
            let (mut seqs, mut start) = (Vec::new(), 0);
            for (slot, len) in lens.into_iter().enumerate() {
                seqs.push(ScanSeq { rows: start..start + len, slot });
                plain(&scan, n, start..start + len, &dy, &mut want);
                start += len;
            }
            for isa in Isa::all_here() {
                let run = |threads| {
                    let mut got = sizes.map(|n| vec![f32::NAN; n]);
                    let [dx, ddt, db, dc, da, dd] = &mut got;
                    let grads = ScanGrads { dx, ddt, db, dc, da, dd };
                    selective_scan_grad(isa, &Pool::new(threads), &scan, &seqs, &dy, grads);
                    got
                };
                let got = run(1);
                for (got, want) in got.iter().zip(&want) {
                    let want: Vec<f32> = want.iter().map(|&x| x as f32).collect();
                    assert_close(got, &want, 2e-4, 5e-5); // sums of up to 150 products
                }
                assert_eq!(got, run(3));
            }
        }
    }
}
