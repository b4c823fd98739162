#!/usr/bin/env python3
"""Makes tiny models with the settings that golden models usually leave at their defaults, and records what they compute.

    python golden/variants.py golden/variants [--seed N] [NAME ...]    # transformers 5.23, torch 2.15, safetensors

Where:  read by `wootz-model`'s tests (tests/it/variants.rs).
Idea:   one model for each setting that changes the computation: routing in groups, queries without a latent, both
        rotations, YaRN's temperature, fused experts, dense layers between routed ones, biases, heads for sequences.

OUT/NAME/{config.json, model.safetensors, golden.json}. golden.json holds, for f32 on one CPU thread: `input_ids` (two
rows of different length), and for each row `logits` of the last position, `argmax` of every position and `greedy` (12
tokens) of a decoder, `hidden` of an encoder, `scores` of a classifier; a classifier's `token_types` where it has some.
"""
import argparse
import json
import os
import sys

import safetensors.torch
import torch
import transformers as tf

V = 48
BASE = dict(vocab_size=V, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)
GQA = dict(BASE, num_key_value_heads=1)
QWEN = dict(GQA, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=12, head_dim=12)
MLA = dict(BASE, num_key_value_heads=2, q_lora_rank=12, kv_lora_rank=10, qk_rope_head_dim=8, qk_nope_head_dim=6, v_head_dim=5,
           n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=12, n_shared_experts=2, first_k_dense_replace=1)
V3 = dict(MLA, n_group=4, topk_group=2)
YARN = dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=8, mscale=0.8, mscale_all_dim=1.2, beta_fast=32, beta_slow=1)
ENCODER = dict(BASE, type_vocab_size=2)
MODERN = dict(BASE, num_hidden_layers=3, local_attention=8, cls_token_id=1, sep_token_id=2)

# name -> (config class, settings, task). A task of `scores` is a sequence classifier.
MODELS = {
    "mixtral_window": ("MixtralConfig", dict(GQA, num_local_experts=4, sliding_window=8, rope_theta=5e4), "logits"),
    "mixtral_fused": ("MixtralConfig", dict(GQA, num_local_experts=4), "logits"),
    "qwen3_moe_some": ("Qwen3MoeConfig", dict(QWEN, mlp_only_layers=[0], attention_bias=True), "logits"),
    "qwen3_moe_step": ("Qwen3MoeConfig", dict(QWEN, decoder_sparse_step=2, norm_topk_prob=True), "logits"),
    "qwen3_moe_fused": ("Qwen3MoeConfig", dict(QWEN, use_sliding_window=True, sliding_window=8), "logits"),
    "deepseek_v2": ("DeepseekV2Config", dict(MLA, topk_method="greedy", routed_scaling_factor=1.5), "logits"),
    "deepseek_v2_groups": ("DeepseekV2Config", dict(MLA, topk_method="group_limited_greedy", n_group=4, topk_group=2, q_lora_rank=None,
                                                   rope_scaling=YARN), "logits"),
    "deepseek_v3_direct": ("DeepseekV3Config", dict(V3, q_lora_rank=None, rope_interleave=False, norm_topk_prob=False), "logits"),
    "deepseek_v3_yarn": ("DeepseekV3Config", dict(V3, rope_scaling=YARN, attention_bias=True), "logits"),
    "mamba_bias": ("MambaConfig", dict(vocab_size=V, hidden_size=16, num_hidden_layers=2, state_size=8, use_bias=True, use_conv_bias=False,
                                       conv_kernel=3, expand=3, tie_word_embeddings=False), "logits"),
    "mamba2_bias": ("Mamba2Config", dict(vocab_size=V, hidden_size=16, num_hidden_layers=2, state_size=8, num_heads=8, head_dim=4, n_groups=4,
                                         chunk_size=16, use_bias=True, use_conv_bias=False, tie_word_embeddings=True), "logits"),
    "xlm_roberta": ("XLMRobertaConfig", dict(BASE, pad_token_id=1, bos_token_id=0, type_vocab_size=1, max_position_embeddings=40), "hidden"),
    "modernbert_bias": ("ModernBertConfig", dict(MODERN, norm_bias=True, attention_bias=True, mlp_bias=True,
                                                 layer_types=["sliding_attention", "full_attention", "sliding_attention"]), "hidden"),
    "bert_scores": ("BertConfig", dict(ENCODER, num_labels=1), "scores"),
    "roberta_scores": ("RobertaConfig", dict(ENCODER, pad_token_id=1, bos_token_id=0, num_labels=3), "scores"),
    "modernbert_scores": ("ModernBertConfig", dict(MODERN, num_labels=1), "scores"),
    "modernbert_mean": ("ModernBertConfig", dict(MODERN, num_labels=2, classifier_pooling="mean", classifier_bias=True,
                                                 classifier_activation="relu", norm_bias=True), "scores"),
}
TASKS = {"logits": tf.AutoModelForCausalLM, "hidden": tf.AutoModel, "scores": tf.AutoModelForSequenceClassification}


def fuse_experts(folder):
    """Rewrites one tensor for each expert as transformers keeps them in memory: all gates and ups in one, all downs in one."""
    path = os.path.join(folder, "model.safetensors")
    tensors = safetensors.torch.load_file(path)
    fused = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    blocks = sorted({name.split(".experts.")[0] for name in tensors if ".experts." in name})
    for block in blocks:
        one = lambda e, new, old: tensors.get(f"{block}.experts.{e}.{new}.weight", tensors.get(f"{block}.experts.{e}.{old}.weight"))
        n = sum(name.startswith(f"{block}.experts.") for name in tensors) // 3
        to = block.replace("block_sparse_moe", "mlp")
        fused[f"{to}.experts.gate_up_proj"] = torch.stack([torch.cat([one(e, "gate_proj", "w1"), one(e, "up_proj", "w3")]) for e in range(n)])
        fused[f"{to}.experts.down_proj"] = torch.stack([one(e, "down_proj", "w2") for e in range(n)])
        if to != block:
            fused[f"{to}.gate.weight"] = fused.pop(f"{block}.gate.weight")
    safetensors.torch.save_file(fused, path, {"format": "pt"})


def make(name, out, seed):
    config_class, settings, task = MODELS[name]
    torch.manual_seed(seed)
    config = getattr(tf, config_class)(**settings)
    model = TASKS[task].from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():  # the stock initialisation is so small that every model predicts alike; spread it
        for p in model.parameters():
            if p.dim() >= 2:
                p.mul_(2.0 if "mamba_" in name else 4.0)
            else:
                p.add_(0.1 * torch.randn_like(p))
        for buffer_name, b in model.named_buffers():
            if buffer_name.endswith("e_score_correction_bias"):
                b.add_(0.2 * torch.randn_like(b))
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    model.save_pretrained(folder)
    if name.endswith("_fused"):
        fuse_experts(folder)
    generator = torch.Generator().manual_seed(seed + 1)
    rows = [torch.randint(3, V, (n,), generator=generator).tolist() for n in (29, 9)]
    golden = {"transformers": tf.__version__, "torch": torch.__version__, "seed": seed, "input_ids": rows, "rows": []}
    if task == "scores" and settings.get("type_vocab_size") == 2 and config_class == "BertConfig":
        golden["token_types"] = [[int(i > n // 2) for i in range(n)] for n in map(len, rows)]
    for i, ids in enumerate(rows):
        x = torch.tensor([ids])
        with torch.no_grad():
            if task == "hidden":
                golden["rows"].append({"hidden": model(x).last_hidden_state[0].tolist()})
            elif task == "scores":
                types = {"token_type_ids": torch.tensor([golden["token_types"][i]])} if "token_types" in golden else {}
                golden["rows"].append({"scores": model(x, **types).logits[0].tolist()})
            else:
                logits = model(x, use_cache=False).logits[0]
                greedy = list(ids)
                for _ in range(12):
                    greedy.append(int(model(torch.tensor([greedy]), use_cache=False).logits[0, -1].argmax()))
                golden["rows"].append({"logits": logits[-1].tolist(), "argmax": logits.argmax(-1).tolist(), "greedy": greedy[len(ids):]})
    os.path.exists(os.path.join(folder, "generation_config.json")) and os.remove(os.path.join(folder, "generation_config.json"))
    short = json.loads(json.dumps(golden), parse_float=lambda number: round(float(number), 7))
    json.dump(short, open(os.path.join(folder, "golden.json"), "w"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.names or MODELS:
        make(name, args.out, args.seed)
        print(name, file=sys.stderr)
