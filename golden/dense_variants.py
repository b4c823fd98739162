#!/usr/bin/env python3
"""Makes tiny dense decoders with the settings that `models.py` leaves alone, and records what they compute.

    python golden/dense_variants.py OUT_DIR [VARIANT ...] [--seed N]     # needs torch, transformers 5.23, safetensors

Where:  compared by `cargo xtask golden OUT_DIR`, where a variant that GGUF cannot say or that is quantized stops at conversion.
Idea:   one model a setting: layouts of q, k and v, norms, windows, rotations. `x_tied` or `x_untied` is each dense decoder
        of models.py with the other kind of head; `x_old` has its config.json in the layout of transformers 4;
        `bitnet_packed…` has ternary weights, four to a byte, and needs `accelerate`.

Writes what models.py writes.
"""
import argparse, json, os, sys
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
import models
from models import ARCHS, BASE, GQA, ROPE3, YARN, ENCODERS

DENSE = ("llama mistral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 gpt2 gpt_neox falcon bloom opt stablelm olmo2 cohere "
         "granite starcoder2 smollm3 bitnet").split()
LONG = dict(rope_type="longrope", short_factor=[1.0 + 0.1 * i for i in range(8)], long_factor=[2.0 + i for i in range(8)])
LONG6 = dict(LONG, short_factor=LONG["short_factor"][:6], long_factor=LONG["long_factor"][:6])
GEMMA3_ROPE = dict(sliding_attention=dict(rope_type="default", rope_theta=5000.0),
                   full_attention=dict(rope_type="linear", factor=8.0, rope_theta=50000.0))
FALCON = dict(ARCHS["falcon"][1])
BLOOM = dict(ARCHS["bloom"][1])


def other(name, **changes):
    cls, kwargs = ARCHS[name]
    return cls, dict(kwargs, **changes)


VARIANTS = {
    "llama_linear": other("llama", rope_scaling=dict(rope_type="linear", factor=4.0)),
    "llama_dynamic": other("llama", rope_scaling=dict(rope_type="dynamic", factor=2.0), max_position_embeddings=16),
    "llama_biases": other("llama", attention_bias=True, mlp_bias=True, hidden_act="gelu", head_dim=24),
    "llama_yarn_mscale": other("llama", rope_scaling=dict(YARN, mscale=0.8, mscale_all_dim=0.5, beta_fast=16, beta_slow=2, truncate=False)),
    "llama_yarn_factor": other("llama", rope_scaling=dict(YARN, attention_factor=1.5), rope_theta=50000.0),
    "mistral_full": other("mistral", sliding_window=None),
    "qwen2_window": other("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=1),
    "qwen3_window": other("qwen3", use_sliding_window=True, sliding_window=8, attention_bias=True,
                          layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    "gemma2_uncapped": other("gemma2", attn_logit_softcapping=None, final_logit_softcapping=None, attention_bias=True),
    "gemma2_capped": other("gemma2", attn_logit_softcapping=0.5, final_logit_softcapping=0.5),
    "gemma3_scaled": other("gemma3_text", rope_parameters=GEMMA3_ROPE, sliding_window_pattern=3),
    "gemma3_embedder": other("gemma3_text", use_bidirectional_attention=True),
    "gemma3_scaled_old": other("gemma3_text", rope_parameters=GEMMA3_ROPE),
    "phi_qk": other("phi", qk_layernorm=True, partial_rotary_factor=0.4, num_key_value_heads=2, hidden_act="gelu"),
    "phi_old": other("phi"),
    "phi3_long": other("phi3", rope_scaling=LONG, max_position_embeddings=64, original_max_position_embeddings=16),
    "phi3_long_old": other("phi3", rope_scaling=LONG, max_position_embeddings=64, original_max_position_embeddings=16),
    "phi3_partial": other("phi3", rope_scaling=LONG6, max_position_embeddings=64, original_max_position_embeddings=16,
                          partial_rotary_factor=0.75, sliding_window=8),
    "gpt2_scales": other("gpt2", scale_attn_by_inverse_layer_idx=True, n_inner=96, activation_function="relu"),
    "gpt2_unscaled": other("gpt2", scale_attn_weights=False, reorder_and_upcast_attn=True),
    "gpt_neox_serial": other("gpt_neox", use_parallel_residual=False, attention_bias=False, rotary_pct=1.0),
    "gpt_neox_old": other("gpt_neox", rotary_pct=0.5, rotary_emb_base=500),
    "falcon_groups": ("FalconConfig", dict(FALCON, new_decoder_architecture=True, num_kv_heads=2)),
    "falcon_groups_one_norm": ("FalconConfig", dict(FALCON, new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1)),
    "falcon_heads": ("FalconConfig", dict(FALCON, multi_query=False, parallel_attn=False, bias=True)),
    "falcon_alibi": ("FalconConfig", dict(FALCON, multi_query=False, parallel_attn=False, bias=True, alibi=True, ffn_hidden_size=96)),
    "falcon_alibi_six": ("FalconConfig", dict(FALCON, hidden_size=96, num_attention_heads=6, alibi=True)),
    "bloom_twelve": ("BloomConfig", dict(BLOOM, hidden_size=96, n_head=12)),
    "opt_post": other("opt", do_layer_norm_before=False),
    "opt_plain": other("opt", layer_norm_elementwise_affine=False, enable_bias=False, activation_function="gelu"),
    "opt_350m": other("opt", do_layer_norm_before=False, word_embed_proj_dim=32),
    "stablelm_12b": other("stablelm", qk_layernorm=True, use_parallel_residual=True, use_qkv_bias=True),
    "stablelm_old": other("stablelm", partial_rotary_factor=0.5),
    "olmo2_biases": other("olmo2", attention_bias=True),
    "cohere_qk": other("cohere", use_qk_norm=True, attention_bias=True),
    "granite_biases": other("granite", attention_bias=True, mlp_bias=True),
    "starcoder2_window": other("starcoder2", sliding_window=8, use_bias=False),
    "smollm3_list": other("smollm3", no_rope_layers=[1, 0, 0, 1], use_sliding_window=True, sliding_window=8, mlp_bias=True),
    "bitnet_packed": other("bitnet"),
    "bitnet_packed_auto": other("bitnet"),
    "bitnet_online": other("bitnet"),
    "llama3_old": other("llama3"),
}
for name in DENSE:
    cls, kwargs = ARCHS[name]
    tied = getattr(tf, cls)(**kwargs).tie_word_embeddings
    VARIANTS[f"{name}_{'untied' if tied else 'tied'}"] = (cls, dict(kwargs, tie_word_embeddings=not tied))


def older(config):
    """The layout of transformers 4."""
    rope = config.pop("rope_parameters")
    config["torch_dtype"] = config.pop("dtype")
    if "full_attention" in rope:
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        config["sliding_window_pattern"] = config.pop("_sliding_window_pattern")
        config.pop("layer_types")
        rope = rope["full_attention"]
    theta, share = rope.pop("rope_theta"), rope.pop("partial_rotary_factor", None)
    neox = config["model_type"] == "gpt_neox"
    config["rotary_emb_base" if neox else "rope_theta"] = theta
    if share is not None:
        config["rotary_pct" if neox else "partial_rotary_factor"] = share
    rope["type"] = rope.pop("rope_type")
    config["rope_scaling"] = None if rope["type"] == "default" else rope


def quantize(folder, linear_class, mode):
    """A configuration of ternary weights, and but for `online` those weights with one scale a matrix, as transformers reads them."""
    path = os.path.join(folder, "model.safetensors")
    tensors = load_file(path)
    for name in [name for name in tensors if name.endswith("_proj.weight") and mode == "offline"]:
        w = tensors[name]
        scale = 1.0 / w.abs().mean().clamp(min=1e-5)
        ternary = ((w * scale).round().clamp(-1, 1) + 1).to(torch.uint8)
        rows = w.shape[0] // 4
        tensors[name] = sum(ternary[i * rows:(i + 1) * rows] << (2 * i) for i in range(4)).contiguous()
        tensors[name.replace(".weight", ".weight_scale")] = (scale if linear_class == "bitlinear" else 1 / scale).reshape(1)
    save_file(tensors, path, metadata={"format": "pt"})
    path = os.path.join(folder, "config.json")
    config = json.load(open(path))
    config["quantization_config"] = dict(quant_method="bitnet", linear_class=linear_class, quantization_mode=mode)
    json.dump(config, open(path, "w"), indent=2)


def record_again(folder, attention):
    """The results of a model read back from its folder."""
    model = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).eval()
    path = os.path.join(folder, "golden.json")
    golden = json.load(open(path))
    for ids, row in zip(golden["input_ids"], golden["rows"]):
        with torch.no_grad():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0]
            greedy = list(ids)
            for _ in range(24):
                greedy.append(int(model(torch.tensor([greedy]), use_cache=False).logits[0, -1].argmax()))
        loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]))
        row.update(logits=logits[-1].tolist(), argmax=logits.argmax(-1).tolist(), greedy=greedy[len(ids):], loss=float(loss))
    json.dump(golden, open(path, "w"))


def variant(name, out, seed):
    models.ARCHS[name] = VARIANTS[name]
    if name.endswith("_embedder"):
        models.ENCODERS.add(name)
    n = models.make(name, out, seed, False)
    folder = os.path.join(out, name)
    if name.endswith("_old"):
        path = os.path.join(folder, "config.json")
        config = json.load(open(path))
        older(config)
        json.dump(config, open(path, "w"), indent=2)
    if name.startswith("bitnet_") and "tied" not in name:
        linear_class = "bitlinear" if name == "bitnet_packed" else "autobitlinear"
        quantize(folder, linear_class, "online" if name == "bitnet_online" else "offline")
        record_again(folder, "eager")
    if "alibi" in name:  # eager attention of transformers 5.23 adds the penalty twice: to the scores and in the mask
        record_again(folder, "sdpa")
    return n


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("out")
    ap.add_argument("variants", nargs="*")
    ap.add_argument("--seed", type=int, default=0)
    a = ap.parse_args()
    torch.set_num_threads(1)
    failed = 0
    for n in a.variants or VARIANTS:
        try:
            print(f"{n:24} {variant(n, a.out, a.seed):>9} parameters")
        except Exception as e:
            failed += 1
            print(f"{n:24} FAILED {type(e).__name__}: {str(e)[:160]}", file=sys.stderr)
    sys.exit(1 if failed else 0)
