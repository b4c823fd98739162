//! What a family implies beyond its keys: read from tensors that are there, or computed as llama.cpp computes it.
//!
//! Where:  called by [`to_hf`](super::reading) for files that were not written here.
//! Source: llama.cpp's loader, `load_arch_hparams` of each model.

use serde_json::json;

use super::reading::Reading;
use crate::Result;

/// Nothing more than its keys and the usual biases.
pub(super) fn usual(reading: &mut Reading) -> Result<()> {
    reading.put("attention_bias", reading.has("attn_q.bias") || reading.has("attn_qkv.bias"));
    reading.put("mlp_bias", reading.has("ffn_gate.bias"));
    Ok(())
}

/// Mistral and Mixtral are called by Llama's name.
pub(super) fn llama(reading: &mut Reading) -> Result<()> {
    usual(reading)?;
    if reading.keys.json("expert_count")?.is_some_and(|n| n != 0) {
        reading.put("model_type", "mixtral");
        reading.copy("num_local_experts", "expert_count")?;
        reading.copy("num_experts_per_tok", "expert_used_count")?;
    } else if reading.keys.json("attention.sliding_window")?.is_some_and(|window| window != 0) {
        reading.put("model_type", "mistral");
    }
    Ok(())
}

/// Scores are scaled by the width of a head, but by C/H in the largest model, which has 46 layers.
pub(super) fn gemma2(reading: &mut Reading) -> Result<()> {
    usual(reading)?;
    reading.put_default("sliding_window", 4096);
    reading.put_default("attn_logit_softcapping", 50.0);
    reading.put_default("final_logit_softcapping", 30.0);
    query_scalar(reading, 46)
}

/// The same with 62 layers; five layers of six slide, and turn by a base of their own.
pub(super) fn gemma3(reading: &mut Reading) -> Result<()> {
    usual(reading)?;
    let slides = reading.keys.json("attention.sliding_window")?.is_some_and(|window| window != 0);
    let pattern = match reading.size("attention.sliding_window_pattern")? {
        _ if !slides => 1,
        Some(pattern) => pattern,
        None => 6,
    };
    reading.put("sliding_window_pattern", pattern);
    reading.put("rope_local_base_freq", reading.f64("rope.freq_base_swa")?.unwrap_or(10_000.0));
    if let Some(cap) = reading.f64("final_logit_softcapping")?.filter(|&cap| cap != 0.0) {
        reading.put("final_logit_softcapping", cap);
    }
    query_scalar(reading, 62)
}

fn query_scalar(reading: &mut Reading, n_layers_of_largest: usize) -> Result<()> {
    let (width, heads) = (reading.need("embedding_length")?, reading.need("attention.head_count")?);
    let scalar = match reading.size("attention.key_length")? {
        Some(head) if reading.need("block_count")? != n_layers_of_largest => head,
        _ => width / heads,
    };
    reading.put("query_pre_attn_scalar", scalar);
    Ok(())
}

/// Phi-1 and 2.
pub(super) fn phi2(reading: &mut Reading) -> Result<()> {
    reading.put("qk_layernorm", reading.has("attn_q_norm.weight"));
    Ok(())
}

/// 7B has one head of keys; 40B and 180B have groups, and two norms where the file has the second.
pub(super) fn falcon(reading: &mut Reading) -> Result<()> {
    let heads = reading.need("attention.head_count_kv")?;
    let two_norms = reading.has("attn_norm_2.weight");
    let grouped = heads > 1 || two_norms;
    reading.put("new_decoder_architecture", grouped);
    reading.put("multi_query", !grouped);
    reading.copy("num_kv_heads", "attention.head_count_kv")?;
    reading.put("num_ln_in_parallel_attn", if two_norms { 2 } else { 1 });
    reading.put("bias", reading.has("attn_qkv.bias"));
    Ok(())
}

/// Both parts are beside each other where there is no second norm.
pub(super) fn stablelm(reading: &mut Reading) -> Result<()> {
    reading.put("use_parallel_residual", !reading.has("ffn_norm.weight"));
    reading.put("use_qkv_bias", reading.has("attn_q.bias"));
    reading.put("qk_layernorm", reading.has("attn_q_norm.weight"));
    Ok(())
}

/// Logits are scaled only where the file says by how much.
pub(super) fn command_r(reading: &mut Reading) -> Result<()> {
    usual(reading)?;
    reading.put_default("logit_scale", 1.0);
    reading.put("use_qk_norm", reading.has("attn_q_norm.weight"));
    Ok(())
}

/// Scores are scaled by 1/√D unless the file says otherwise; a scale of zero is none.
pub(super) fn granite(reading: &mut Reading) -> Result<()> {
    usual(reading)?;
    let scale = reading.f64("attention.scale")?.filter(|&scale| scale != 0.0);
    let head = match reading.size("attention.key_length")? {
        Some(head) => head,
        None => reading.need("embedding_length")? / reading.need("attention.head_count")?,
    };
    reading.put("attention_multiplier", scale.unwrap_or(1.0 / (head as f64).sqrt()));
    for (ours, theirs) in
        [("embedding_multiplier", "embedding_scale"), ("residual_multiplier", "residual_scale")]
    {
        reading.put(ours, reading.f64(theirs)?.filter(|&scale| scale != 0.0).unwrap_or(1.0));
    }
    Ok(())
}

/// Biases everywhere or nowhere.
pub(super) fn starcoder2(reading: &mut Reading) -> Result<()> {
    reading.put("use_bias", reading.has("attn_q.bias"));
    Ok(())
}

/// Every fourth layer has no positions.
pub(super) fn smollm3(reading: &mut Reading) -> Result<()> {
    usual(reading)?;
    reading.put("no_rope_layer_interval", 4);
    Ok(())
}

/// V2 chooses experts by the soft-max, V3 by the sigmoid and a bias.
pub(super) fn deepseek2(reading: &mut Reading) -> Result<()> {
    let is_v3 = reading.keys.json("expert_gating_func")?.is_some_and(|function| function == 2);
    let (head, value) =
        (reading.need("attention.key_length_mla")?, reading.need("attention.value_length_mla")?);
    let turned = reading.need("rope.dimension_count")?;
    let Some(plain) = head.checked_sub(turned) else {
        let expected = format!("at least the {turned} of `rope.dimension_count`");
        return Err(reading.keys.error("attention.key_length_mla", &expected, &head.to_string()));
    };
    reading.put("qk_nope_head_dim", plain);
    reading.put("v_head_dim", value);
    reading.copy("num_key_value_heads", "attention.head_count")?;
    reading.put_default("q_lora_rank", json!(null));
    reading.put_default("first_k_dense_replace", 0);
    reading.put_default("n_shared_experts", 0);
    let normalized = reading.keys.json("expert_weights_norm")?.is_some_and(|normalized| normalized == true);
    reading.put("norm_topk_prob", normalized);
    let scale = reading.f64("expert_weights_scale")?.filter(|&scale| scale != 0.0);
    reading.put("routed_scaling_factor", scale.unwrap_or(1.0));
    if is_v3 {
        reading.put_default("n_group", 1);
        reading.put_default("topk_group", 1);
    } else {
        reading.put("model_type", "deepseek_v2");
        let grouped = reading.size("expert_group_count")?.is_some_and(|n| n > 1);
        reading.put("topk_method", if grouped { "group_limited_greedy" } else { "greedy" });
    }
    Ok(())
}

/// The scan is a whole number of times as wide as the model.
pub(super) fn mamba(reading: &mut Reading) -> Result<()> {
    let (width, inner) = (reading.need("embedding_length")?, reading.need("ssm.inner_size")?);
    if !inner.is_multiple_of(width) {
        let expected = format!("a multiple of the {width} of `embedding_length`");
        return Err(reading.keys.error("ssm.inner_size", &expected, &inner.to_string()));
    }
    reading.put("expand", inner / width);
    reading.copy("layer_norm_epsilon", "attention.layer_norm_rms_epsilon")?;
    reading.put("use_conv_bias", reading.has("ssm_conv1d.bias"));
    reading.put("use_bias", reading.has("ssm_in.bias"));
    Ok(())
}

/// Heads of equal width.
pub(super) fn mamba2(reading: &mut Reading) -> Result<()> {
    mamba(reading)?;
    let (inner, heads) = (reading.need("ssm.inner_size")?, reading.need("ssm.time_step_rank")?);
    reading.put("head_dim", inner / heads);
    Ok(())
}

/// As many token types as the table has rows.
pub(super) fn bert(reading: &mut Reading) -> Result<()> {
    if let Some(table) = reading.keys.shape("token_types.weight") {
        reading.put("type_vocab_size", table.first().copied().unwrap_or(0));
    }
    Ok(())
}

/// Every third layer, the first among them, sees everything and turns by another base.
pub(super) fn modern_bert(reading: &mut Reading) -> Result<()> {
    reading.copy("norm_eps", "attention.layer_norm_rms_epsilon")?; // older converters call it so
    reading.copy("norm_eps", "attention.layer_norm_epsilon")?;
    reading.put("global_rope_theta", reading.f64("rope.freq_base")?.unwrap_or(10_000.0));
    reading.put("local_rope_theta", reading.f64("rope.freq_base_swa")?.unwrap_or(10_000.0));
    let step = reading.size("attention.sliding_window_pattern")?.unwrap_or(3);
    reading.put("global_attn_every_n_layers", step);
    reading.put("attention_bias", reading.has("attn_qkv.bias"));
    Ok(())
}
