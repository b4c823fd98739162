//! Low-rank changes in training: matrices beside a model's frozen weights, with gradients of their own.
//!
//! Where:  declared by the trainer among the model's weights; read by [`linear`](crate::ops::linear) as the graph is built.
//! Idea:   a change belongs to a weight, so the one place where a weight meets rows applies it, and no architecture knows of it.
//! Source: Hu et al. 2021, arXiv:2106.09685; rank-stabilised scales: Kalajdzievski 2023, arXiv:2312.03732; magnitudes: Liu et
//!         al. 2024, arXiv:2402.09353.
//! Elsewhere: adapters that are done and served many at a time ([`bank`](crate::bank)).

use std::collections::HashMap;

use crate::Result;
use crate::graph::{Graph, Value};
use crate::param::Param;

/// What is added behind a linear layer: `y + scale·B(A·x)`, and with magnitudes `m ⊙ (W·x + scale·B(A·x))/‖W + scale·B·A‖`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowRankChange {
    /// A (rank, k).
    pub a: Param,
    /// B (n, rank).
    pub b: Param,
    /// `alpha / rank`, usually.
    pub scale: f32,
    /// m (n), of DoRA.
    pub magnitude: Option<Param>,
}

/// The changes of a graph, by the weight that they change.
pub type LowRankChanges = HashMap<Param, LowRankChange>;

impl Graph<'_> {
    /// `x` (T, k) through `w`, its change and its bias → (T, n).
    pub(crate) fn changed_linear(
        &mut self,
        x: Value,
        w: Param,
        b: Option<Param>,
        change: LowRankChange,
    ) -> Result<Value> {
        let LowRankChange { a, b: up, scale, magnitude } = change;
        let plain_bias = if magnitude.is_some() { None } else { b };
        let y = self.unchanged_linear(x, w, plain_bias)?;
        let z = self.dropout(x, self.randomness.changes)?; // PEFT drops what A reads, for each layer anew
        let z = self.unchanged_linear(z, a, None)?; // (T, rank)
        let z = self.unchanged_linear(z, up, None)?; // (T, n)
        let z = self.scale(z, scale)?;
        let y = self.add(y, z)?;
        let Some(magnitude) = magnitude else { return Ok(y) };
        let norms = self.inverse_norms(w, a, up, scale)?; // (n)
        let gain = self.weight(magnitude);
        let gain = self.mul(gain, norms)?;
        let y = self.mul(y, gain)?;
        match b {
            Some(b) => self.add_weight(y, b),
            None => Ok(y),
        }
    }
}
