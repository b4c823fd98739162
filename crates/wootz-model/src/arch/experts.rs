//! What mixtures of experts have in common: checks of their sizes, and names of their tensors.

use crate::Result;
use crate::config::{Config, ExpertsConfig, Ffn, Router};
use crate::hf::Hf;
use crate::names::{Names, Part};

/// Checks that as many experts can be chosen as `num_experts_per_tok` says, in whole groups.
pub(super) fn checked(hf: &Hf, experts: ExpertsConfig) -> Result<Ffn> {
    let ExpertsConfig { n_experts, n_used, .. } = experts;
    let (Router::Softmax { groups } | Router::SigmoidBiased { groups }) = experts.router;
    let mut n_allowed = n_experts;
    if let Some(groups) = groups {
        let per_group = n_experts.checked_div(groups.n_groups).unwrap_or(0);
        if per_group < groups.n_summed || !n_experts.is_multiple_of(groups.n_groups) {
            let expected = format!("equal groups of at least {} of {n_experts} experts", groups.n_summed);
            return Err(hf.error("n_group", &expected, &groups.n_groups.to_string()));
        }
        if !(1..=groups.n_groups).contains(&groups.n_kept) {
            let expected = format!("1 to {} groups", groups.n_groups);
            return Err(hf.error("topk_group", &expected, &groups.n_kept.to_string()));
        }
        n_allowed = per_group * groups.n_kept;
    }
    if !(1..=n_allowed).contains(&n_used) {
        let expected = format!("1 to {n_allowed} of {n_experts} experts");
        return Err(hf.error("num_experts_per_tok", &expected, &n_used.to_string()));
    }
    Ok(Ffn::Experts(experts))
}

/// Names of the experts of a block, `model.layers.{}.mlp`: one tensor for each of them, or all fused into one.
pub(super) fn named(names: Names, block: &str, [gate, up, down]: [&str; 3], config: &Config) -> Names {
    let experts = config.layers.iter().find_map(|layer| match &layer.ffn {
        Ffn::Experts(experts) => Some(experts),
        _ => None,
    });
    let Some(&ExpertsConfig { n_experts, d_ff, .. }) = experts else { return names };
    let one = |name: &str| format!("{block}.experts.{{e}}.{name}.weight");
    let half = |start: usize| Part::Rows { groups: n_experts, start, len: d_ff };
    let gate_up = "model.layers.{}.mlp.experts.gate_up_proj";
    let router = "layers.{}.router";
    names
        .and(&[(router, &format!("{block}.gate.weight"))])
        .or(router, "model.layers.{}.mlp.gate.weight", Part::Whole)
        .part("layers.{}.experts.w_gate", &one(gate), Part::Whole)
        .or("layers.{}.experts.w_gate", gate_up, half(0))
        .part("layers.{}.experts.w_up", &one(up), Part::Whole)
        .or("layers.{}.experts.w_up", gate_up, half(d_ff))
        .part("layers.{}.experts.w_down", &one(down), Part::Whole)
        .or("layers.{}.experts.w_down", "model.layers.{}.mlp.experts.down_proj", Part::Whole)
}
