//! Feed-forward parts: plain, gated, and mixtures of gated experts.
//!
//! Source: Shazeer 2020, arXiv:2002.05202 (gating); Shazeer et al. 2017, arXiv:1701.06538 (experts);
//!         DeepSeek-AI 2024, arXiv:2412.19437, §2.1.2 (sigmoid router with a bias, shared experts).

use wootz_graph::{Activation, Graph, Param, ParamKind, Result, Value};

use super::Scope;
use super::norm::NormWeights;
use crate::config::{ExpertsConfig, Ffn, Router};

/// A feed-forward part's weights.
#[derive(Debug)]
pub(super) enum FfnWeights {
    None,
    Plain { up: Linear, down: Linear },
    Gated { gate: Linear, up: Linear, down: Linear, inner_norm: Option<NormWeights> },
    Experts(Box<ExpertsWeights>),
}

/// A matrix and its bias.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linear {
    w: Param,
    b: Option<Param>,
}

impl Linear {
    /// `w_name` and `b_name`.
    fn declare(scope: &mut Scope, name: &str, n: usize, k: usize, bias: bool) -> Self {
        Self { w: scope.matrix(&format!("w_{name}"), n, k), b: scope.bias(&format!("b_{name}"), n, bias) }
    }

    fn build(self, g: &mut Graph, x: Value) -> Result<Value> {
        g.linear_bias(x, self.w, self.b)
    }
}

#[derive(Debug)]
pub(super) struct ExpertsWeights {
    router: Param,
    router_bias: Option<Param>,
    gate: Param,
    up: Param,
    down: Param,
    shared: Option<[Linear; 3]>,
}

impl FfnWeights {
    pub(super) fn declare(scope: &mut Scope, config: &Ffn, c: usize) -> Self {
        match config {
            Ffn::None => FfnWeights::None,
            &Ffn::Plain { d_ff, bias, .. } => FfnWeights::Plain {
                up: Linear::declare(scope, "up", d_ff, c, bias),
                down: Linear::declare(scope, "down", c, d_ff, bias),
            },
            &Ffn::Gated { d_ff, bias, inner_norm, .. } => FfnWeights::Gated {
                gate: Linear::declare(scope, "gate", d_ff, c, bias),
                up: Linear::declare(scope, "up", d_ff, c, bias),
                down: Linear::declare(scope, "down", c, d_ff, bias),
                inner_norm: inner_norm.map(|norm| NormWeights::declare(scope, "ffn_inner_norm", norm, d_ff)),
            },
            Ffn::Experts(config) => FfnWeights::Experts(Box::new(ExpertsWeights::declare(scope, config, c))),
        }
    }

    /// (T, C) → (T, C).
    pub(super) fn build(&self, g: &mut Graph, x: Value, config: &Ffn) -> Result<Value> {
        match (self, config) {
            (FfnWeights::Plain { up, down }, Ffn::Plain { activation, .. }) => {
                let y = up.build(g, x)?; // (T, F)
                let y = g.activate(y, *activation)?;
                down.build(g, y)
            }
            (FfnWeights::Gated { gate, up, down, inner_norm }, Ffn::Gated { activation, .. }) => {
                let y = gated(g, x, [*gate, *up], *activation)?; // (T, F)
                let y = match inner_norm {
                    Some(norm) => norm.build(g, y)?,
                    None => y,
                };
                down.build(g, y)
            }
            (FfnWeights::Experts(weights), Ffn::Experts(config)) => weights.build(g, x, config),
            _ => {
                unreachable!("weights are declared from the same config, and a layer without a part skips it")
            }
        }
    }
}

fn gated(g: &mut Graph, x: Value, [gate, up]: [Linear; 2], f: Activation) -> Result<Value> {
    let (gate, up) = (gate.build(g, x)?, up.build(g, x)?);
    g.gated(gate, up, f)
}

impl ExpertsWeights {
    fn declare(scope: &mut Scope, config: &ExpertsConfig, c: usize) -> Self {
        let ExpertsConfig { n_experts, d_ff, .. } = *config;
        let mut stack = |name: &str, n: usize, k: usize| {
            scope.declare(&format!("experts.{name}"), &[n_experts, n, k], ParamKind::Stack)
        };
        let (gate, up, down) = (stack("w_gate", d_ff, c), stack("w_up", d_ff, c), stack("w_down", c, d_ff));
        let biased = matches!(config.router, Router::SigmoidBiased { .. });
        Self {
            router: scope.matrix("router", n_experts, c),
            router_bias: scope.bias("router_b", n_experts, biased),
            gate,
            up,
            down,
            shared: config.shared_d_ff.map(|d_ff| {
                [("shared_gate", d_ff, c), ("shared_up", d_ff, c), ("shared_down", c, d_ff)]
                    .map(|(name, n, k)| Linear::declare(scope, name, n, k, false))
            }),
        }
    }

    /// (T, C) → (T, C).
    fn build(&self, g: &mut Graph, x: Value, config: &ExpertsConfig) -> Result<Value> {
        let scores = g.linear(x, self.router)?; // (T, E)
        let (scores, ids) = match config.router {
            Router::Softmax { groups } => {
                let scores = g.softmax(scores)?;
                (scores, g.top_k(scores, config.n_used, groups)?)
            }
            Router::SigmoidBiased { groups } => {
                let scores = g.activate(scores, Activation::Sigmoid)?;
                let biased = match self.router_bias {
                    Some(bias) => g.add_weight(scores, bias)?,
                    None => scores,
                };
                (scores, g.top_k(biased, config.n_used, groups)?)
            }
        };
        let mut weights = g.pick(scores, ids)?; // (T, k)
        if config.normalize {
            weights = g.normalize_sum(weights)?;
        }
        if config.scale != 1.0 {
            weights = g.scale(weights, config.scale)?;
        }
        let gate = g.expert_linear(x, ids, self.gate)?; // (T·k, F)
        let up = g.expert_linear(x, ids, self.up)?; // (T·k, F)
        let y = g.gated(gate, up, config.activation)?;
        let y = g.expert_linear(y, ids, self.down)?; // (T·k, C)
        let y = g.combine(y, weights)?; // (T, C)
        let Some([gate, up, down]) = self.shared else { return Ok(y) };
        let shared = gated(g, x, [gate, up], config.activation)?;
        let shared = down.build(g, shared)?;
        g.add(y, shared)
    }
}
