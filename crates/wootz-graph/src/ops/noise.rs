//! Uniform noise on the embeddings of a sequence: NEFTune.
//!
//! Source: Jain et al. 2023, arXiv:2310.05914, alg. 1.

use crate::Result;
use crate::batch::Batch;
use crate::device::cpu::CpuRun;
use crate::device::reference::RefRun;
use crate::draws::Draws;
use crate::graph::{Graph, Value};
use crate::ops::conv1d::token_rows;
use crate::ops::{Backward, Operator, Takes, arity};
use crate::shape::Type;

/// `y = x + alpha/√(L·C)·u` with u uniform in (−1, 1), for a sequence of L rows of C numbers.
#[derive(Clone, Debug)]
pub(crate) struct Noise {
    alpha: f32,
    site: u32,
}

/// What is random while a model learns; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Randomness {
    /// NEFTune's alpha: noise on the tokens' embeddings.
    pub embeddings: f32,
    /// Share of what each block adds to the residual stream, and of what layers begin with, that is dropped.
    pub residuals: f32,
    /// Share of a low-rank change's input that is dropped.
    pub changes: f32,
}

impl Graph<'_> {
    /// Rows of the table of tokens, `x` (T, C), with the noise that this graph asks for.
    pub fn randomize_embeddings(&mut self, x: Value) -> Result<Value> {
        self.noise(x, self.randomness.embeddings)
    }

    /// What begins the residual stream or is added to it, with the dropout that this graph asks for.
    pub fn randomize_residual(&mut self, y: Value) -> Result<Value> {
        self.dropout(y, self.randomness.residuals)
    }

    /// `x` (T, C) with uniform noise that is the smaller the longer a sequence; drawn as [`dropout`](Self::dropout) draws. With
    /// `alpha = 0` it is `x` itself.
    pub fn noise(&mut self, x: Value, alpha: f32) -> Result<Value> {
        if alpha == 0.0 {
            return Ok(x);
        }
        let (seed, site) = (self.noise_seed(), self.next_site());
        self.push(Noise { alpha, site }.into(), &[x, seed])
    }
}

impl Noise {
    /// Calls `write` with the place and the noise of every number.
    fn each(&self, batch: &Batch, seed: [u32; 2], width: usize, mut write: impl FnMut(usize, f32)) {
        for seq in &batch.sequences {
            let size = self.alpha / ((seq.rows.len() * width) as f32).sqrt();
            for row in seq.rows.clone() {
                let draws = Draws::of_row(seed, self.site, row);
                for i in 0..width {
                    let bits = (draws.bits(i / 2) >> (32 * (i % 2))) as u32 >> 8;
                    let uniform = (bits as f32 + 0.5) / (1 << 23) as f32 - 1.0;
                    write(row * width + i, size * uniform);
                }
            }
        }
    }
}

impl Operator for Noise {
    fn name(&self) -> &'static str {
        "noise"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Type, String> {
        let [x, _seed] = arity(inputs)?;
        token_rows(&[x]).map(|()| x)
    }

    fn takes(&self, input: usize, _inputs: &[Type]) -> Takes {
        if input == 1 { Takes::Ids { below: None } } else { Takes::Numbers }
    }

    fn gradient(&self, _g: &mut Graph, at: &Backward) -> Result<Vec<Option<Value>>> {
        Ok(vec![Some(at.dy), None])
    }

    fn reference(&self, run: &mut RefRun) {
        let (x, seed, width) = (run.input(0), run.input(1), run.out_ty.shape.inner());
        let seed = [seed[0] as u32, seed[1] as u32];
        self.each(run.batch, seed, width, |at, noise| run.out[at] = x[at] + f64::from(noise));
    }

    fn cpu(&self, run: &mut CpuRun) {
        let (x, seed, width) = (run.f32(0), run.u32(1), run.out_ty.shape.inner());
        self.each(run.batch, [seed[0], seed[1]], width, |at, noise| run.out[at] = x[at] + noise);
    }
}
