//! Log-probabilities of tokens from rows and a head, and their gradients, without all logits at once.
//!
//! Where:  the end of every training step, by way of the `cpu` device.
//! Idea:   logits of some rows are made, reduced and forgotten. The backward pass makes them once more and takes the gradients of
//!         rows, head and bias from them together: three products in all. Rows whose gradient is zero are left out.
//! Source: Wijmans et al. 2024, arXiv:2411.09009, does the same on GPUs.

use crate::cast::cast_mut;
use crate::isa::Kernel;
use crate::linear::{LinearPart, linear, linear_input_grad, linear_weight_grad};
use crate::rows::sum_rows;
use crate::simd::{LANES, Simd, math};
use crate::{Isa, PackedMatrix, Pool};

/// Bytes of logits that exist at the same time, if that is [`MIN_ROWS`] rows at least.
const BYTES: usize = 32 << 20;
const MIN_ROWS: usize = 32;
const MAX_ROWS: usize = 512;

/// From rows to logits: `z = cap·tanh(scale·(x·Wᵀ + bias) / cap)`.
#[derive(Clone, Copy)]
pub struct LogitHead<'a> {
    /// `(V, C)`
    pub weight: &'a PackedMatrix,
    /// `(V)`
    pub bias: Option<&'a [f32]>,
    /// Multiplies logits.
    pub scale: f32,
    /// Keeps them within ±cap after that.
    pub softcap: Option<f32>,
}

/// Where gradients go. All are overwritten, or added to.
#[derive(Debug, Default)]
pub struct LogprobGrads<'a> {
    /// `(T, C)`, always overwritten.
    pub dx: Option<&'a mut [f32]>,
    /// `(V, C)`
    pub dw: Option<&'a mut [f32]>,
    /// `(V)`
    pub db: Option<&'a mut [f32]>,
    /// Whether `dw` and `db` are added to.
    pub accumulate: bool,
}

impl LogitHead<'_> {
    /// Rows whose logits exist at the same time: a function of `V` alone, because additions into `dw` depend on it.
    fn rows(&self) -> usize {
        (BYTES / (4 * self.weight.n())).clamp(MIN_ROWS, MAX_ROWS)
    }

    /// Raw logits of `x`'s rows.
    fn raw(&self, isa: Isa, pool: &Pool, x: &[f32], z: &mut [f32]) {
        let (weight, bias) = (self.weight, self.bias);
        linear(isa, pool, x, x.len() / weight.k(), &mut [LinearPart { weight, bias, out: z }]);
    }

    fn check(&self, what: &str, x: &[f32], targets: &[u32]) -> (usize, usize) {
        let n_rows = x.len() / self.weight.k();
        assert_eq!(x.len(), n_rows * self.weight.k(), "{what}: rows of {}", self.weight.k());
        let k = targets.len().checked_div(n_rows).unwrap_or(0);
        assert_eq!(targets.len(), n_rows * k, "{what}: as many targets for each of {n_rows} rows");
        let all_there = targets.iter().all(|&id| (id as usize) < self.weight.n());
        assert!(all_there, "{what}: a target is past the {} logits", self.weight.n());
        (n_rows, k)
    }
}

/// `out[t, i] = z[targets[t, i]] − ln Σᵥ exp(z[v])` for `x` `(T, C)`, `targets` `(T, k)`, in nats.
pub fn token_logprobs(isa: Isa, pool: &Pool, head: &LogitHead, x: &[f32], targets: &[u32], out: &mut [f32]) {
    let (n_rows, k) = head.check("token_logprobs", x, targets);
    assert_eq!(out.len(), targets.len(), "token_logprobs: a result for each target");
    if targets.is_empty() {
        return;
    }
    let (width, vocab_size, step) = (head.weight.k(), head.weight.n(), head.rows().min(n_rows));
    pool.with_scratch(4 * step * vocab_size, |bytes| {
        let z = cast_mut::<f32>(bytes).expect("scratch space is aligned");
        for ((x, targets), out) in
            x.chunks(step * width).zip(targets.chunks(step * k)).zip(out.chunks_mut(step * k))
        {
            let z = &mut z[..x.len() / width * vocab_size];
            head.raw(isa, pool, x, z);
            let z = crate::pool::SharedSlice::new(z);
            pool.rows(out, k, 1, |t, out| {
                // SAFETY: every row is one task's.
                let z = unsafe { z.slice(t * vocab_size..(t + 1) * vocab_size) };
                isa.run(Logprobs { head, z, targets: &targets[t * k..(t + 1) * k], out });
            });
        }
    });
}

/// The gradients of [`token_logprobs`], given those of its results, `dy` `(T, k)`.
pub fn token_logprobs_grad(
    isa: Isa,
    pool: &Pool,
    head: &LogitHead,
    x: &[f32],
    targets: &[u32],
    dy: &[f32],
    mut grads: LogprobGrads<'_>,
) {
    let (n_rows, k) = head.check("token_logprobs_grad", x, targets);
    assert_eq!(dy.len(), targets.len(), "token_logprobs_grad: a gradient for each target");
    let (width, vocab_size) = (head.weight.k(), head.weight.n());
    assert!(grads.dx.as_ref().is_none_or(|dx| dx.len() == x.len()), "token_logprobs_grad: length of `dx`");
    assert!(grads.dw.as_ref().is_none_or(|dw| dw.len() == vocab_size * width), "token_logprobs_grad: `dw`");
    assert!(grads.db.as_ref().is_none_or(|db| db.len() == vocab_size), "token_logprobs_grad: `db`");
    let learns = |t: &usize| dy[t * k..(t + 1) * k].iter().any(|&dy| dy != 0.0);
    let rows: Vec<usize> = (0..n_rows).filter(learns).collect();
    if let Some(dx) = grads.dx.as_deref_mut().filter(|_| rows.len() < n_rows) {
        dx.fill(0.0);
    }
    if rows.is_empty() && !grads.accumulate {
        [grads.dw.take(), grads.db.take()].into_iter().flatten().for_each(|grad| grad.fill(0.0));
    }
    if rows.is_empty() {
        return;
    }
    let step = head.rows().min(rows.len());
    pool.with_scratch(4 * step * (vocab_size + 2 * width), |bytes| {
        let scratch = cast_mut::<f32>(bytes).expect("scratch space is aligned");
        let (z, scratch) = scratch.split_at_mut(step * vocab_size);
        let (some_x, some_dx) = scratch.split_at_mut(step * width);
        for (i, rows) in rows.chunks(step).enumerate() {
            // Rows that lie in a row are read and written where they are.
            let together = rows[rows.len() - 1] - rows[0] + 1 == rows.len();
            let at = rows[0] * width..(rows[0] + rows.len()) * width;
            let x = match together {
                true => &x[at.clone()],
                false => {
                    for (some, row) in some_x.chunks_exact_mut(width).zip(rows) {
                        some.copy_from_slice(&x[row * width..][..width]);
                    }
                    &some_x[..rows.len() * width]
                }
            };
            let z = &mut z[..rows.len() * vocab_size];
            head.raw(isa, pool, x, z);
            pool.rows(z, vocab_size, 1, |i, z| {
                let of_row = rows[i] * k..(rows[i] + 1) * k;
                isa.run(Gradient { head, z, targets: &targets[of_row.clone()], dy: &dy[of_row] });
            });
            let accumulate = grads.accumulate || i > 0;
            if let Some(dx) = &mut grads.dx {
                let out = if together { &mut dx[at] } else { &mut some_dx[..rows.len() * width] };
                linear_input_grad(isa, pool, z, rows.len(), head.weight, out, false);
                if !together {
                    for (some, row) in some_dx.chunks_exact(width).zip(rows) {
                        dx[row * width..][..width].copy_from_slice(some);
                    }
                }
            }
            if let Some(dw) = &mut grads.dw {
                linear_weight_grad(isa, pool, x, z, rows.len(), head.weight.grad_precision(), dw, accumulate);
            }
            if let Some(db) = &mut grads.db {
                sum_rows(isa, pool, z, db, accumulate);
            }
        }
    });
}

/// One row's raw logits, overwritten.
struct Logprobs<'a> {
    head: &'a LogitHead<'a>,
    z: &'a mut [f32],
    targets: &'a [u32],
    out: &'a mut [f32],
}

impl Kernel for Logprobs<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        transform(s, self.head, self.z);
        let (max, sum) = max_and_sum(s, self.z);
        let log_sum = sum.ln();
        for (out, &target) in self.out.iter_mut().zip(self.targets) {
            *out = self.z[target as usize] - max - log_sum;
        }
    }
}

/// One row's raw logits, which become their gradient: `scale·slope(z)·(Σᵢ dyᵢ·onehotᵢ − p·Σᵢ dyᵢ)`.
struct Gradient<'a> {
    head: &'a LogitHead<'a>,
    z: &'a mut [f32],
    targets: &'a [u32],
    dy: &'a [f32],
}

impl Kernel for Gradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let LogitHead { scale, softcap, .. } = *self.head;
        transform(s, self.head, self.z);
        let (max, sum) = max_and_sum(s, self.z);
        let slope = |z: f32| scale * softcap.map_or(1.0, |cap| 1.0 - (z / cap) * (z / cap));
        let mut slopes = [0.0; 8];
        // Slopes of the targets before logits are overwritten; of more targets than fit, one chunk after the other below.
        let few = self.targets.len() <= slopes.len();
        let many: Vec<f32> = match few {
            true => {
                slopes.iter_mut().zip(self.targets).for_each(|(slot, &t)| *slot = slope(self.z[t as usize]));
                Vec::new()
            }
            false => self.targets.iter().map(|&t| slope(self.z[t as usize])).collect(),
        };
        let slopes = if few { &slopes[..self.targets.len()] } else { &many };
        let factor = s.splat(-self.dy.iter().sum::<f32>() * scale / sum);
        let max = s.splat(max);
        let inverse_cap = s.splat(softcap.map_or(0.0, |cap| 1.0 / cap));
        let one = s.splat(1.0);
        let (body, tail) = self.z.as_chunks_mut::<LANES>();
        for z in body {
            let value = s.load(z);
            let share = s.mul(factor, math::exp(s, s.sub(value, max)));
            let capped = s.mul(value, inverse_cap);
            s.store(s.mul(share, s.sub(one, s.mul(capped, capped))), z);
        }
        if !tail.is_empty() {
            let value = s.load_part(tail, 0.0);
            let share = s.mul(factor, math::exp(s, s.sub(value, max)));
            let capped = s.mul(value, inverse_cap);
            s.store_part(s.mul(share, s.sub(one, s.mul(capped, capped))), tail);
        }
        for ((&target, dy), slope) in self.targets.iter().zip(self.dy).zip(slopes) {
            self.z[target as usize] += dy * slope;
        }
    }
}

/// Scales and caps raw logits.
#[inline(always)]
fn transform<S: Simd>(s: S, head: &LogitHead, z: &mut [f32]) {
    let (body, tail) = z.as_chunks_mut::<LANES>();
    if let Some(cap) = head.softcap {
        let (inner, outer) = (s.splat(head.scale / cap), s.splat(cap));
        for z in body {
            s.store(s.mul(outer, math::tanh(s, s.mul(s.load(z), inner))), z);
        }
        if !tail.is_empty() {
            s.store_part(s.mul(outer, math::tanh(s, s.mul(s.load_part(tail, 0.0), inner))), tail);
        }
    } else if head.scale != 1.0 {
        let scale = s.splat(head.scale);
        for z in body {
            s.store(s.mul(s.load(z), scale), z);
        }
        if !tail.is_empty() {
            s.store_part(s.mul(s.load_part(tail, 0.0), scale), tail);
        }
    }
}

/// The greatest number, and the sum of the exponentials of the distances to it.
#[inline(always)]
fn max_and_sum<S: Simd>(s: S, z: &[f32]) -> (f32, f32) {
    const LOW: f32 = f32::NEG_INFINITY;
    let (body, tail) = z.as_chunks::<LANES>();
    let mut greatest = s.splat(LOW);
    for z in body {
        greatest = s.max(greatest, s.load(z));
    }
    greatest = s.max(greatest, s.load_part(tail, LOW));
    let max = s.max_lane(greatest);
    let at = s.splat(max);
    let mut sums = [s.splat(0.0); 4];
    let (fours, rest) = body.as_chunks::<4>();
    for four in fours {
        for i in 0..4 {
            sums[i] = s.add(sums[i], math::exp(s, s.sub(s.load(&four[i]), at)));
        }
    }
    for z in rest {
        sums[0] = s.add(sums[0], math::exp(s, s.sub(s.load(z), at)));
    }
    sums[1] = s.add(sums[1], math::exp(s, s.sub(s.load_part(tail, LOW), at)));
    (max, s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::bytes_of;
    use crate::test_rng::{Rng, assert_close};
    use crate::{Packing, Precision, TensorType};

    /// Results, and the gradients of rows, head and bias, in f64.
    struct Plain {
        out: Vec<f32>,
        dx: Vec<f32>,
        dw: Vec<f32>,
        db: Vec<f32>,
    }

    fn plain(
        (w, b, c): (&[f32], &[f32], usize),
        (scale, softcap): (f32, Option<f32>),
        x: &[f32],
        targets: &[u32],
        dy: &[f32],
    ) -> Plain {
        let (n_rows, v) = (x.len() / c, b.len());
        let k = targets.len() / n_rows;
        let mut out = Vec::new();
        let (mut dx, mut dw, mut db) = (vec![0.0_f64; x.len()], vec![0.0_f64; w.len()], vec![0.0_f64; v]);
        for t in 0..n_rows {
            let x = &x[t * c..][..c];
            let dot = |w: &[f32]| w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>();
            let cap = |z: f64| softcap.map_or(z, |cap| f64::from(cap) * (z / f64::from(cap)).tanh());
            let slope =
                |z: f64| softcap.map_or(1.0, |cap| 1.0 - (z / f64::from(cap)).powi(2)) * f64::from(scale);
            let z: Vec<f64> =
                (0..v).map(|i| cap((dot(&w[i * c..][..c]) + f64::from(b[i])) * f64::from(scale))).collect();
            let log_sum = z.iter().map(|z| z.exp()).sum::<f64>().ln();
            let mut dz = vec![0.0; v];
            for (&target, dy) in targets[t * k..][..k].iter().zip(&dy[t * k..]) {
                out.push((z[target as usize] - log_sum) as f32);
                for i in 0..v {
                    let hit = f64::from(u8::from(i == target as usize));
                    dz[i] += f64::from(*dy) * (hit - (z[i] - log_sum).exp()) * slope(z[i]);
                }
            }
            for i in 0..v {
                db[i] += dz[i];
                for j in 0..c {
                    dx[t * c + j] += dz[i] * f64::from(w[i * c + j]);
                    dw[i * c + j] += dz[i] * f64::from(x[j]);
                }
            }
        }
        let [dx, dw, db] = [dx, dw, db].map(|grad| grad.iter().map(|&x| x as f32).collect());
        Plain { out, dx, dw, db }
    }

    #[test]
    fn log_probabilities_and_gradients_agree_with_plain_ones() {
        let mut rng = Rng::seeded(81);
        let pool = Pool::new(2);
        // The second has more rows than logits of which fit.
        for (n_rows, c, v, k) in [(1, 3, 5, 1), (600, 4, 37, 1), (7, 20, 100, 3), (3, 9, 40, 11)] {
            let (x, w, b) = (rng.normals(n_rows * c), rng.normals(v * c), rng.normals(v));
            let targets: Vec<u32> = (0..n_rows * k).map(|_| (rng.next_u64() % v as u64) as u32).collect();
            let packing = Packing { pool: &pool, precision: Precision::Exact, slab: None };
            let weight = packing.pack(TensorType::F32, v, c, bytes_of(&w));
            for learning in ["all", "some", "none"] {
                let mut dy = rng.normals(n_rows * k);
                for (t, dy) in dy.chunks_exact_mut(k).enumerate() {
                    if learning == "none" || learning == "some" && t % 3 == 1 {
                        dy.fill(0.0);
                    }
                }
                for transform in [(1.0, None), (0.5, None), (1.5, Some(2.0))] {
                    let want = plain((&w, &b, c), transform, &x, &targets, &dy);
                    let (scale, softcap) = transform;
                    let head = LogitHead { weight: &weight, bias: Some(&b), scale, softcap };
                    for isa in Isa::all_here() {
                        let mut out = vec![f32::NAN; n_rows * k];
                        token_logprobs(isa, &pool, &head, &x, &targets, &mut out);
                        assert_close(&out, &want.out, 1e-5, 1e-5);
                        let mut got = [x.len(), w.len(), v].map(|n| vec![f32::NAN; n]);
                        let [dx, dw, db] = &mut got;
                        let grads =
                            LogprobGrads { dx: Some(dx), dw: Some(dw), db: Some(db), accumulate: false };
                        token_logprobs_grad(isa, &pool, &head, &x, &targets, &dy, grads);
                        assert_close(&got[0], &want.dx, 1e-5, 1e-5);
                        assert_close(&got[1], &want.dw, 1e-4, 1e-4); // sums over 600 rows
                        assert_close(&got[2], &want.db, 1e-4, 1e-4);
                        let mut twice = got[1].clone();
                        let grads =
                            LogprobGrads { dw: Some(&mut twice), accumulate: true, ..Default::default() };
                        token_logprobs_grad(isa, &pool, &head, &x, &targets, &dy, grads);
                        let want: Vec<f32> = got[1].iter().map(|x| 2.0 * x).collect();
                        assert_close(&twice, &want, 1e-5, 1e-5);
                    }
                }
            }
        }
    }
}
