//! What encoders have in common: attention to both sides, and a head that `architectures` names.

use super::Usual;
use crate::Result;
use crate::config::{AttentionConfig, Position};
use crate::hf::Hf;

/// The usual keys, and what encoders ask of them beyond that.
pub(super) fn usual(hf: &Hf) -> Result<Usual> {
    hf.require("is_decoder", false)?;
    hf.require("add_cross_attention", false)?;
    let d_model = hf.positive("hidden_size")?;
    let usual = Usual { head_dim: d_model / hf.positive("num_attention_heads")?, ..Usual::read(hf)? };
    if usual.head_dim * usual.n_heads != d_model {
        let expected = format!("a divisor of {d_model}");
        return Err(hf.error("num_attention_heads", &expected, &usual.n_heads.to_string()));
    }
    Ok(usual)
}

/// Attention to both sides.
pub(super) fn attention(usual: &Usual, position: Position, bias: bool) -> AttentionConfig {
    AttentionConfig {
        n_kv_heads: usual.n_heads,
        qkv_bias: bias,
        out_bias: bias,
        causal: false,
        ..usual.attention(position)
    }
}

/// How many scores a sequence gets, if this is a model that gives sequences scores.
///
/// Any other model (masked tokens, tags, answers in a text) is read as its body alone.
pub(super) fn n_labels(hf: &Hf) -> Result<Option<usize>> {
    let architectures = hf.strings("architectures").unwrap_or_default();
    if !architectures.iter().any(|name| name.ends_with("ForSequenceClassification")) {
        return Ok(None);
    }
    let listed = hf.get("id2label").and_then(|labels| labels.as_object()).map(|labels| labels.len());
    let n_labels = hf.usize_or("num_labels", listed.unwrap_or(2))?;
    if n_labels == 0 {
        return Err(hf.error("num_labels", "at least 1", "0"));
    }
    Ok(Some(n_labels))
}
