//! From the tokens of a sequence to one vector: sentence embeddings.
//!
//! Source: Reimers & Gurevych 2019, arXiv:1908.10084, §3.

use wootz_kernels::Divided;

use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::softmax::DividedGrad;
use crate::ops::{Backward, Operator, arity};
use crate::shape::{Axis, Dim, Type};
use crate::Result;

/// Which tokens speak for a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all.
    Mean,
    /// The largest number of each column.
    Max,
    /// The first.
    Cls,
    /// The last.
    Last,
}

/// One row for each sequence.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Pooling);

/// The gradient of one row for each sequence, given to the rows that spoke for it: of equal largest numbers, the first.
#[derive(Clone, Debug)]
pub(crate) struct PoolGrad(Pooling);

/// `y = x / max(‖x‖, 1e-12)`.
#[derive(Clone, Debug)]
pub(crate) struct Normalize;

impl Graph<'_> {
    /// `x` (T, C) → (B, C). A sequence without tokens gives zeros.
    pub fn pool(&mut self, x: Value, pooling: Pooling) -> Result<Value> {
        self.push(Pool(pooling).into(), &[x])
    }

    /// Each row divided by its length.
    pub fn normalize(&mut self, x: Value) -> Result<Value> {
        self.push(Normalize.into(), &[x])
    }
}

impl Operator for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn detail(&self) -> String {
        format!("{:?}", self.0).to_lowercase()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x] = arity(inputs)?;
        match x.shape.rows() {
            Some((Axis::Tokens, 1)) => Ok(Type::f32((Dim::Rows(Axis::Sequences, 1), x.shape.inner()))),
            _ => Err(format!("expected rows (T, C), got {}", x.shape)),
        }
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        Ok(vec![Some(g.push(PoolGrad(self.0).into(), &[at.dy, at.inputs[0]])?)])
    }

    /// Column by column.
    fn reference(&self, run: &mut RefRun) {
        let (x, width) = (run.input(0), run.out_ty.shape.inner());
        for (b, seq) in run.batch.sequences.iter().enumerate() {
            for c in 0..width {
                let column: Vec<f64> = seq.rows.clone().map(|t| x[t * width + c]).collect();
                run.out[b * width + c] = match (self.0, &column[..]) {
                    (_, []) => 0.0,
                    (Pooling::Mean, column) => column.iter().sum::<f64>() / column.len() as f64,
                    (Pooling::Max, column) => column.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    (Pooling::Cls, [first, ..]) => *first,
                    (Pooling::Last, [.., last]) => *last,
                };
            }
        }
    }

    /// Row by row.
    fn cpu(&self, run: &mut CpuRun) {
        let (x, width) = (run.f32(0), run.out_ty.shape.inner());
        for (seq, y) in run.batch.sequences.iter().zip(run.out.chunks_exact_mut(width)) {
            let mut rows = x[seq.rows.start * width..seq.rows.end * width].chunks_exact(width);
            let chosen = if self.0 == Pooling::Last { rows.next_back() } else { rows.next() };
            let Some(chosen) = chosen else {
                y.fill(0.0);
                continue;
            };
            y.copy_from_slice(chosen);
            for row in rows {
                match self.0 {
                    Pooling::Mean => y.iter_mut().zip(row).for_each(|(y, x)| *y += x),
                    Pooling::Max => y.iter_mut().zip(row).for_each(|(y, x)| *y = y.max(*x)),
                    Pooling::Cls | Pooling::Last => {}
                }
            }
            if self.0 == Pooling::Mean {
                y.iter_mut().for_each(|y| *y /= seq.rows.len() as f32);
            }
        }
    }
}

impl Operator for PoolGrad {
    fn name(&self) -> &'static str {
        "pool_grad"
    }

    fn detail(&self) -> String {
        format!("{:?}", self.0).to_lowercase()
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[1])
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, x, width) = (run.input(0), run.input(1), run.out_ty.shape.inner());
        run.out.fill(0.0);
        for (b, seq) in run.batch.sequences.iter().enumerate().filter(|(_, seq)| !seq.rows.is_empty()) {
            for c in 0..width {
                let dy = dy[b * width + c];
                match self.0 {
                    Pooling::Mean => {
                        seq.rows.clone().for_each(|t| run.out[t * width + c] = dy / seq.rows.len() as f64);
                    }
                    Pooling::Max => {
                        let greater = |best: usize, t: usize| x[t * width + c] > x[best * width + c];
                        let best = seq.rows.clone().reduce(|best, t| if greater(best, t) { t } else { best });
                        run.out[best.expect("it has rows") * width + c] = dy;
                    }
                    Pooling::Cls => run.out[seq.rows.start * width + c] = dy,
                    Pooling::Last => run.out[(seq.rows.end - 1) * width + c] = dy,
                }
            }
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (dy, x, width) = (run.f32(0), run.f32(1), run.out_ty.shape.inner());
        run.out.fill(0.0);
        for (seq, dy) in run.batch.sequences.iter().zip(dy.chunks_exact(width)) {
            let rows = seq.rows.start * width..seq.rows.end * width;
            let (x, dx) = (&x[rows.clone()], &mut run.out[rows]);
            if dx.is_empty() {
                continue;
            }
            match self.0 {
                Pooling::Mean => {
                    let share = 1.0 / seq.rows.len() as f32;
                    for dx in dx.chunks_exact_mut(width) {
                        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy * share);
                    }
                }
                Pooling::Max => {
                    let mut best = vec![0; width];
                    for (t, row) in x.chunks_exact(width).enumerate() {
                        for (c, best) in best.iter_mut().enumerate() {
                            *best = if row[c] > x[*best * width + c] { t } else { *best };
                        }
                    }
                    best.iter().enumerate().for_each(|(c, t)| dx[t * width + c] = dy[c]);
                }
                Pooling::Cls => dx[..width].copy_from_slice(dy),
                Pooling::Last => {
                    let last = dx.len() - width;
                    dx[last..].copy_from_slice(dy);
                }
            }
        }
    }
}

impl Operator for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        arity::<1>(inputs).map(|[x]| x)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let inputs = [at.dy, at.output, at.inputs[0]];
        Ok(vec![Some(g.push(DividedGrad(Divided::ByLength).into(), &inputs)?)])
    }

    fn reference(&self, run: &mut RefRun) {
        let width = run.width(0);
        for (x, y) in run.input(0).chunks_exact(width).zip(run.out.chunks_exact_mut(width)) {
            let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x / norm);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let width = run.width(0);
        for (x, y) in run.f32(0).chunks_exact(width).zip(run.out.chunks_exact_mut(width)) {
            let norm = x.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x / norm);
        }
    }
}
