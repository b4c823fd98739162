#!/usr/bin/env python3
"""Compares this project's tokenizers with Hugging Face's on many random strings, and their decoders on random ids.

    python check_tokenizers.py [-n 20000] [--seed 1] TOKENIZER_JSON ...      # needs: pip install tokenizers==0.23.3

Builds and runs the example `encode_lines` of `wootz-text`; prints one line per file and exits with 1 if anything differs.
"""
import argparse, json, random, subprocess, sys
from pathlib import Path
from tokenizers import Tokenizer
from random_texts import OTHER_SCRIPTS, random_text

ROOT = Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=3)
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    run = ["cargo", "run", "--quiet", "--release", "-p", "wootz-text", "--example", "encode_lines", "--"]
    words = sorted({word for line in OTHER_SCRIPTS + [Path(__file__).read_text()] for word in line.split()} |
                   set("the quick brown fox jumps over a lazy dog tokenization internationalization antidisestablishmentarianism".split()))
    failed = False
    for file in args.files:
        rng = random.Random(args.seed)
        tok = Tokenizer.from_file(file)
        tok.no_truncation()
        tok.no_padding()
        n_ids = tok.get_vocab_size()
        inputs = [random_text(rng, words) for _ in range(args.n)]
        inputs += [[rng.randrange(n_ids) for _ in range(rng.randrange(1, 12))] for _ in range(args.n // 10)]
        lines = "".join(json.dumps(value) + "\n" for value in inputs)
        done = subprocess.run(run + [str(Path(file).resolve())], input=lines, capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            print(file, done.stderr)
            failed = True
            continue
        counts, shown = {}, 0
        for value, line in zip(inputs, done.stdout.split("\n")[:-1], strict=True):
            ours, theirs = json.loads(line), {}
            ids = value
            if isinstance(value, str):
                tok.encode_special_tokens = True
                theirs["plain"] = tok.encode(value, add_special_tokens=False).ids
                tok.encode_special_tokens = False
                theirs["ids"] = ids = tok.encode(value).ids
            theirs["text"] = theirs["streamed"] = tok.decode(ids, skip_special_tokens=False)
            theirs["skipped"] = tok.decode(ids)
            for key in theirs:
                if ours[key] != theirs[key]:
                    counts[key] = counts.get(key, 0) + 1
                    shown += 1
                    if shown <= args.show:
                        print(f"{key}: {value!r}\n  ours   {ours[key]!r}\n  theirs {theirs[key]!r}")
        failed |= bool(counts)
        print(f"{file}: {len(inputs)} inputs, " + (f"DIFFERENT {counts}" if counts else "all equal"))
    sys.exit(failed)


if __name__ == "__main__":
    main()
