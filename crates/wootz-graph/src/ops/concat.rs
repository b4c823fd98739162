//! Two values side by side in the last dimension.

use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::rms_norm::rows_per_task;
use crate::ops::{Backward, Operator, arity};
use crate::shape::Type;
use crate::Result;

/// `y[t] = (a[t], b[t])`.
#[derive(Clone, Debug)]
pub(crate) struct Concat;

impl Graph<'_> {
    /// (…, A) and (…, B) → (…, A + B).
    pub fn concat(&mut self, a: Value, b: Value) -> Result<Value> {
        self.push(Concat.into(), &[a, b])
    }
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [a, b] = arity(inputs)?;
        if a.shape.with_width(1) != b.shape.with_width(1) {
            return Err(format!("{} and {} differ before the last dimension", a.shape, b.shape));
        }
        Ok(Type::f32(a.shape.with_width(a.shape.width() + b.shape.width())))
    }

    fn cost(&self, _inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::copy(&[], output, batch)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let (a, b) = (g.width(at.inputs[0]), g.width(at.inputs[1]));
        Ok(vec![Some(g.columns(at.dy, 0, a)?), Some(g.columns(at.dy, a, b)?)])
    }

    fn reference(&self, run: &mut RefRun) {
        let (a, b) = (run.width(0), run.width(1));
        let rows = run.input(0).chunks_exact(a).zip(run.input(1).chunks_exact(b));
        for ((x, z), y) in rows.zip(run.out.chunks_exact_mut(a + b)) {
            y[..a].copy_from_slice(x);
            y[a..].copy_from_slice(z);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let ((x, a), (z, b)) = ((run.f32(0), run.width(0)), (run.f32(1), run.width(1)));
        run.pool.rows(run.out, a + b, rows_per_task(a + b), |first, rows| {
            for (t, y) in rows.chunks_exact_mut(a + b).enumerate() {
                y[..a].copy_from_slice(&x[(first + t) * a..][..a]);
                y[a..].copy_from_slice(&z[(first + t) * b..][..b]);
            }
        });
    }
}
