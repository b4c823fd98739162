//! Gradients of Mamba-2's scan, by running it again.
//!
//! Where:  the backward pass of Mamba-2 layers, for training.
//! Idea:   as in [`selective_grad`](super::selective_grad): states are kept at the start of every stretch of rows and computed
//!         again within it. A task has a few heads of one group and all sequences; sums over heads are added task by task.
//! Source: Dao & Gu 2024, arXiv:2405.21060, §7, in recurrent form. With `Gₜ = dyₜ·Cₜᵀ + aₜ₊₁·Gₜ₊₁` and `aₜ = exp(Δₜ·A)`:
//!         `dC = Σ dy·h`, `dB = Σ G·Δ·x`, `dx = Δ·G·B + D·dy`, `dΔ = Σ G∘(A·a·hₜ₋₁ + x·Bᵀ)`, `dA = Σₜ Δ·a·Σ G∘hₜ₋₁`.

use super::selective_grad::ScanGrads;
use super::{ScanSeq, SsdScan, add_parts, check_seqs, load, store};
use crate::isa::Kernel;
use crate::pool::SharedSlice;
use crate::simd::{LANES, Simd};
use crate::{Isa, Pool};

/// Rows whose states are there at the same time.
const ROWS: usize = 32;
/// Heads of a task, at most.
const HEADS: usize = 4;

/// The gradients of [`ssd_scan`](super::ssd_scan) from zero states; `dy` is `(T, H·P)`. Slots are not read.
pub fn ssd_scan_grad(
    isa: Isa,
    pool: &Pool,
    scan: &SsdScan<'_>,
    seqs: &[ScanSeq],
    dy: &[f32],
    grads: ScanGrads<'_>,
) {
    let SsdScan { x, dt, a, b, c, d, n_heads, head_dim, n_groups, n_state } = *scan;
    assert!(n_heads > 0 && head_dim > 0 && n_state > 0, "ssd_scan_grad: {n_heads} heads of {head_dim}");
    assert!(
        n_groups > 0 && n_heads.is_multiple_of(n_groups),
        "ssd_scan_grad: {n_heads} heads, {n_groups} groups"
    );
    let n_rows = x.len() / (n_heads * head_dim);
    assert_eq!(x.len(), n_rows * n_heads * head_dim, "ssd_scan_grad: rows of `x`");
    assert_eq!((dt.len(), dy.len()), (n_rows * n_heads, x.len()), "ssd_scan_grad: lengths of `dt` and `dy`");
    let narrow = n_rows * n_groups * n_state;
    assert_eq!((b.len(), c.len()), (narrow, narrow), "ssd_scan_grad: lengths of `b` and `c`");
    assert!(
        a.len() == n_heads && d.is_none_or(|d| d.len() == n_heads),
        "ssd_scan_grad: `a`, `d` for each head"
    );
    let lens = [&grads.dx, &grads.ddt, &grads.db, &grads.dc, &grads.da, &grads.dd].map(|grad| grad.len());
    assert_eq!(
        lens,
        [x.len(), dt.len(), narrow, narrow, n_heads, n_heads],
        "ssd_scan_grad: lengths of gradients"
    );
    check_seqs("ssd_scan_grad", seqs, n_rows, usize::MAX);
    let per_group = n_heads / n_groups;
    let tasks_per_group = per_group.div_ceil(HEADS);
    // Every task of a group adds to the same columns: one part for each place within the group.
    let mut parts = vec![0.0; tasks_per_group * 2 * narrow];
    let shared = SharedSlice::new(&mut parts);
    let [dx, ddt, da, dd] = [grads.dx, grads.ddt, grads.da, grads.dd].map(SharedSlice::new);
    pool.run(n_groups * tasks_per_group, |task| {
        let (group, place) = (task / tasks_per_group, task % tasks_per_group);
        let first = group * per_group + place * HEADS;
        let heads = first..(first + HEADS).min((group + 1) * per_group);
        isa.run(Body {
            scan,
            seqs,
            dy,
            heads,
            group,
            part: place * 2 * narrow,
            dx,
            ddt,
            da,
            dd,
            parts: shared,
        });
    });
    add_parts(isa, pool, &parts, 0, 2 * narrow, grads.db);
    add_parts(isa, pool, &parts, narrow, 2 * narrow, grads.dc);
}

struct Body<'a> {
    scan: &'a SsdScan<'a>,
    seqs: &'a [ScanSeq],
    dy: &'a [f32],
    heads: std::ops::Range<usize>,
    group: usize,
    /// Where this task's part of the sums over heads begins: first of B, then of C.
    part: usize,
    dx: SharedSlice<'a, f32>,
    ddt: SharedSlice<'a, f32>,
    da: SharedSlice<'a, f32>,
    dd: SharedSlice<'a, f32>,
    parts: SharedSlice<'a, f32>,
}

impl Kernel for Body<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SsdScan { x, dt, a, b, c, d, n_heads, head_dim, n_groups, n_state } = *self.scan;
        let zero = [0.0; LANES];
        let n_blocks = head_dim.div_ceil(LANES);
        let state_len = n_state * n_blocks;
        let narrow = n_groups * n_state;
        // Of one stretch: the states before its rows; the sums over channels, for each row and state.
        let mut before = vec![zero; ROWS * state_len];
        let (mut of_b, mut of_c) = (vec![zero; ROWS * n_state], vec![zero; ROWS * n_state]);
        let n_heads_here = self.heads.len();
        let mut sums = vec![(zero, zero); n_heads_here]; // (dA, dD)
        for seq in self.seqs {
            let n_stretches = seq.rows.len().div_ceil(ROWS);
            let stretch = |i: usize| {
                let start = seq.rows.start + i * ROWS;
                start..(start + ROWS).min(seq.rows.end)
            };
            let mut starts = vec![zero; n_heads_here * n_stretches * state_len];
            let mut adjoints = vec![zero; n_heads_here * state_len];
            for (k, head) in self.heads.clone().enumerate() {
                for i in 0..n_stretches.saturating_sub(1) {
                    let from = (k * n_stretches + i) * state_len;
                    let mut state = starts[from..from + state_len].to_vec();
                    for row in stretch(i) {
                        let dt = dt[row * n_heads + head];
                        let decay = s.splat((dt * a[head]).exp());
                        let b = &b[row * narrow + self.group * n_state..][..n_state];
                        for block in 0..n_blocks {
                            let range = channels(row * n_heads + head, head_dim, block);
                            let step = s.mul(s.splat(dt), load(s, &x[range]));
                            for (j, &b) in b.iter().enumerate() {
                                let h = &mut state[j * n_blocks + block];
                                s.store(s.mul_add(step, s.splat(b), s.mul(decay, s.load(h))), h);
                            }
                        }
                    }
                    starts[from + state_len..from + 2 * state_len].copy_from_slice(&state);
                }
            }
            for i in (0..n_stretches).rev() {
                let rows = stretch(i);
                of_b.fill(zero);
                of_c.fill(zero);
                for (k, head) in self.heads.clone().enumerate() {
                    let from = (k * n_stretches + i) * state_len;
                    let adjoint = &mut adjoints[k * state_len..(k + 1) * state_len];
                    before[..state_len].copy_from_slice(&starts[from..from + state_len]);
                    for (t, row) in rows.clone().enumerate().take(rows.len() - 1) {
                        let dt = dt[row * n_heads + head];
                        let decay = s.splat((dt * a[head]).exp());
                        let b = &b[row * narrow + self.group * n_state..][..n_state];
                        let (now, next) = before.split_at_mut((t + 1) * state_len);
                        let now = &now[t * state_len..];
                        for block in 0..n_blocks {
                            let range = channels(row * n_heads + head, head_dim, block);
                            let step = s.mul(s.splat(dt), load(s, &x[range]));
                            for (j, &b) in b.iter().enumerate() {
                                let at = j * n_blocks + block;
                                let h = s.mul_add(step, s.splat(b), s.mul(decay, s.load(&now[at])));
                                s.store(h, &mut next[at]);
                            }
                        }
                    }
                    for (t, row) in rows.clone().enumerate().rev() {
                        let step_size = dt[row * n_heads + head];
                        let decay_of_row = (step_size * a[head]).exp();
                        let (dt, decay) = (s.splat(step_size), s.splat(decay_of_row));
                        let skip = s.splat(d.map_or(0.0, |d| d[head]));
                        let at_group = row * narrow + self.group * n_state;
                        let (b, c) = (&b[at_group..][..n_state], &c[at_group..][..n_state]);
                        let (mut of_dt, mut of_a) = (s.splat(0.0), s.splat(0.0));
                        for block in 0..n_blocks {
                            let range = channels(row * n_heads + head, head_dim, block);
                            let (x, dy) = (load(s, &x[range.clone()]), load(s, &self.dy[range.clone()]));
                            let step = s.mul(dt, x);
                            let (mut along_b, mut along_h) = (s.splat(0.0), s.splat(0.0));
                            for j in 0..n_state {
                                let at = j * n_blocks + block;
                                let (b, last) = (s.splat(b[j]), s.load(&before[t * state_len + at]));
                                let h = s.mul_add(step, b, s.mul(decay, last));
                                let g = s.mul_add(s.splat(c[j]), dy, s.load(&adjoint[at]));
                                let sum = &mut of_c[t * n_state + j];
                                s.store(s.mul_add(dy, h, s.load(sum)), sum);
                                let sum = &mut of_b[t * n_state + j];
                                s.store(s.mul_add(g, step, s.load(sum)), sum);
                                along_b = s.mul_add(g, b, along_b);
                                along_h = s.mul_add(g, last, along_h);
                                s.store(s.mul(decay, g), &mut adjoint[at]);
                            }
                            let dx = s.mul_add(dt, along_b, s.mul(skip, dy));
                            // SAFETY: this head belongs to this task.
                            unsafe { store(s, dx, &self.dx, range) };
                            of_dt = s.mul_add(x, along_b, of_dt);
                            of_a = s.add(of_a, along_h);
                            s.store(s.mul_add(dy, x, s.load(&sums[k].1)), &mut sums[k].1);
                        }
                        let through = s.mul(decay, of_a);
                        let ddt = s.sum(s.mul_add(through, s.splat(a[head]), of_dt));
                        // SAFETY: this head belongs to this task.
                        unsafe { self.ddt.slice(row * n_heads + head..row * n_heads + head + 1) }.fill(ddt);
                        s.store(s.mul_add(through, dt, s.load(&sums[k].0)), &mut sums[k].0);
                    }
                }
                for (t, row) in rows.enumerate() {
                    let at = self.part + row * narrow + self.group * n_state;
                    let of_parts = self.scan.b.len();
                    // SAFETY: these rows of this group in this part belong to this task.
                    let db = unsafe { self.parts.slice(at..at + n_state) };
                    // SAFETY: as above.
                    let dc = unsafe { self.parts.slice(at + of_parts..at + of_parts + n_state) };
                    for j in 0..n_state {
                        db[j] = s.sum(s.load(&of_b[t * n_state + j]));
                        dc[j] = s.sum(s.load(&of_c[t * n_state + j]));
                    }
                }
            }
        }
        for (head, (da, dd)) in self.heads.clone().zip(&sums) {
            // SAFETY: this head belongs to this task.
            unsafe { self.da.slice(head..head + 1) }.fill(s.sum(s.load(da)));
            // SAFETY: as above.
            unsafe { self.dd.slice(head..head + 1) }.fill(s.sum(s.load(dd)));
        }
    }
}

/// The places of up to sixteen channels of a row's head.
#[inline(always)]
fn channels(row_and_head: usize, head_dim: usize, block: usize) -> std::ops::Range<usize> {
    let start = row_and_head * head_dim;
    start + block * LANES..start + ((block + 1) * LANES).min(head_dim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{Rng, assert_close};

    #[test]
    fn gradients_agree_with_plain_loops_and_do_not_depend_on_threads() {
        let mut rng = Rng::seeded(75);
        let lens = [3, 70, 1, 33];
        let n_rows: usize = lens.iter().sum();
        for (n_heads, p, n_groups, n) in [(1, 1, 1, 1), (6, 20, 2, 5), (10, 16, 1, 8)] {
            let wide = |x: &[f32], i: usize| f64::from(x[i]);
            let (x, dy) = (rng.normals(n_rows * n_heads * p), rng.normals(n_rows * n_heads * p));
            let dt: Vec<f32> = rng.normals(n_rows * n_heads).iter().map(|x| x.abs() * 0.3).collect();
            let a: Vec<f32> = rng.normals(n_heads).iter().map(|x| -x.abs() - 0.1).collect();
            let narrow = n_groups * n;
            let (b, c, d) =
                (rng.normals(n_rows * narrow), rng.normals(n_rows * narrow), rng.normals(n_heads));
            let sizes = [x.len(), dt.len(), b.len(), b.len(), n_heads, n_heads];
            let mut want = sizes.map(|n| vec![0.0_f64; n]);
            let (mut seqs, mut start) = (Vec::new(), 0);
            for (slot, len) in lens.into_iter().enumerate() {
                let rows = start..start + len;
                seqs.push(ScanSeq { rows: rows.clone(), slot });
                start += len;
                for (head, i, j) in (0..n_heads).flat_map(|h| (0..p * n).map(move |at| (h, at / n, at % n))) {
                    let group = head / (n_heads / n_groups);
                    let decay = |t: usize| (wide(&dt, t * n_heads + head) * wide(&a, head)).exp();
                    let at = |t: usize| (t * n_heads + head) * p + i;
                    let place = |t: usize| t * narrow + group * n + j;
                    let mut h = vec![0.0];
                    for t in rows.clone() {
                        let step = wide(&dt, t * n_heads + head) * wide(&x, at(t));
                        h.push(decay(t) * h.last().unwrap() + step * wide(&b, place(t)));
                    }
                    let mut carried = 0.0;
                    for (k, t) in rows.clone().enumerate().rev() {
                        let step = wide(&dt, t * n_heads + head);
                        let g = wide(&c, place(t)) * wide(&dy, at(t)) + carried;
                        let through = g * decay(t) * h[k];
                        want[0][at(t)] += g * step * wide(&b, place(t));
                        want[1][t * n_heads + head] +=
                            through * wide(&a, head) + g * wide(&b, place(t)) * wide(&x, at(t));
                        want[2][place(t)] += g * step * wide(&x, at(t));
                        want[3][place(t)] += wide(&dy, at(t)) * h[k + 1];
                        want[4][head] += through * step;
                        if j == 0 {
                            want[0][at(t)] += wide(&d, head) * wide(&dy, at(t));
                            want[5][head] += wide(&dy, at(t)) * wide(&x, at(t));
                        }
                        carried = decay(t) * g;
                    }
                }
            }
            let scan = SsdScan {
                x: &x,
                dt: &dt,
                a: &a,
                b: &b,
                c: &c,
                d: Some(&d),
                n_heads,
                head_dim: p,
                n_groups,
                n_state: n,
            };
            for isa in Isa::all_here() {
                let run = |threads| {
                    let mut got = sizes.map(|n| vec![f32::NAN; n]);
                    let [dx, ddt, db, dc, da, dd] = &mut got;
                    let grads = ScanGrads { dx, ddt, db, dc, da, dd };
                    ssd_scan_grad(isa, &Pool::new(threads), &scan, &seqs, &dy, grads);
                    got
                };
                let got = run(1);
                for (got, want) in got.iter().zip(&want) {
                    let want: Vec<f32> = want.iter().map(|&x| x as f32).collect();
                    assert_close(got, &want, 5e-4, 5e-5); // sums of up to 10,000 products
                }
                assert_eq!(got, run(3));
            }
        }
    }
}
