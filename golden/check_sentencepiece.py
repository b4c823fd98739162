#!/usr/bin/env python3
"""Trains SentencePiece models and compares this project's encoding and decoding with SentencePiece's own on random strings.

    python check_sentencepiece.py TRAINING_TEXT [-n 20000] [--seed 1]      # needs: pip install sentencepiece

Builds and runs the example `encode_lines` of `wootz-text`; prints one line per model and exits with 1 if anything differs.
"""
import argparse, json, random, subprocess, sys, tempfile
from pathlib import Path
import sentencepiece as spm
from random_texts import OTHER_SCRIPTS, random_text

ROOT = Path(__file__).resolve().parent.parent
KINDS = {
    "bpe-bytes": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False),
    "bpe-nfkc": dict(model_type="bpe"),
    "unigram": dict(model_type="unigram"),
    "unigram-bytes": dict(model_type="unigram", byte_fallback=True, normalization_rule_name="nmt_nfkc_cf", add_dummy_prefix=False),
    "unigram-user": dict(model_type="unigram", user_defined_symbols=["<tool>", "▁▁▁", "\n", "Ünïcode"]),
    "bpe-user": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", user_defined_symbols=["<tool>", "▁▁▁", "\n"], remove_extra_whitespaces=False),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("text")
    parser.add_argument("-n", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=3)
    args = parser.parse_args()
    lines = Path(args.text).read_text().splitlines() + OTHER_SCRIPTS * 30
    words = sorted(set(" ".join(lines[:2000] + OTHER_SCRIPTS).split()))
    run = ["cargo", "run", "--quiet", "--release", "-p", "wootz-text", "--example", "encode_lines", "--"]
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name, options in KINDS.items():
            prefix = str(Path(folder) / name)
            spm.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_prefix=prefix, vocab_size=2000, minloglevel=2, character_coverage=0.995, **options)
            model = spm.SentencePieceProcessor(model_file=prefix + ".model")
            rng = random.Random(args.seed)
            # A NUL ends a string inside SentencePiece's normalizer; the replacement character marks broken input there.
            texts = [random_text(rng, words).replace("\0", "").replace("\ufffd", "?") for _ in range(args.n)]
            done = subprocess.run(run + [prefix + ".model"], input="".join(json.dumps(text) + "\n" for text in texts), capture_output=True, encoding="utf-8", cwd=ROOT)
            if done.returncode:
                print(name, done.stderr)
                failed = True
                continue
            counts, shown = {}, 0
            for text, line in zip(texts, done.stdout.split("\n")[:-1], strict=True):
                ours = json.loads(line)
                theirs = {"plain": model.encode(text)}
                if model.unk_id() not in theirs["plain"] and ours["ids"] == ours["plain"]:
                    theirs["text"] = model.decode(theirs["plain"])
                for key in theirs:
                    if ours[key] != theirs[key]:
                        counts[key] = counts.get(key, 0) + 1
                        shown += 1
                        if shown <= args.show:
                            print(f"{name} {key}: {text!r}\n  ours   {ours[key]!r}\n  theirs {theirs[key]!r}")
            failed |= bool(counts)
            print(f"{name}: {len(texts)} strings, " + (f"DIFFERENT {counts}" if counts else "all equal"))
    sys.exit(failed)


if __name__ == "__main__":
    main()
