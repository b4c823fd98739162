#!/usr/bin/env python3
"""Compares this project's tokenizers with llama.cpp's on the vocabularies of GGUF files, on random strings.

    python check_llama_cpp.py [-n 20000] [--seed 1] FILE.gguf ...      # needs: pip install llama-cpp-python gguf

The `ggml-vocab-*.gguf` files in llama.cpp's source are enough: only the vocabulary is read. Builds and runs the example
`encode_lines` of `wootz-text`; prints one line per file and exits with 1 if anything differs.
"""
import argparse, json, random, subprocess, sys, tempfile
from pathlib import Path
import gguf, llama_cpp
from random_texts import OTHER_SCRIPTS, random_text

ROOT = Path(__file__).resolve().parent.parent


def keys(file):
    fields = gguf.GGUFReader(file).fields
    found = {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.ggml.")}
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in found.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=3)
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    words = sorted({word for line in OTHER_SCRIPTS + [Path(__file__).read_text()] for word in line.split()} |
                   set("the quick brown fox jumps over a lazy dog tokenization internationalization antidisestablishmentarianism".split()))
    run = ["cargo", "run", "--quiet", "--release", "-p", "wootz-text", "--example", "encode_lines", "--"]
    failed = False
    for file in args.files:
        rng = random.Random(args.seed)
        texts = [text for text in (random_text(rng, words).replace("\0", "") for _ in range(args.n)) if text]
        with tempfile.NamedTemporaryFile("w", suffix=".vocab.json") as vocab:
            json.dump(keys(file), vocab)
            vocab.flush()
            done = subprocess.run(run + [vocab.name], input="".join(json.dumps(text) + "\n" for text in texts), capture_output=True, encoding="utf-8", cwd=ROOT)
        if done.returncode:
            print(file, done.stderr.strip())
            failed = True
            continue
        model = llama_cpp.Llama(model_path=file, vocab_only=True, verbose=False)
        counts, shown = {}, 0
        for text, line in zip(texts, done.stdout.split("\n")[:-1], strict=True):
            ours, data = json.loads(line), text.encode()
            # `add_special` is one flag there: BOS and EOS as the file says.
            theirs = {"ids": model.tokenize(data, add_bos=True, special=True), "plain": model.tokenize(data, add_bos=False, special=False)}
            for key in theirs:
                if ours[key] != theirs[key]:
                    counts[key] = counts.get(key, 0) + 1
                    shown += 1
                    if shown <= args.show:
                        print(f"{key}: {text!r}\n  ours   {ours[key]!r}\n  theirs {theirs[key]!r}")
        failed |= bool(counts)
        print(f"{Path(file).name}: {len(texts)} strings, " + (f"DIFFERENT {counts}" if counts else "all equal"))
    sys.exit(failed)


if __name__ == "__main__":
    main()
