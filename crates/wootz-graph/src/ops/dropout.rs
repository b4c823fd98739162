//! Dropout: some numbers become zero while a model learns, the others grow to make up for it.
//!
//! Idea:   what is dropped is a function of seed, step, operator, row and column, so the backward pass drops the same and nothing
//!         is kept; a new step, which the caller counts, drops others. Recomputed layers drop what they dropped.
//! Source: Srivastava et al. 2014, JMLR 15, §4; scaled while training, as everyone does since.

use crate::Result;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::draws::Draws;
use crate::graph::{Graph, Value};
use crate::ops::rms_norm::rows_per_task;
use crate::ops::{Backward, Operator, Takes, arity};
use crate::shape::{Shape, Type};

/// `y = 0` with probability p, else `x/(1 − p)`.
#[derive(Clone, Debug)]
pub(crate) struct Dropout {
    /// p in 65,536ths.
    threshold: u32,
    site: u32,
}

impl Graph<'_> {
    /// `x` with a share `p` (0 ≤ p < 1, in 65,536ths) of its numbers set to zero and the others divided by `1 − p`. Which ones
    /// depends on the input [`noise_seed`](Self::noise_seed). With `p = 0` it is `x` itself.
    pub fn dropout(&mut self, x: Value, p: f32) -> Result<Value> {
        let threshold = (p * 65_536.0).round();
        if !(0.0..65_536.0).contains(&threshold) {
            return Err(self.error("dropout", format!("a share of {p}, expected 0 ≤ p < 1")));
        }
        if threshold == 0.0 {
            return Ok(x);
        }
        let (seed, site) = (self.noise_seed(), self.next_site());
        self.push(Dropout { threshold: threshold as u32, site }.into(), &[x, seed])
    }

    /// (2) seed and step of everything random. As long as both stay, so does what is drawn.
    pub fn noise_seed(&mut self) -> Value {
        self.input("noise_seed", Type::u32(Shape::fixed(&[2])))
    }

    /// A number that no other operator of this graph has, and that the same operator has in a graph built alike.
    pub(crate) fn next_site(&self) -> u32 {
        self.nodes().len() as u32
    }
}

impl Dropout {
    /// What each number of a row is multiplied by.
    fn factors(&self, seed: [u32; 2], row: usize, mut write: impl FnMut(usize, f32), n: usize) {
        let draws = Draws::of_row(seed, self.site, row);
        let kept = 65_536.0 / (65_536 - self.threshold) as f32;
        for first in (0..n).step_by(4) {
            let bits = draws.bits(first / 4);
            for i in first..n.min(first + 4) {
                let drawn = (bits >> (16 * (i - first))) as u32 & 0xffff;
                write(i, if drawn < self.threshold { 0.0 } else { kept });
            }
        }
    }
}

impl Operator for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn detail(&self) -> String {
        format!("{:.1} %", self.threshold as f32 / 655.36)
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        arity::<2>(inputs).map(|[x, _]| x)
    }

    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if input == 1 { Takes::Ids { below: None } } else { Takes::Numbers }
    }

    /// The same is dropped.
    fn gradient(&self, g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        Ok(vec![Some(g.push(self.clone().into(), &[at.dy, at.inputs[1]])?), None])
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, seed, width) = (run.input(0), run.input(1), run.out_ty.shape.inner());
        let seed = [seed[0] as u32, seed[1] as u32];
        for (row, y) in run.out.chunks_exact_mut(width).enumerate() {
            self.factors(seed, row, |i, factor| y[i] = f64::from(factor) * x[row * width + i], width);
        }
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, seed, width) = (run.f32(0), run.u32(1), run.out_ty.shape.inner());
        let seed = [seed[0], seed[1]];
        run.pool.rows(run.out, width, rows_per_task(width), |first, rows| {
            for (i, y) in rows.chunks_exact_mut(width).enumerate() {
                let row = first + i;
                let x = &x[row * width..][..width];
                self.factors(seed, row, |i, factor| y[i] = factor * x[i], width);
            }
        });
    }
}
