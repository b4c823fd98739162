//! Multi-head latent attention: keys and values live in one small latent that all heads share.
//!
//! Where:  the mixer of DeepSeek-V2 and V3.
//! Idea:   the "absorbed" form: queries are mapped into the latent, attention runs there with one head of keys
//!         whose first numbers are the values as well, and each head maps its result back.
//! Source: DeepSeek-AI 2024, arXiv:2405.04434, §2.1.2.

use wootz_graph::{Attention, Graph, Param, ParamKind, Result, StateKind, Value};

use super::norm::NormWeights;
use super::{Scope, state};
use crate::config::{LatentConfig, Norm};

/// An MLA layer's weights.
#[derive(Debug)]
pub(super) struct LatentWeights {
    /// (q_rank, C), its norm and bias; none where queries are made directly.
    down_q: Option<(Param, Option<Param>, NormWeights)>,
    /// (H·(d_nope + d_rope), q_rank or C).
    wq: Param,
    /// (kv_rank + d_rope, C).
    wkv_a: Param,
    bkv_a: Option<Param>,
    kv_norm: NormWeights,
    /// (H, kv_rank, d_nope): from a query into the latent.
    wk_b: Param,
    /// (H, d_v, kv_rank): from the latent to a value.
    wv_b: Param,
    wo: Param,
    bo: Option<Param>,
}

impl LatentWeights {
    pub(super) fn declare(scope: &mut Scope, config: &LatentConfig, c: usize) -> Self {
        let LatentConfig { n_heads, kv_rank, d_nope, d_rope, d_v, .. } = *config;
        let norm = Norm::Rms { eps: config.norm_eps };
        let down_q = config.q_rank.map(|rank| {
            let w = scope.matrix("wq_a", rank, c);
            (w, scope.bias("bq_a", rank, config.bias), NormWeights::declare(scope, "q_norm", norm, rank))
        });
        Self {
            down_q,
            wq: scope.matrix("wq", n_heads * (d_nope + d_rope), config.q_rank.unwrap_or(c)),
            wkv_a: scope.matrix("wkv_a", kv_rank + d_rope, c),
            bkv_a: scope.bias("bkv_a", kv_rank + d_rope, config.bias),
            kv_norm: NormWeights::declare(scope, "kv_norm", norm, kv_rank),
            wk_b: scope.declare("wk_b", &[n_heads, kv_rank, d_nope], ParamKind::Stack),
            wv_b: scope.declare("wv_b", &[n_heads, d_v, kv_rank], ParamKind::Stack),
            wo: scope.matrix("wo", c, n_heads * d_v),
            bo: scope.bias("bo", c, config.bias),
        }
    }

    /// (T, C) → (T, C).
    pub(super) fn build(
        &self,
        g: &mut Graph,
        x: Value,
        config: &LatentConfig,
        stateful: bool,
    ) -> Result<Value> {
        let LatentConfig { n_heads, kv_rank, d_nope, d_rope, d_v, rope_style, .. } = *config;
        let [t, _c] = g.dims(x)?;
        let q = match &self.down_q {
            Some((w, b, norm)) => {
                let q = g.linear_bias(x, *w, *b)?;
                norm.build(g, q)?
            }
            None => x,
        };
        let q = g.linear(q, self.wq)?;
        let q = g.reshape(q, (t, n_heads, d_nope + d_rope))?; // (T, H, Dn + Dr)
        let q_nope = g.columns(q, 0, d_nope)?;
        let q_nope = g.head_linear(q_nope, self.wk_b)?; // (T, H, R)
        let q_rope = g.columns(q, d_nope, d_rope)?;
        let q_rope = g.rope(q_rope, &config.rope, rope_style)?;
        let q = g.concat(q_nope, q_rope)?; // (T, H, R + Dr)
        let q = g.reshape(q, (t, n_heads * (kv_rank + d_rope)))?;

        let kv = g.linear_bias(x, self.wkv_a, self.bkv_a)?; // (T, R + Dr)
        let latent = g.columns(kv, 0, kv_rank)?;
        let latent = self.kv_norm.build(g, latent)?;
        let k_rope = g.columns(kv, kv_rank, d_rope)?;
        let k_rope = g.reshape(k_rope, (t, 1, d_rope))?;
        let k_rope = g.rope(k_rope, &config.rope, rope_style)?;
        let k_rope = g.reshape(k_rope, (t, d_rope))?;
        let k = g.concat(latent, k_rope)?; // (T, R + Dr)

        let (d_k, d_latent) = (kv_rank + d_rope, kv_rank);
        let kind = StateKind::Kv { n_kv_heads: 1, d_k, d_v: d_latent, v_in_k: true, window: None };
        let cache = state(g, stateful, "latent", kind);
        let kv = g.append_latent(cache, k, d_latent)?;
        let spec = Attention {
            n_heads,
            n_kv_heads: 1,
            d_k,
            d_v: d_latent,
            scale: config.scale,
            softcap: None,
            back: None,
            ahead: Some(0),
            alibi_slopes: None,
        };
        let y = g.attend(q, kv, spec)?; // (T, H·R)
        let y = g.reshape(y, (t, n_heads, kv_rank))?;
        let y = g.head_linear(y, self.wv_b)?; // (T, H, Dv)
        let y = g.reshape(y, (t, n_heads * d_v))?;
        g.linear_bias(y, self.wo, self.bo)
    }
}
