//! One over the lengths of the rows of a weight with a low-rank change: what DoRA divides its magnitudes by.
//!
//! Idea:   the change is made row by row and forgotten. No gradient passes: the authors hold the norm constant.
//! Source: Liu et al. 2024, arXiv:2402.09353, eq. 5 and §4.3.

use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::{Backward, Operator, Takes, arity};
use crate::param::{Param, ParamKind};
use crate::shape::Type;
use crate::{Result, Shape};

/// `y[i] = 1/‖w[i, :] + scale·Σᵣ b[i, r]·a[r, :]‖`.
#[derive(Clone, Debug)]
pub(crate) struct InverseNorms {
    scale: f32,
}

impl Graph<'_> {
    /// `w` (n, k), `a` (rank, k), `b` (n, rank) → (n).
    pub(crate) fn inverse_norms(&mut self, w: Param, a: Param, b: Param, scale: f32) -> Result<Value> {
        let inputs = [w, a, b].map(|param| self.weight(param));
        self.push(InverseNorms { scale }.into(), &inputs)
    }
}

impl Operator for InverseNorms {
    fn name(&self) -> &'static str {
        "inverse_norms"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [w, a, b] = arity(inputs)?;
        let rows = |ty: &Type| ty.shape.inner() / ty.shape.width();
        let fits = (a.shape.width(), rows(&a), rows(&b)) == (w.shape.width(), b.shape.width(), rows(&w));
        match fits {
            true => Ok(Type::f32(Shape::fixed(&[rows(&w)]))),
            false => Err(format!("{} with a change of {} times {}", w.shape, b.shape, a.shape)),
        }
    }

    fn takes(&self, _input: usize, _inputs: &[Type]) -> Takes {
        Takes::Weight(&[ParamKind::Matrix])
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        let flops = 2.0 * (inputs[0].shape.inner() * (inputs[2].shape.width() + 1)) as f64;
        Cost { flops, ..Cost::elementwise(inputs, output, batch, 0.0) }
    }

    fn gradient(&self, _g: &mut Graph, _at: &Backward) -> Result<Vec<Option<Value>>> {
        Ok(vec![None, None, None])
    }

    fn reference(&self, run: &mut RefRun) {
        let (w, a, b, k, rank) = (run.input(0), run.input(1), run.input(2), run.width(0), run.width(2));
        for (i, y) in run.out.iter_mut().enumerate() {
            let change = |j: usize| (0..rank).map(|r| b[i * rank + r] * a[r * k + j]).sum::<f64>();
            let number = |j: usize| w[i * k + j] + f64::from(self.scale) * change(j);
            *y = 1.0 / (0..k).map(|j| number(j).powi(2)).sum::<f64>().sqrt();
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (w, b, k, rank) = (run.matrix(0), run.matrix(2), run.width(0), run.width(2));
        let a = run.matrix(1).to_f32();
        run.pool.rows(run.out, 1, (8192 / k).max(1), |first, out| {
            let (mut row, mut factors) = (vec![0.0; k], vec![0.0; rank]);
            for (i, y) in out.iter_mut().enumerate() {
                w.row(first + i, &mut row);
                b.row(first + i, &mut factors);
                for (factor, a) in factors.iter().zip(a.chunks_exact(k)) {
                    row.iter_mut().zip(a).for_each(|(w, a)| *w += self.scale * factor * a);
                }
                *y = 1.0 / row.iter().map(|w| w * w).sum::<f32>().sqrt();
            }
        });
    }
}
