#!/usr/bin/env python3
"""Compares ids and greedy tokens of one model with a tokenizer: Hugging Face, here, and llama.cpp on GGUF files of both.

    python check_text.py FOLDER --wootz BINARY --llama-cpp SOURCE [-n 300]    # needs: pip install llama-cpp-python tokenizers torch transformers

FOLDER holds `tokenizer.json`. Its GGUF is written here and by llama.cpp's converter. Of n texts (those of `golden/tokenizers` and
random ones) every reader of either file must give the ids that Hugging Face's tokenizer gives, none added; and both
programs the same 48 greedy tokens after a few prompts. Exits with 1 if anything differs.
"""
import argparse, json, random, subprocess, sys, tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
PROMPTS = ["Once upon a time", "The little dog", "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"]


def output(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wootz", required=True)
    parser.add_argument("--llama-cpp", required=True)
    parser.add_argument("-n", type=int, default=300)
    args = parser.parse_args()
    import tokenizers
    from random_texts import OTHER_SCRIPTS, random_text
    hf = tokenizers.Tokenizer.from_file(str(args.folder / "tokenizer.json"))
    rng = random.Random(1)
    words = sorted({word for line in OTHER_SCRIPTS + [Path(__file__).read_text()] for word in line.split()})
    texts = json.loads((HERE.parent / "tokenizers" / "texts.json").read_text()) + PROMPTS
    while len(texts) < args.n:
        texts.append(random_text(rng, words))
    texts = [text for text in texts if text and "\0" not in text][: args.n]
    special = [hf.encode(text, add_special_tokens=False).ids for text in texts]
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        (out / "texts.json").write_text(json.dumps(texts))
        output(args.wootz, "convert", args.folder, "--to", out / "ours.gguf", "--dtype", "f16")
        output(sys.executable, HERE / "llama_cpp_convert.py", args.llama_cpp, out, args.folder, "--types", "f16")
        (out / f"{args.folder.name}.f16.gguf").rename(out / "theirs.gguf")
        greedy = {}
        for file in ("ours", "theirs"):
            gguf = out / f"{file}.gguf"
            read = json.loads(output(sys.executable, HERE / "llama_cpp_run.py", gguf, "--texts", out / "texts.json"))
            wrong = [t for t, a, b in zip(texts, read["special"], special) if a != b]
            failed |= bool(wrong)
            print(f"{file}: llama.cpp has Hugging Face's ids in {len(texts) - len(wrong)} of {len(texts)} texts {wrong[:3]!r}")
            wrong = []
            for text, ids in zip(texts, special):
                got = json.loads(output(args.wootz, "tokenize", gguf, f"--text={text}", "--plain", "--json"))
                wrong += [text] if got["ids"] != ids else []
            failed |= bool(wrong)
            print(f"{file}: here there are Hugging Face's ids in {len(texts) - len(wrong)} of {len(texts)} texts {wrong[:3]!r}")
            for prompt in PROMPTS:
                ids = ",".join(map(str, hf.encode(prompt, add_special_tokens=False).ids))
                a = json.loads(output(args.wootz, "run", "-m", gguf, "--ids", ids, "--max-tokens", 48, "--temperature", 0, "--ignore-eos", "--kv", "f32", "--json"))
                b = json.loads(output(sys.executable, HERE / "llama_cpp_run.py", gguf, "--ids", ids, "-n", 48))
                greedy.setdefault(prompt, []).extend([a["token_ids"], b["greedy"]])
        for prompt, all_of in greedy.items():
            same = all(one == all_of[0] for one in all_of)
            failed |= not same
            print(f"{prompt!r}: {len(all_of)} greedy continuations of 48 tokens {'equal' if same else all_of!r}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
