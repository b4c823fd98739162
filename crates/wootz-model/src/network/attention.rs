//! Attention: grouped queries, rotation or ALiBi, windows, norms of q and k.
//!
//! Where:  the mixer of every transformer layer.
//! Source: Vaswani et al. 2017; GQA: Ainslie et al. 2023, §2.2; RoPE: Su et al. 2021, eq. 34; ALiBi: Press et al. 2022.

use wootz_graph::{Attention, Graph, Param, Result, StateKind, Value};

use super::norm::{NormWeights, norm_own_heads};
use super::{Scope, state};
use crate::config::{AttentionConfig, Position, QkNorm};

/// An attention layer's weights.
#[derive(Debug)]
pub(super) struct AttentionWeights {
    wq: Param,
    wk: Param,
    wv: Param,
    wo: Param,
    bq: Option<Param>,
    bk: Option<Param>,
    bv: Option<Param>,
    bo: Option<Param>,
    q_norm: Option<HeadNorm>,
    k_norm: Option<HeadNorm>,
    inner_norm: Option<NormWeights>,
}

/// A norm of queries or keys.
#[derive(Debug)]
enum HeadNorm {
    Shared(NormWeights),
    Own(Param),
}

impl HeadNorm {
    fn declare(scope: &mut Scope, name: &str, norm: QkNorm, n_heads: usize, head_dim: usize) -> Self {
        match norm {
            QkNorm::Head(norm) => Self::Shared(NormWeights::declare(scope, name, norm, head_dim)),
            QkNorm::Row(norm) => Self::Shared(NormWeights::declare(scope, name, norm, n_heads * head_dim)),
            QkNorm::OwnHead(_) => Self::Own(scope.vector(name, &[n_heads, head_dim])),
        }
    }
}

impl AttentionWeights {
    pub(super) fn declare(scope: &mut Scope, config: &AttentionConfig, c: usize) -> Self {
        let AttentionConfig { n_heads, n_kv_heads, head_dim, qkv_bias, out_bias, .. } = *config;
        let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        Self {
            wq: scope.matrix("wq", q, c),
            wk: scope.matrix("wk", kv, c),
            wv: scope.matrix("wv", kv, c),
            wo: scope.matrix("wo", c, q),
            bq: scope.bias("bq", q, qkv_bias),
            bk: scope.bias("bk", kv, qkv_bias),
            bv: scope.bias("bv", kv, qkv_bias),
            bo: scope.bias("bo", c, out_bias),
            q_norm: config.qk_norm.map(|n| HeadNorm::declare(scope, "q_norm", n, n_heads, head_dim)),
            k_norm: config.qk_norm.map(|n| HeadNorm::declare(scope, "k_norm", n, n_kv_heads, head_dim)),
            inner_norm: config.inner_norm.map(|n| NormWeights::declare(scope, "inner_norm", n, q)),
        }
    }

    /// (T, C) → (T, C).
    pub(super) fn build(
        &self,
        g: &mut Graph,
        x: Value,
        config: &AttentionConfig,
        stateful: bool,
    ) -> Result<Value> {
        let AttentionConfig { n_heads, n_kv_heads, head_dim, .. } = *config;
        let q = g.linear_bias(x, self.wq, self.bq)?; // (T, H·D)
        let k = g.linear_bias(x, self.wk, self.bk)?; // (T, K·D)
        let v = g.linear_bias(x, self.wv, self.bv)?; // (T, K·D)
        let q = place(g, q, config, n_heads, self.q_norm.as_ref())?;
        let k = place(g, k, config, n_kv_heads, self.k_norm.as_ref())?;
        // A causal window counts the token itself; a window to both sides is split between them.
        let (back, ahead) = match (config.window, config.causal) {
            (window, true) => (window.map(|window| window.saturating_sub(1)), Some(0)),
            (Some(window), false) => (Some(window / 2), Some(window / 2)),
            (None, false) => (None, None),
        };
        let kind =
            StateKind::Kv { n_kv_heads, d_k: head_dim, d_v: head_dim, v_in_k: false, window: config.window };
        let kv = state(g, stateful, "kv", kind);
        let kv = g.append(kv, k, v)?; // blocks of the layer's cache; passes through in training
        let spec = Attention {
            n_heads,
            n_kv_heads,
            d_k: head_dim,
            d_v: head_dim,
            scale: config.scale,
            softcap: config.softcap,
            back,
            ahead,
            alibi_slopes: match &config.position {
                Position::Alibi(slopes) => Some(slopes.clone()),
                Position::None | Position::Rope(..) => None,
            },
        };
        let mut y = g.attend(q, kv, spec)?; // (T, H·D)
        if let Some(norm) = &self.inner_norm {
            y = norm.build(g, y)?;
        }
        g.linear_bias(y, self.wo, self.bo) // (T, C)
    }
}

/// Norms and turns queries or keys: (T, n·D) → (T, n·D).
fn place(
    g: &mut Graph,
    x: Value,
    config: &AttentionConfig,
    n: usize,
    norm: Option<&HeadNorm>,
) -> Result<Value> {
    let [t, width] = g.dims(x)?;
    let x = match (norm, config.qk_norm) {
        (Some(HeadNorm::Shared(norm)), Some(QkNorm::Row(_))) => norm.build(g, x)?,
        _ => x,
    };
    let x = g.reshape(x, (t, n, config.head_dim))?; // (T, n, D)
    let x = match (norm, config.qk_norm) {
        (Some(HeadNorm::Shared(weights)), Some(QkNorm::Head(_))) => weights.build(g, x)?,
        (Some(HeadNorm::Own(w)), Some(QkNorm::OwnHead(norm))) => norm_own_heads(g, x, norm, *w)?,
        _ => x,
    };
    let x = match &config.position {
        Position::Rope(table, style) => g.rope(x, table, *style)?,
        Position::None | Position::Alibi(_) => x,
    };
    g.reshape(x, (t, width))
}
