//! The weighted sum of what a token's experts gave.
//!
//! Source: Shazeer et al. 2017, arXiv:1701.06538, eq. 1.

use crate::Result;
use crate::device::cpu::{CpuRun, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::rms_norm::rows_per_task;
use crate::ops::{Backward, Operator, Part, arity};
use crate::shape::{Dim, Type};

/// `y[t] = Σᵢ weights[t, i]·x[t·k + i]`, in order of expert.
#[derive(Clone, Debug)]
pub(crate) struct Combine;

/// `dx[t·k + i] = weights[t, i]·dy[t]`, and `dweights[t, i] = x[t·k + i]·dy[t]`.
#[derive(Clone, Debug)]
pub(crate) struct CombineGrad {
    part: Part,
}

impl Graph<'_> {
    /// Rows `x` (T·k, C) summed with `weights` (T, k) → (T, C).
    pub fn combine(&mut self, x: Value, weights: Value) -> Result<Value> {
        self.push(Combine.into(), &[x, weights])
    }
}

impl Operator for Combine {
    fn name(&self) -> &'static str {
        "combine"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x, weights] = arity(inputs)?;
        let k = weights.shape.width();
        match (x.shape.rows(), weights.shape.rows()) {
            (Some((a, n)), Some((b, m))) if a == b && n == m * k => {
                Ok(Type::f32((Dim::Rows(b, m), x.shape.inner())))
            }
            _ => Err(format!("expected rows for every weight {}, got {}", weights.shape, x.shape)),
        }
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        let inputs = [&[at.dy], at.inputs].concat();
        at.parts(g, &inputs, |part| CombineGrad { part }.into())
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, weights, width, k) = (run.input(0), run.input(1), run.width(0), run.width(1));
        run.out.fill(0.0);
        for (i, (x, weight)) in x.chunks_exact(width).zip(weights).enumerate() {
            let y = &mut run.out[i / k * width..][..width];
            y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, weights, width, k) = (run.f32(0), run.f32(1), run.width(0), run.width(1));
        run.pool.rows(run.out, width, 4, |first, rows| {
            rows.fill(0.0);
            for (t, y) in rows.chunks_exact_mut(width).enumerate() {
                for i in (first + t) * k..(first + t + 1) * k {
                    let x = &x[i * width..][..width];
                    y.iter_mut().zip(x).for_each(|(y, x)| *y += weights[i] * x);
                }
            }
        });
    }
}

impl Operator for CombineGrad {
    fn name(&self) -> &'static str {
        "combine_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        Ok(inputs[1 + self.part.index])
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }

    fn adds(&self) -> bool {
        true
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, x, weights, width, k) = (run.input(0), run.input(1), run.input(2), run.width(0), run.width(2));
        for (i, (x, weight)) in x.chunks_exact(width).zip(weights).enumerate() {
            let dy = &dy[i / k * width..][..width];
            match self.part.index {
                0 => {
                    let dx = &mut run.out[i * width..][..width];
                    dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = weight * dy);
                }
                _ => run.out[i] = x.iter().zip(dy).map(|(x, dy)| x * dy).sum(),
            }
        }
    }

    fn cpu_parts(&self, run: &CpuRun, [dx, dweights, ..]: Outs) {
        let (dy, x, weights, width, k) = (run.f32(0), run.f32(1), run.f32(2), run.width(0), run.width(2));
        let of_row = |i: usize| &dy[i / k * width..][..width];
        if let Some(dx) = dx {
            dx.write(|dx| {
                run.pool.rows(dx, width, rows_per_task(width), |first, rows| {
                    for (i, dx) in rows.chunks_exact_mut(width).enumerate() {
                        let (dy, weight) = (of_row(first + i), weights[first + i]);
                        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = weight * dy);
                    }
                });
            });
        }
        if let Some(dweights) = dweights {
            dweights.write(|dweights| {
                run.pool.rows(dweights, 1, rows_per_task(width), |first, dweights| {
                    for (i, dweight) in dweights.iter_mut().enumerate() {
                        let x = &x[(first + i) * width..][..width];
                        *dweight = wootz_kernels::dot(run.isa, x, of_row(first + i));
                    }
                });
            });
        }
    }
}
