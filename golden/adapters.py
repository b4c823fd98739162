#!/usr/bin/env python3
"""Makes LoRA adapters with `peft` for the tiny models of golden/models and records what model and adapter compute together.

    python golden/adapters.py golden/models OUT_DIR [--llama-cpp DIR]   # needs: pip install torch transformers peft safetensors gguf

For each case: OUT_DIR/CASE/{adapter_config.json, adapter_model.safetensors or .bin, golden.json}. golden.json holds, for f32 on one
CPU thread: `model` (the folder in golden/models), `input_ids` (two rows of different length, to be run as separate sequences) and
for each row the `logits` of its last position, `greedy` (the next 16 tokens) and `base_logits` (of the same without the adapter). With
--llama-cpp DIR, a source folder of llama.cpp, its `convert_lora_to_gguf.py` makes adapter.gguf of some of them.

`golden/adapters` was made with peft 0.21.2, transformers 5.23.0, torch 2.15.0, gguf 0.19.0.
"""
import argparse, json, os, subprocess, sys
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]

# name -> (model, settings of LoraConfig)
CASES = {
    "llama": ("llama", dict(r=4, lora_alpha=8, target_modules="all-linear", use_rslora=True,
                            rank_pattern={"q_proj": 2, r"layers\.1\.mlp\.down_proj": 5}, alpha_pattern={"v_proj": 3})),
    "llama_plain": ("llama", dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "up_proj"])),
    "llama_dora": ("llama", dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"], use_dora=True)),
    "llama_lora_bias": ("llama", dict(r=2, lora_alpha=4, target_modules=["v_proj", "up_proj"], lora_bias=True)),
    "qwen3": ("qwen3", dict(r=4, lora_alpha=16, target_modules=r".*\.(self_attn|mlp)\.(q_proj|o_proj|gate_proj)",
                            layers_to_transform=None)),
    "qwen3_layers": ("qwen3", dict(r=4, lora_alpha=16, target_modules=["k_proj", "lm_head"], exclude_modules=r".*layers\.1\..*")),
    "mistral_layers": ("mistral", dict(r=2, lora_alpha=16, target_modules=["k_proj", "up_proj"], layers_to_transform=[0, 2],
                                       layers_pattern="layers")),
    "gemma2": ("gemma2", dict(r=4, lora_alpha=8, target_modules=ATTENTION + ["gate_proj", "up_proj", "down_proj"])),
    "mixtral": ("mixtral", dict(r=4, lora_alpha=8, target_modules=ATTENTION)),
    "phi3": ("phi3", dict(r=4, lora_alpha=8, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"])),
    "gpt2": ("gpt2", dict(r=4, lora_alpha=8, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)),
    "gpt2_bias": ("gpt2", dict(r=2, lora_alpha=8, target_modules=["c_attn"], fan_in_fan_out=True, bias="lora_only")),
    "gpt2_dora": ("gpt2", dict(r=2, lora_alpha=8, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, use_dora=True)),
}
AS_BIN = {"gemma2"}
AS_GGUF = {"llama_plain", "qwen3", "mixtral"}


def rows(vocab):
    random = torch.Generator().manual_seed(11)
    return [torch.randint(3, vocab, (n,), generator=random).tolist() for n in (23, 9)]


def measure(model, ids):
    with torch.no_grad():
        out = []
        for row in ids:
            logits = model(input_ids=torch.tensor([row])).logits[0, -1]
            greedy = list(row)
            for _ in range(16):
                greedy.append(int(model(input_ids=torch.tensor([greedy])).logits[0, -1].argmax()))
            out.append(dict(logits=[float(x) for x in logits], greedy=greedy[len(row):]))
        return out


def make(name, models, out):
    base, settings = CASES[name]
    model = AutoModelForCausalLM.from_pretrained(os.path.join(models, base), dtype=torch.float32).eval()
    ids = rows(model.config.vocab_size)
    plain = measure(model, ids)
    torch.manual_seed(len(name))
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    for key, parameter in model.named_parameters():
        if "lora_magnitude" in key:
            parameter.data *= 1.0 + 0.3 * torch.randn_like(parameter)
        elif "lora_" in key:
            parameter.data = 0.3 * torch.randn_like(parameter)
        elif key.endswith("base_layer.bias") and settings.get("bias") == "lora_only":
            parameter.data += 0.2 * torch.randn_like(parameter)
    folder = os.path.join(out, name)
    model.save_pretrained(folder, safe_serialization=name not in AS_BIN)
    if name in AS_BIN and not os.path.exists(os.path.join(folder, "adapter_model.bin")):
        from safetensors.torch import load_file
        file = os.path.join(folder, "adapter_model.safetensors")
        torch.save(load_file(file), os.path.join(folder, "adapter_model.bin"))
        os.remove(file)
    readme = os.path.join(folder, "README.md")
    if os.path.exists(readme):
        os.remove(readme)
    config_path = os.path.join(folder, "adapter_config.json")
    config = json.load(open(config_path))
    config["base_model_name_or_path"] = base
    json.dump(config, open(config_path, "w"), indent=1, sort_keys=True)
    with_adapter = measure(model, ids)
    worst = max(abs(a - b) for one, two in zip(plain, with_adapter) for a, b in zip(one["logits"], two["logits"]))
    golden = dict(model=base, input_ids=ids, rows=[dict(two, base_logits=one["logits"]) for one, two in zip(plain, with_adapter)])
    json.dump(golden, open(os.path.join(folder, "golden.json"), "w"))
    print(f"{name}: moves logits by up to {worst:.3f}, {sum(p.numel() for k, p in model.named_parameters() if 'lora_' in k)} numbers")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("models")
    parser.add_argument("out")
    parser.add_argument("--llama-cpp")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in CASES:
        make(name, arguments.models, arguments.out)
    for name in AS_GGUF if arguments.llama_cpp else ():
        folder = os.path.join(arguments.out, name)
        script = os.path.join(arguments.llama_cpp, "convert_lora_to_gguf.py")
        base = os.path.join(arguments.models, CASES[name][0])
        subprocess.run([sys.executable, script, "--base", base, "--outtype", "f32", "--outfile",
                        os.path.join(folder, "adapter.gguf"), folder], check=True)
