//! Mamba and Mamba-2: recurrences in place of attention.
//!
//! Source: Gu & Dao 2023, arXiv:2312.00752, fig. 3; Dao & Gu 2024, arXiv:2405.21060, fig. 6.

use wootz_graph::{Activation, Graph, Param, Result, ScanInputs, StateKind, Value};

use super::norm::norm_own_heads;
use super::{Scope, state};
use crate::config::{Mamba2Config, MambaConfig, Norm};

/// A Mamba layer's weights.
#[derive(Debug)]
pub(super) struct MambaWeights {
    w_x: Param,
    w_z: Param,
    b_x: Option<Param>,
    b_z: Option<Param>,
    conv: Param,
    conv_b: Option<Param>,
    /// (dt_rank, d_inner), (N, d_inner), (N, d_inner): what the input decides.
    w_dt_rank: Param,
    w_b: Param,
    w_c: Param,
    w_dt: Param,
    b_dt: Param,
    /// (d_inner, N), negative.
    a: Param,
    d: Param,
    wo: Param,
    bo: Option<Param>,
}

impl MambaWeights {
    pub(super) fn declare(scope: &mut Scope, config: &MambaConfig, c: usize) -> Self {
        let MambaConfig { d_inner, d_state, d_conv, dt_rank, conv_bias, proj_bias } = *config;
        Self {
            w_x: scope.matrix("w_x", d_inner, c),
            w_z: scope.matrix("w_z", d_inner, c),
            b_x: scope.bias("b_x", d_inner, proj_bias),
            b_z: scope.bias("b_z", d_inner, proj_bias),
            conv: scope.vector("conv", &[d_inner, d_conv]),
            conv_b: scope.bias("conv_b", d_inner, conv_bias),
            w_dt_rank: scope.matrix("w_dt_rank", dt_rank, d_inner),
            w_b: scope.matrix("w_b", d_state, d_inner),
            w_c: scope.matrix("w_c", d_state, d_inner),
            w_dt: scope.matrix("w_dt", d_inner, dt_rank),
            b_dt: scope.vector("b_dt", &[d_inner]),
            a: scope.vector("a", &[d_inner, d_state]),
            d: scope.vector("d", &[d_inner]),
            wo: scope.matrix("wo", c, d_inner),
            bo: scope.bias("bo", c, proj_bias),
        }
    }

    /// (T, C) → (T, C).
    pub(super) fn build(
        &self,
        g: &mut Graph,
        x: Value,
        config: &MambaConfig,
        stateful: bool,
    ) -> Result<Value> {
        let MambaConfig { d_inner, d_state, d_conv, .. } = *config;
        let z = g.linear_bias(x, self.w_z, self.b_z)?; // (T, Di)
        let x = g.linear_bias(x, self.w_x, self.b_x)?; // (T, Di)
        let past = state(g, stateful, "conv", StateKind::Recurrent { len: (d_conv - 1) * d_inner });
        let x = g.conv1d(x, self.conv, self.conv_b, past)?;
        let x = g.activate(x, Activation::Silu)?;
        let dt = g.linear(x, self.w_dt_rank)?;
        let dt = g.linear_bias(dt, self.w_dt, Some(self.b_dt))?;
        let dt = g.activate(dt, Activation::Softplus)?; // (T, Di)
        let (b, c) = (g.linear(x, self.w_b)?, g.linear(x, self.w_c)?); // (T, N)
        let h = state(g, stateful, "scan", StateKind::Recurrent { len: d_inner * d_state });
        let y = g.selective_scan(ScanInputs { x, dt, b, c, a: self.a, d: self.d }, h)?; // (T, Di)
        let y = g.gated(z, y, Activation::Silu)?;
        g.linear_bias(y, self.wo, self.bo)
    }
}

/// A Mamba-2 layer's weights.
#[derive(Debug)]
pub(super) struct Mamba2Weights {
    w_z: Param,
    w_xbc: Param,
    w_dt: Param,
    b_z: Option<Param>,
    b_xbc: Option<Param>,
    b_dt_in: Option<Param>,
    conv: Param,
    conv_b: Option<Param>,
    b_dt: Param,
    a: Param,
    d: Param,
    norm: Param,
    wo: Param,
    bo: Option<Param>,
}

impl Mamba2Weights {
    pub(super) fn declare(scope: &mut Scope, config: &Mamba2Config, c: usize) -> Self {
        let Mamba2Config { n_heads, head_dim, n_groups, d_state, d_conv, conv_bias, proj_bias, .. } = *config;
        let d_inner = n_heads * head_dim;
        let d_xbc = d_inner + 2 * n_groups * d_state;
        Self {
            w_z: scope.matrix("w_z", d_inner, c),
            w_xbc: scope.matrix("w_xbc", d_xbc, c),
            w_dt: scope.matrix("w_dt", n_heads, c),
            b_z: scope.bias("b_z", d_inner, proj_bias),
            b_xbc: scope.bias("b_xbc", d_xbc, proj_bias),
            b_dt_in: scope.bias("b_dt_in", n_heads, proj_bias),
            conv: scope.vector("conv", &[d_xbc, d_conv]),
            conv_b: scope.bias("conv_b", d_xbc, conv_bias),
            b_dt: scope.vector("b_dt", &[n_heads]),
            a: scope.vector("a", &[n_heads]),
            d: scope.vector("d", &[n_heads]),
            norm: scope.vector("scan_norm", &[d_inner]),
            wo: scope.matrix("wo", c, d_inner),
            bo: scope.bias("bo", c, proj_bias),
        }
    }

    /// (T, C) → (T, C).
    pub(super) fn build(
        &self,
        g: &mut Graph,
        x: Value,
        config: &Mamba2Config,
        stateful: bool,
    ) -> Result<Value> {
        let Mamba2Config { n_heads, head_dim, n_groups, d_state, d_conv, .. } = *config;
        let [t, _c] = g.dims(x)?;
        let (d_inner, d_bc) = (n_heads * head_dim, n_groups * d_state);
        let z = g.linear_bias(x, self.w_z, self.b_z)?;
        let xbc = g.linear_bias(x, self.w_xbc, self.b_xbc)?;
        let dt = g.linear_bias(x, self.w_dt, self.b_dt_in)?; // (T, H)
        let past =
            state(g, stateful, "conv", StateKind::Recurrent { len: (d_conv - 1) * (d_inner + 2 * d_bc) });
        let xbc = g.conv1d(xbc, self.conv, self.conv_b, past)?;
        let xbc = g.activate(xbc, Activation::Silu)?;
        let x = g.columns(xbc, 0, d_inner)?;
        let x = g.reshape(x, (t, n_heads, head_dim))?; // (T, H, P)
        let b = g.columns(xbc, d_inner, d_bc)?;
        let b = g.reshape(b, (t, n_groups, d_state))?; // (T, G, N)
        let c = g.columns(xbc, d_inner + d_bc, d_bc)?;
        let c = g.reshape(c, (t, n_groups, d_state))?; // (T, G, N)
        let dt = g.add_weight(dt, self.b_dt)?;
        let dt = g.activate(dt, Activation::Softplus)?;
        let h = state(g, stateful, "scan", StateKind::Recurrent { len: d_inner * d_state });
        let y = g.ssd_scan(ScanInputs { x, dt, b, c, a: self.a, d: self.d }, h)?; // (T, H, P)
        let y = g.reshape(y, (t, d_inner))?;
        let y = g.gated(z, y, Activation::Silu)?;
        let y = g.reshape(y, (t, n_groups, d_inner / n_groups))?;
        let y = norm_own_heads(g, y, Norm::Rms { eps: config.norm_eps }, self.norm)?; // each group by itself
        let y = g.reshape(y, (t, d_inner))?;
        g.linear_bias(y, self.wo, self.bo)
    }
}
