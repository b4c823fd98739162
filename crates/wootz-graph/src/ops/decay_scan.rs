//! The plainest recurrence, `h = f·h + x` number by number: what gated linear recurrences and models without products are made of.
//!
//! Source: Qin et al. 2023, arXiv:2311.04823, eq. 4 (HGRN); Zhu et al. 2024, arXiv:2406.02528, §3.3 (MatMul-free models).

use crate::Result;
use crate::batch::Batch;
use crate::cost::Cost;
use crate::device::cpu::{CpuRun, Outs};
use crate::device::reference::RefRun;
use crate::graph::{Graph, Value};
use crate::ops::conv1d::token_rows;
use crate::ops::{Backward, Operator, Part, arity};
use crate::shape::Type;
use crate::state::State;

/// `y[t] = f[t]·y[t − 1] + x[t]`, from zeros or from the state.
#[derive(Clone, Debug)]
pub(crate) struct DecayScan {
    state: Option<State>,
}

/// `dx[t] = dy[t] + f[t + 1]·dx[t + 1]` and `df[t] = dx[t]·y[t − 1]`. Only without a state.
#[derive(Clone, Debug)]
pub(crate) struct DecayScanGrad {
    part: Part,
}

impl Graph<'_> {
    /// `f` and `x` (T, C) → (T, C). The state keeps C numbers.
    pub fn decay_scan(&mut self, f: Value, x: Value, state: Option<State>) -> Result<Value> {
        self.expect_recurrent("decay_scan", state, self.ty(x).shape.inner())?;
        self.push(DecayScan { state }.into(), &[f, x])
    }
}

impl Operator for DecayScan {
    fn name(&self) -> &'static str {
        "decay_scan"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [f, x] = arity(inputs)?;
        token_rows(&[f, x])?;
        if f.shape.inner() != x.shape.inner() {
            return Err(format!("factors {} and rows {} differ", f.shape, x.shape));
        }
        Ok(x)
    }

    fn cost(&self, inputs: &[Type], output: &Type, batch: &Batch) -> Cost {
        Cost::elementwise(inputs, output, batch, 2.0)
    }

    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        at.without(g, self.state)?;
        at.parts(g, &[at.dy, at.inputs[0], at.output], |part| DecayScanGrad { part }.into())
    }

    fn reference(&self, run: &mut RefRun) {
        let (f, x, width) = (run.input(0), run.input(1), run.out_ty.shape.inner());
        for seq in &run.batch.sequences {
            let mut state = run.slot(self.state, seq, width);
            for t in seq.rows.clone() {
                for (c, h) in state.iter_mut().enumerate() {
                    *h = f[t * width + c] * *h + x[t * width + c];
                    run.out[t * width + c] = *h;
                }
            }
            run.set_slot(self.state, seq, &state);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (f, x, width) = (run.f32(0), run.f32(1), run.out_ty.shape.inner());
        let (isa, pool) = (run.isa, run.pool);
        run.scan(self.state, width, |seqs, states, out| {
            wootz_kernels::decay_scan(isa, pool, width, f, x, seqs, states, out);
        });
    }
}

impl Operator for DecayScanGrad {
    fn name(&self) -> &'static str {
        "decay_scan_grad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        // Factors and output have the shapes of what they are the gradients of.
        Ok(inputs[1 + self.part.index])
    }

    fn part(&self) -> Option<Part> {
        Some(self.part)
    }

    fn adds(&self) -> bool {
        true
    }

    fn reference(&self, run: &mut RefRun) {
        let (dy, f, y, width) = (run.input(0), run.input(1), run.input(2), run.types[2].shape.inner());
        for seq in &run.batch.sequences {
            let mut carried = vec![0.0; width];
            for t in seq.rows.clone().rev() {
                for (c, carried) in carried.iter_mut().enumerate() {
                    let at = t * width + c;
                    let (dx, before) = (dy[at] + *carried, if t > seq.rows.start { y[at - width] } else { 0.0 });
                    run.out[at] = if self.part.index == 0 { dx * before } else { dx };
                    *carried = f[at] * dx;
                }
            }
        }
    }

    fn cpu_parts(&self, run: &CpuRun, [df, dx, ..]: Outs) {
        let (dy, f, y, width) = (run.f32(0), run.f32(1), run.f32(2), run.types[2].shape.inner());
        let seqs = run.scan_seqs();
        let both = |df: Option<&mut [f32]>, dx: Option<&mut [f32]>| {
            wootz_kernels::decay_scan_grad(run.isa, run.pool, width, f, y, &seqs, dy, df, dx);
        };
        match (df, dx) {
            (Some(df), Some(dx)) => df.write(|df| dx.write(|dx| both(Some(df), Some(dx)))),
            (Some(df), None) => df.write(|df| both(Some(df), None)),
            (None, Some(dx)) => dx.write(|dx| both(None, Some(dx))),
            (None, None) => {}
        }
    }
}
