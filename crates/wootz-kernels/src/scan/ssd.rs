//! Mamba-2's scan: heads of `P` channels share one decay, `h = exp(Δ·A)·h + Δ·x·Bᵀ`, `y = h·C + D·x`.

use super::{ScanSeq, check_seqs, load, store};
use crate::isa::Kernel;
use crate::pool::SharedSlice;
use crate::simd::{LANES, Simd};
use crate::{Isa, Pool};

/// The scan's rows and constants, for `H` heads of `P` with states of `N`, in `G` groups.
#[derive(Clone, Copy, Debug)]
pub struct SsdScan<'a> {
    /// `(T, H·P)`
    pub x: &'a [f32],
    /// `(T, H)`: step sizes, positive (after soft-plus).
    pub dt: &'a [f32],
    /// `(H)`, negative.
    pub a: &'a [f32],
    /// `(T, G·N)`; head `h` uses group `h / (H / G)`.
    pub b: &'a [f32],
    /// `(T, G·N)`
    pub c: &'a [f32],
    /// `(H)`
    pub d: Option<&'a [f32]>,
    /// `H`
    pub n_heads: usize,
    /// `P`
    pub head_dim: usize,
    /// `G`
    pub n_groups: usize,
    /// `N`
    pub n_state: usize,
}

/// Scans every sequence from its state and carries the state on. `states` is `(slots, H, N, P)`, `out` `(T, H·P)`.
pub fn ssd_scan(
    isa: Isa,
    pool: &Pool,
    scan: &SsdScan<'_>,
    seqs: &[ScanSeq],
    states: &mut [f32],
    out: &mut [f32],
) {
    let SsdScan { x, dt, a, b, c, d, n_heads, head_dim, n_groups, n_state } = *scan;
    assert!(
        n_heads > 0 && head_dim > 0 && n_state > 0,
        "ssd_scan: {n_heads} heads of {head_dim} by {n_state}"
    );
    assert!(
        n_groups > 0 && n_heads.is_multiple_of(n_groups),
        "ssd_scan: {n_heads} heads in {n_groups} groups"
    );
    let n_rows = x.len() / (n_heads * head_dim);
    assert_eq!(x.len(), n_rows * n_heads * head_dim, "ssd_scan: `x` has rows of {}", n_heads * head_dim);
    assert_eq!((dt.len(), out.len()), (n_rows * n_heads, x.len()), "ssd_scan: lengths of `dt` and `out`");
    let narrow = n_rows * n_groups * n_state;
    assert_eq!(
        (b.len(), c.len()),
        (narrow, narrow),
        "ssd_scan: `b` and `c` are ({n_rows}, {})",
        n_groups * n_state
    );
    assert!(
        a.len() == n_heads && d.is_none_or(|d| d.len() == n_heads),
        "ssd_scan: `a`, `d` for each of {n_heads} heads"
    );
    let state_len = n_heads * n_state * head_dim;
    assert!(states.len().is_multiple_of(state_len), "ssd_scan: states of {state_len}");
    check_seqs("ssd_scan", seqs, n_rows, states.len() / state_len);
    let (states, out) = (SharedSlice::new(states), SharedSlice::new(out));
    pool.run(seqs.len() * n_heads, |task| {
        isa.run(Body { scan, seq: &seqs[task / n_heads], head: task % n_heads, states, out });
    });
}

struct Body<'a> {
    scan: &'a SsdScan<'a>,
    seq: &'a ScanSeq,
    head: usize,
    states: SharedSlice<'a, f32>,
    out: SharedSlice<'a, f32>,
}

impl Kernel for Body<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SsdScan { x, dt, a, b, c, d, n_heads, head_dim, n_groups, n_state } = *self.scan;
        let head = self.head;
        let group = head / (n_heads / n_groups);
        let state_at = (self.seq.slot * n_heads + head) * n_state * head_dim;
        // SAFETY: this sequence's state of this head belongs to this task.
        let state = unsafe { self.states.slice(state_at..state_at + n_state * head_dim) };
        for row in self.seq.rows.clone() {
            let dt = dt[row * n_heads + head];
            let decay = s.splat((dt * a[head]).exp());
            let skip = s.splat(d.map_or(0.0, |d| d[head]));
            let (b, c) = (
                &b[(row * n_groups + group) * n_state..][..n_state],
                &c[(row * n_groups + group) * n_state..][..n_state],
            );
            let start = (row * n_heads + head) * head_dim;
            for first in (0..head_dim).step_by(LANES) {
                let n = LANES.min(head_dim - first);
                let x = load(s, &x[start + first..start + first + n]);
                let step = s.mul(s.splat(dt), x);
                let mut y = s.mul(skip, x);
                for j in 0..n_state {
                    let h = &mut state[j * head_dim + first..j * head_dim + first + n];
                    let new = s.mul_add(step, s.splat(b[j]), s.mul(decay, load(s, h)));
                    match h.first_chunk_mut::<LANES>() {
                        Some(h) => s.store(new, h),
                        None => s.store_part(new, h),
                    }
                    y = s.mul_add(new, s.splat(c[j]), y);
                }
                // SAFETY: this sequence's rows of this head belong to this task.
                unsafe { store(s, y, &self.out, start + first..start + first + n) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::test_rng::{Rng, assert_close};

    #[test]
    fn the_scan_agrees_with_its_recurrence_in_any_chunks() {
        let mut rng = Rng::seeded(73);
        let n_rows = 8;
        for (n_heads, head_dim, n_groups, n_state) in [(1, 1, 1, 1), (4, 20, 2, 16), (3, 64, 1, 7)] {
            let (wide, narrow) = (n_heads * head_dim, n_groups * n_state);
            let x = rng.normals(n_rows * wide);
            let dt: Vec<f32> = rng.normals(n_rows * n_heads).iter().map(|x| x.abs() * 0.3).collect();
            let a: Vec<f32> = rng.normals(n_heads).iter().map(|x| -x.abs() - 0.1).collect();
            let (b, c, d) =
                (rng.normals(n_rows * narrow), rng.normals(n_rows * narrow), rng.normals(n_heads));
            let mut want = vec![0.0; x.len()];
            for head in 0..n_heads {
                let group = head / (n_heads / n_groups);
                for p in 0..head_dim {
                    let mut h = vec![0.0_f64; n_state];
                    for t in 0..n_rows {
                        let xt = f64::from(x[t * wide + head * head_dim + p]);
                        let dt = f64::from(dt[t * n_heads + head]);
                        let mut y = f64::from(d[head]) * xt;
                        for (j, h) in h.iter_mut().enumerate() {
                            let at = t * narrow + group * n_state + j;
                            *h = (dt * f64::from(a[head])).exp() * *h + dt * xt * f64::from(b[at]);
                            y += *h * f64::from(c[at]);
                        }
                        want[t * wide + head * head_dim + p] = y as f32;
                    }
                }
            }
            for isa in Isa::all_here() {
                let pool = Pool::new(2);
                let run = |rows: Range<usize>, states: &mut [f32]| {
                    let part = |x: &[f32], len: usize| x[rows.start * len..rows.end * len].to_vec();
                    let (x, dt) = (part(&x, wide), part(&dt, n_heads));
                    let (b, c) = (part(&b, narrow), part(&c, narrow));
                    let d = Some(&d[..]);
                    let scan = SsdScan {
                        x: &x,
                        dt: &dt,
                        a: &a,
                        b: &b,
                        c: &c,
                        d,
                        n_heads,
                        head_dim,
                        n_groups,
                        n_state,
                    };
                    let mut out = vec![0.0; x.len()];
                    ssd_scan(
                        isa,
                        &pool,
                        &scan,
                        &[ScanSeq { rows: 0..rows.len(), slot: 1 }],
                        states,
                        &mut out,
                    );
                    out
                };
                let all = run(0..n_rows, &mut vec![0.0; 2 * wide * n_state]);
                assert_close(&all, &want, 2e-5, 2e-5);
                let mut states = vec![0.0; 2 * wide * n_state];
                let mut parts = run(0..3, &mut states);
                parts.extend(run(3..4, &mut states));
                parts.extend(run(4..n_rows, &mut states));
                assert_eq!(parts, all);
            }
        }
    }
}
