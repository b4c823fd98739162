//! Norms: the variants of [`Norm`] as weights and operators.

use wootz_graph::{Graph, Param, Result, Value};

use super::Scope;
use crate::config::Norm;

/// A norm's weights.
#[derive(Debug)]
pub(super) struct NormWeights {
    kind: Norm,
    w: Option<Param>,
    b: Option<Param>,
}

impl NormWeights {
    /// Declares `name` and, where there is a bias, `name_b`.
    pub(super) fn declare(scope: &mut Scope, name: &str, kind: Norm, width: usize) -> Self {
        let (w, b) = match kind {
            Norm::Rms { .. } | Norm::RmsRounded { .. } => (true, false),
            Norm::Layer { bias, .. } => (true, bias),
            Norm::LayerPlain { .. } => (false, false),
        };
        Self {
            kind,
            w: w.then(|| scope.vector(name, &[width])),
            b: b.then(|| scope.vector(&format!("{name}_b"), &[width])),
        }
    }

    /// Rows of the weight's width → the same shape.
    pub(super) fn build(&self, g: &mut Graph, x: Value) -> Result<Value> {
        match (self.kind, self.w) {
            (Norm::Rms { eps }, Some(w)) => g.rms_norm(x, w, eps),
            (Norm::Rms { eps }, None) => g.rms_norm_plain(x, eps),
            (Norm::RmsRounded { eps }, w) => {
                let w = w.expect("declared with a weight");
                let y = g.rms_norm(x, w, eps)?;
                g.round_rows(y)
            }
            (Norm::Layer { eps, .. } | Norm::LayerPlain { eps }, w) => g.layer_norm(x, w, self.b, eps),
        }
    }
}

/// Applies a norm whose weight differs from head to head: `x` (T, H, D), weight (H, D).
pub(super) fn norm_own_heads(g: &mut Graph, x: Value, norm: Norm, w: Param) -> Result<Value> {
    let plain = match norm {
        Norm::Rms { eps } => g.rms_norm_plain(x, eps)?,
        Norm::RmsRounded { .. } => unreachable!("only rows that a matrix is given are rounded"),
        Norm::Layer { eps, .. } | Norm::LayerPlain { eps } => g.layer_norm(x, None, None, eps)?,
    };
    g.mul_weight(plain, w)
}
