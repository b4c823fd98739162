"""Speed and peak memory of PyTorch's training steps, beside `cargo run --release -p wootz-train --example speed`.

    python golden/train/speed.py SHAPE f32|bf16 TOKENS SEQUENCES STEPS [lora] [--compile]

The same shapes, tokens and optimizer (torch's AdamW, clipping at 1.0), two threads. bf16 is autocast over f32 weights, as the
usual trainers do it on a CPU. Prints the seconds of each step and the most memory that the process ever held.
"""

import resource
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SHAPES = {
    "1m": (128, 256, 3, 4, 2, 1024),
    "10m": (256, 688, 6, 8, 4, 16384),
    "110m": (768, 2048, 12, 12, 12, 32000),
    "135m": (576, 1536, 30, 9, 3, 49152),
}


def main():
    flags = [a for a in sys.argv[1:] if a in ("lora", "--compile")]
    shape, dtype, n_tokens, n_sequences, n_steps = [a for a in sys.argv[1:] if a not in flags]
    n_tokens, n_sequences, n_steps = int(n_tokens), int(n_sequences), int(n_steps)
    torch.set_num_threads(2)
    torch.manual_seed(1)
    c, f, layers, h, k, v = SHAPES[shape]
    config = LlamaConfig(
        hidden_size=c, intermediate_size=f, num_hidden_layers=layers, num_attention_heads=h, num_key_value_heads=k,
        vocab_size=v, max_position_embeddings=4096, rms_norm_eps=1e-5, tie_word_embeddings=shape == "135m",
        use_cache=False,
    )
    model = LlamaForCausalLM(config).train()
    if "lora" in flags:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01)
    step_model = torch.compile(model) if "--compile" in flags else model
    rows = [[(t * 7919 + i * 104_729) * 31 % v for t in range(n_tokens + 1)] for i in range(n_sequences)]
    ids = torch.tensor(rows)
    for step in range(n_steps):
        start = time.time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            loss = step_model(input_ids=ids[:, :-1], labels=ids[:, :-1], shift_labels=ids[:, 1:].contiguous()).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds = time.time() - start
        print(f"step {step}: loss {loss.item():.4f}, {seconds:.2f} s, {n_tokens * n_sequences / seconds:.0f} tok/s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


main()
