#!/usr/bin/env python3
"""Makes tiny, randomly initialised models with `transformers` and records what they compute.

    python golden/models.py OUT_DIR [--seed N] [--small] [ARCH ...]   # needs: pip install torch transformers safetensors

For each architecture: OUT_DIR/ARCH/{config.json, model.safetensors, golden.json}. golden.json holds, for f32 on one CPU thread:
`input_ids` (two rows of different length, to be run as separate sequences), `logits` of the last position and their
`argmax` at every position, `greedy` (the next 24 tokens of greedy decoding), `loss` (mean next-token cross-entropy), and for encoders
`hidden` (the last hidden state of every token). Vocabulary 320, so a byte-level tokenizer fits.

`golden/models` was made with `python golden/models.py golden/models --small --seed 7` (transformers 5.23.0, torch 2.15.0): the same
architectures at half the width and with a vocabulary of 96. `cargo xtask golden DIR` checks any such folder.
"""
import argparse, json, os, sys
import torch
import transformers as tf

V = 320
BASE = dict(vocab_size=V, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4,
            max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=0)
GQA = dict(BASE, num_key_value_heads=2)
ROPE3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=128)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=128)
MOE = dict(GQA, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=48)

# name -> (config class, kwargs). Decoders first, encoders last.
ARCHS = {
    "llama": ("LlamaConfig", dict(GQA, tie_word_embeddings=True)),
    "llama3": ("LlamaConfig", dict(GQA, rope_theta=500000.0, rope_scaling=ROPE3)),
    "llama_yarn": ("LlamaConfig", dict(GQA, rope_scaling=YARN)),
    "mistral": ("MistralConfig", dict(GQA, sliding_window=16, head_dim=24)),
    "mixtral": ("MixtralConfig", dict(GQA, num_local_experts=4, num_experts_per_tok=2)),
    "qwen2": ("Qwen2Config", dict(GQA, use_sliding_window=False)),
    "qwen3": ("Qwen3Config", dict(GQA, head_dim=32)),
    "qwen3_moe": ("Qwen3MoeConfig", dict(MOE, head_dim=32, norm_topk_prob=True, decoder_sparse_step=1)),
    "gemma": ("GemmaConfig", dict(GQA, head_dim=32)),
    "gemma2": ("Gemma2Config", dict(GQA, head_dim=32, sliding_window=16, query_pre_attn_scalar=24)),
    "gemma3_text": ("Gemma3TextConfig", dict(GQA, num_hidden_layers=7, head_dim=32, sliding_window=16, query_pre_attn_scalar=24)),
    "phi": ("PhiConfig", dict(BASE, partial_rotary_factor=0.5)),
    "phi3": ("Phi3Config", dict(GQA)),
    "gpt2": ("GPT2Config", dict(vocab_size=V, n_embd=64, n_layer=3, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2)),
    "gpt_neox": ("GPTNeoXConfig", dict(BASE, rotary_pct=0.25, use_parallel_residual=True)),
    "falcon": ("FalconConfig", dict(vocab_size=V, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, multi_query=True,
                                    parallel_attn=True, new_decoder_architecture=False, bias=False, bos_token_id=1, eos_token_id=2)),
    "bloom": ("BloomConfig", dict(vocab_size=V, hidden_size=64, n_layer=3, n_head=4, bos_token_id=1, eos_token_id=2)),
    "opt": ("OPTConfig", dict(BASE, ffn_dim=160, word_embed_proj_dim=64)),
    "stablelm": ("StableLmConfig", dict(GQA, partial_rotary_factor=0.25)),
    "olmo2": ("Olmo2Config", dict(GQA)),
    "cohere": ("CohereConfig", dict(GQA, logit_scale=0.0625, use_qk_norm=False)),
    "granite": ("GraniteConfig", dict(GQA, embedding_multiplier=6.0, residual_multiplier=0.3, attention_multiplier=0.1, logits_scaling=4.0)),
    "starcoder2": ("Starcoder2Config", dict(GQA, sliding_window=None)),
    "smollm3": ("SmolLM3Config", dict(GQA, num_hidden_layers=4, no_rope_layer_interval=4)),
    "deepseek_v3": ("DeepseekV3Config", dict(BASE, num_key_value_heads=4, q_lora_rank=24, kv_lora_rank=32, qk_rope_head_dim=16,
                    qk_nope_head_dim=16, v_head_dim=16, n_routed_experts=8, num_experts_per_tok=2, n_group=2, topk_group=1,
                    n_shared_experts=1, moe_intermediate_size=48, first_k_dense_replace=1)),
    "mamba": ("MambaConfig", dict(vocab_size=V, hidden_size=64, num_hidden_layers=3, state_size=8, bos_token_id=1, eos_token_id=2)),
    "mamba2": ("Mamba2Config", dict(vocab_size=V, hidden_size=64, num_hidden_layers=3, state_size=16, num_heads=8, head_dim=16, n_groups=2,
                                    chunk_size=16, bos_token_id=1, eos_token_id=2)),
    "bitnet": ("BitNetConfig", dict(GQA)),
    "bert": ("BertConfig", dict(BASE)),
    "roberta": ("RobertaConfig", dict(BASE)),
    "modernbert": ("ModernBertConfig", dict(BASE, global_attn_every_n_layers=3, local_attention=16, cls_token_id=1, sep_token_id=2)),
}
ENCODERS = {"bert", "roberta", "modernbert"}


def shrunk(name, kwargs):
    """Half the width, a smaller vocabulary, a short context."""
    small = dict(kwargs)
    halved = ("hidden_size", "n_embd", "intermediate_size", "ffn_dim", "word_embed_proj_dim", "moe_intermediate_size", "head_dim",
              "q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "state_size")
    for key in halved:
        if key in small:
            small[key] //= 2
    if name == "mamba2":
        small.update(num_heads=8, head_dim=8)
    small["vocab_size"] = 96
    for key in ("max_position_embeddings", "n_positions"):
        if key in small:
            small[key] = 128
    return small


def make(name, out, seed, small):
    cls, kwargs = ARCHS[name]
    kwargs = shrunk(name, kwargs) if small else kwargs
    vocab_size = kwargs["vocab_size"]
    torch.manual_seed(seed)
    config = getattr(tf, cls)(**kwargs)
    config._attn_implementation = "eager"
    model = (tf.AutoModel if name in ENCODERS else tf.AutoModelForCausalLM).from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():  # the stock initialisation is so small that every model predicts alike; spread it
        for p in model.parameters():
            if p.dim() >= 2:
                p.mul_(4.0)
            elif p.dim() == 1:
                p.add_(0.1 * torch.randn_like(p))
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    gen = torch.Generator().manual_seed(seed + 1)
    rows = [torch.randint(3, vocab_size, (n,), generator=gen).tolist() for n in (37, 11)]
    golden = {"transformers": tf.__version__, "torch": torch.__version__, "seed": seed, "input_ids": rows, "rows": []}
    for ids in rows:
        x = torch.tensor([ids])
        with torch.no_grad():
            if name in ENCODERS:
                golden["rows"].append({"hidden": model(x).last_hidden_state[0].tolist()})
                continue
            logits = model(x, use_cache=False).logits[0]
            greedy = list(ids)
            for _ in range(24):
                greedy.append(int(model(torch.tensor([greedy]), use_cache=False).logits[0, -1].argmax()))
        loss = torch.nn.functional.cross_entropy(logits[:-1], x[0, 1:])
        golden["rows"].append({"logits": logits[-1].tolist(), "argmax": logits.argmax(-1).tolist(), "greedy": greedy[len(ids):], "loss": float(loss)})
    json.dump(golden, open(os.path.join(folder, "golden.json"), "w"))
    return sum(p.numel() for p in model.parameters())


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("out")
    ap.add_argument("archs", nargs="*")
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--small", action="store_true")
    a = ap.parse_args()
    torch.set_num_threads(1)
    failed = 0
    for n in a.archs or ARCHS:
        try:
            print(f"{n:14} {make(n, a.out, a.seed, a.small):>9} parameters")
        except Exception as e:  # one architecture that this transformers does not have must not stop the others
            failed += 1
            print(f"{n:14} FAILED {type(e).__name__}: {str(e)[:160]}", file=sys.stderr)
    sys.exit(1 if failed else 0)
