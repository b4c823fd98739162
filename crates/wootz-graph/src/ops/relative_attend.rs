//! Attention whose scores get a learned number for each head and bucket of distances: T5's.
//!
//! Source: Raffel et al. 2020, arXiv:1910.10683, §2.1; the buckets are those of transformers' `_relative_position_bucket`.
//! Elsewhere: attention without such numbers ([`attend`](crate::ops::attend)). There is no state here yet: training and encoders.

use std::ops::Range;

use wootz_kernels::{AttendForward, AttendGrads, RelativeBias};

use crate::Result;
use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::{CpuRun, Out, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::attend::{Attend, Attention, dense_sequences, key_rows};
use crate::ops::{Backward, Operator, Part};
use crate::param::Param;
use crate::shape::Type;

/// Which distances share a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelativeBuckets {
    /// How many there are.
    pub n_buckets: usize,
    /// Distances from here on share the last.
    pub max_distance: usize,
    /// Whether keys after the query have buckets of their own (encoders); otherwise they share that of distance 0.
    pub both_ways: bool,
}

impl RelativeBuckets {
    /// The bucket of `key − query`: half of them for one distance each, the others for ranges that grow by a factor.
    fn of(&self, distance: isize) -> u32 {
        let half = self.n_buckets / 2;
        let (n, first) = match (self.both_ways, distance > 0) {
            (true, true) => (half, half),
            (true, false) => (half, 0),
            (false, _) => (self.n_buckets, 0),
        };
        let distance = if self.both_ways { distance.unsigned_abs() } else { (-distance).max(0) as usize };
        let exact = n / 2;
        if distance < exact {
            return (first + distance) as u32;
        }
        // COMPAT: in f32, as the models were trained with.
        let octaves = (distance as f32 / exact as f32).ln() / (self.max_distance as f64 / exact as f64).ln() as f32;
        let bucket = exact + (octaves * (n - exact) as f32) as usize;
        (first + bucket.min(n - 1)) as u32
    }

    /// The buckets of all distances from `−back` to `ahead`.
    fn table(&self, back: usize, ahead: usize) -> Vec<u32> {
        (-(back as isize)..=ahead as isize).map(|distance| self.of(distance)).collect()
    }

    fn check(&self) -> Result<(), String> {
        let exact = if self.both_ways { self.n_buckets / 4 } else { self.n_buckets / 2 };
        let is_even = self.n_buckets.is_multiple_of(if self.both_ways { 4 } else { 2 });
        match exact > 0 && is_even && self.max_distance > exact && self.n_buckets <= 1 << 16 {
            true => Ok(()),
            false => Err(format!("{self:?}, expected an even number of buckets and a distance past the exact ones")),
        }
    }
}

/// `y[i, h] = Σⱼ softmaxⱼ(scale·q[i, h]·k[j, h·K/H] + table[bucket(j − i), h])·v[j, h·K/H]`.
#[derive(Clone, Debug)]
pub(crate) struct RelativeAttend {
    spec: Attention,
    buckets: RelativeBuckets,
}

/// The gradients of q, k, v and the table, from scores that are made again.
#[derive(Clone, Debug)]
pub(crate) struct RelativeAttendGrad {
    of: RelativeAttend,
    part: Part,
}

impl Graph<'_> {
    /// Attention of `q` (T, H·Dk) over `k` (T, K·Dk) and `v` (T, K·Dv) with `table` (buckets, H) → (T, H·Dv).
    pub fn attend_relative(
        &mut self,
        [q, k, v]: [Value; 3],
        table: Param,
        buckets: RelativeBuckets,
        spec: Attention,
    ) -> Result<Value> {
        let inputs = [q, k, v, self.weight(table)];
        self.push(RelativeAttend { spec, buckets }.into(), &inputs)
    }
}

impl RelativeAttend {
    /// Buckets of all distances that occur in a batch, and where distance 0 stands.
    fn buckets(&self, batch: &Batch, keys: &Type) -> (Vec<u32>, usize) {
        let back = batch.sequences.iter().map(|seq| seq.rows.len()).max().unwrap_or(0);
        let ahead = batch.sequences.iter().map(|seq| key_rows(seq, keys).len()).max().unwrap_or(0);
        (self.buckets.table(back, ahead), back)
    }

    /// What query `i` of a sequence gives to each key that it sees: `(key, bucket, probability)`.
    fn probabilities(
        &self,
        run: &RefRun,
        first: usize,
        (t, i, h): (usize, usize, usize),
        keys: &Range<usize>,
    ) -> Vec<(usize, usize, f64)> {
        let Attention { n_heads, n_kv_heads, d_k, scale, .. } = self.spec;
        let (q, k, table) = (run.input(first), run.input(first + 1), run.input(first + 3));
        let q = &q[(t * n_heads + h) * d_k..][..d_k];
        let mut weights = Vec::new();
        for j in (0..keys.len()).filter(|&j| self.spec.sees(i, j)) {
            let k = &k[((keys.start + j) * n_kv_heads + h * n_kv_heads / n_heads) * d_k..][..d_k];
            let bucket = self.buckets.of(j as isize - i as isize) as usize;
            let product: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
            weights.push((j, bucket, product * f64::from(scale) + table[bucket * n_heads + h]));
        }
        let max = weights.iter().map(|w| w.2).fold(f64::NEG_INFINITY, f64::max);
        weights.iter_mut().for_each(|w| w.2 = (w.2 - max).exp());
        let sum: f64 = weights.iter().map(|w| w.2).sum();
        weights.iter_mut().for_each(|w| w.2 /= sum);
        weights
    }
}

impl Operator for RelativeAttend {
    fn name(&self) -> &'static str {
        "attend_relative"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [q, k, v, table] = inputs else { return Err(format!("expected 4 inputs, got {}", inputs.len())) };
        self.buckets.check()?;
        if self.spec.softcap.is_some() || self.spec.alibi_slopes.is_some() {
            return Err("scores with a learned bias have neither a cap nor slopes".to_owned());
        }
        if table.shape.inner() != self.buckets.n_buckets * self.spec.n_heads {
            let (n, h) = (self.buckets.n_buckets, self.spec.n_heads);
            return Err(format!("expected a table ({n}, {h}), got {}", table.shape));
        }
        Attend { spec: self.spec.clone(), state: None }.infer(&[*q, *k, *v])
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Attend { spec: self.spec.clone(), state: None }.cost(&inputs[..3], output, batch)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let inputs = [&[at.dy, at.output], at.inputs].concat();
        at.parts(g, &inputs, |part| RelativeAttendGrad { of: self.clone(), part }.into())
    }

    fn reference(&self, run: &mut RefRun) {
        let Attention { n_heads, n_kv_heads, d_v, .. } = self.spec;
        run.out.fill(0.0);
        for seq in &run.batch.sequences {
            let keys = key_rows(seq, &run.types[1]);
            for (i, t) in seq.rows.clone().enumerate() {
                for h in 0..n_heads {
                    for (j, _, p) in self.probabilities(run, 0, (t, i, h), &keys) {
                        let at = ((keys.start + j) * n_kv_heads + h * n_kv_heads / n_heads) * d_v;
                        for (c, v) in run.inputs[2][at..][..d_v].iter().enumerate() {
                            run.out[(t * n_heads + h) * d_v + c] += p * v;
                        }
                    }
                }
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (seqs, spec) = (dense_sequences(run.batch, &run.types[1]), self.spec.kernel_spec());
        let (buckets, zero) = self.buckets(run.batch, &run.types[1]);
        let bias = RelativeBias { buckets: &buckets, zero, table: run.f32(3) };
        let rows = [0, 1, 2].map(|i| run.f32(i));
        wootz_kernels::attend_relative(run.isa, run.pool, &spec, &bias, rows, &seqs, run.out);
    }
}

impl Operator for RelativeAttendGrad {
    fn name(&self) -> &'static str {
        "attend_relative_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[2 + self.part.index])
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }

    fn adds(&self) -> bool {
        true
    }

    fn reference(&self, run: &mut RefRun) {
        let Attention { n_heads, n_kv_heads, d_k, d_v, scale, .. } = self.of.spec;
        run.out.fill(0.0);
        for seq in &run.batch.sequences {
            let keys = key_rows(seq, &run.types[3]);
            for (i, t) in seq.rows.clone().enumerate() {
                for h in 0..n_heads {
                    let [dy, y, q, k, v] = [0, 1, 2, 3, 4].map(|i| run.input(i));
                    let query = t * n_heads + h;
                    let (dy, y) = (&dy[query * d_v..][..d_v], &y[query * d_v..][..d_v]);
                    let delta: f64 = dy.iter().zip(y).map(|(dy, y)| dy * y).sum();
                    for (j, bucket, p) in self.of.probabilities(run, 2, (t, i, h), &keys) {
                        let key = (keys.start + j) * n_kv_heads + h * n_kv_heads / n_heads;
                        let dp: f64 = dy.iter().zip(&v[key * d_v..]).map(|(dy, v)| dy * v).sum();
                        let d_score = p * (dp - delta);
                        let mut add = |at: usize, factor: f64, x: &[f64]| {
                            run.out[at..].iter_mut().zip(x).for_each(|(sum, x)| *sum += factor * x);
                        };
                        let scaled = d_score * f64::from(scale);
                        match self.part.index {
                            0 => add(query * d_k, scaled, &k[key * d_k..][..d_k]),
                            1 => add(key * d_k, scaled, &q[query * d_k..][..d_k]),
                            2 => add(key * d_v, p, dy),
                            _ => add(bucket * n_heads + h, d_score, &[1.0]),
                        }
                    }
                }
            }
        }
    }

    fn cpu_parts(&self, run: &CpuRun, outs: Outs) {
        let [d_out, out, q, k, v, table] = [0, 1, 2, 3, 4, 5].map(|i| run.f32(i));
        let (seqs, spec) = (dense_sequences(run.batch, &run.types[3]), self.of.spec.kernel_spec());
        let (buckets, zero) = self.of.buckets(run.batch, &run.types[3]);
        let bias = RelativeBias { buckets: &buckets, zero, table };
        // The kernel adds to all four.
        let mut own: [Vec<f32>; 4] = Default::default();
        let mut places = Vec::with_capacity(4);
        for ((own, out), like) in own.iter_mut().zip(outs).zip([q, k, v, table]) {
            places.push(match out {
                Some(Out { numbers, adds }) => {
                    if !adds {
                        numbers.fill(0.0);
                    }
                    numbers
                }
                None => {
                    *own = vec![0.0; like.len()];
                    &mut own[..]
                }
            });
        }
        let [dq, dk, dv, dtable] = places.try_into().expect("four gradients");
        let forward = AttendForward { q, k, v, out, d_out };
        let grads = AttendGrads { dq, dk, dv };
        wootz_kernels::attend_relative_grad(run.isa, run.pool, &spec, &bias, forward, &seqs, grads, dtable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_transformers() {
        // `T5Attention._relative_position_bucket(torch.tensor([...]), both_ways, 32, 128)`, transformers 5.23.
        let distances = [-200, -128, -127, -64, -33, -16, -9, -8, -7, -1, 0, 1, 7, 8, 11, 12, 90, 91, 127, 300];
        let check = |both_ways: bool, expected: [u32; 20]| {
            let buckets = RelativeBuckets { n_buckets: 32, max_distance: 128, both_ways };
            assert_eq!(distances.map(|distance| buckets.of(distance)), expected);
        };
        check(true, [15, 15, 15, 14, 12, 10, 8, 8, 7, 1, 0, 17, 23, 24, 24, 25, 30, 31, 31, 31]);
        check(false, [31, 31, 31, 26, 21, 16, 9, 8, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
