#!/usr/bin/env python3
"""Learns a tokenizer from a large text with Wootz and with Hugging Face `tokenizers`, and compares time, memory and result.

    python check_vocabulary.py WOOTZ TEXT.jsonl HELD_OUT.jsonl [--vocab-size 32000] [--algorithm bpe|unigram] [--threads 2]

Each runs as a process of its own, in turn; both see the same rows (field `text`). For BPE the merges are compared one by one, for
Unigram the tokens and the log-likelihood of the held-out text, each under its own vocabulary. Needs: pip install tokenizers==0.23.3
"""
import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path


def theirs(args):
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from tokenizers_made import LLAMA3
    def rows():
        with open(args.text) as lines:
            for line in lines:
                yield json.loads(line)["text"]
    if args.algorithm == "bpe":
        tok = Tokenizer(models.BPE())
        tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        trainer = trainers.BpeTrainer(vocab_size=args.vocab_size, min_frequency=2, special_tokens=["<|endoftext|>"],
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    else:
        tok = Tokenizer(models.Unigram())
        tok.normalizer = normalizers.NFKC()
        tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        trainer = trainers.UnigramTrainer(vocab_size=args.vocab_size, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False)
    tok.train_from_iterator(rows(), trainer)
    tok.save(args.theirs)


def measured(command):
    start = time.monotonic()
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"{command[0]} failed")
    return {"seconds": round(time.monotonic() - start, 1), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1), "peak_mib": usage.ru_maxrss // 1024}


def quality(file, texts):
    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(file)
    model = json.loads(Path(file).read_text())["model"]
    scores = dict(map(tuple, model["vocab"])) if model["type"] == "Unigram" else {}
    n_tokens, logprob, n_bytes = 0, 0.0, 0
    for text in texts:
        tokens = tok.encode(text, add_special_tokens=False).tokens
        n_tokens, n_bytes = n_tokens + len(tokens), n_bytes + len(text.encode())
        logprob += sum(scores.get(token, -20.0) for token in tokens)
    return {"bytes_per_token": round(n_bytes / n_tokens, 4), "nats_per_byte": round(-logprob / n_bytes, 5) if scores else None}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("wootz"), parser.add_argument("text"), parser.add_argument("held_out")
    parser.add_argument("--vocab-size", type=int, default=32000), parser.add_argument("--algorithm", default="bpe")
    parser.add_argument("--threads", type=int, default=2), parser.add_argument("--rounds", type=int, default=1), parser.add_argument("--theirs")
    args = parser.parse_args()
    if args.theirs:
        return theirs(args)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            ours = [args.wootz, "tokenizer", "train", args.text, "--vocab-size", str(args.vocab_size), "--algorithm", args.algorithm,
                    "--threads", str(args.threads), "-o", f"{folder}/ours", "--force", "--json"]
            print("wootz     ", measured(ours), flush=True)
            print("tokenizers", measured([sys.executable, *sys.argv, "--theirs", f"{folder}/theirs.json"]), flush=True)
        texts = [json.loads(line)["text"] for line in open(args.held_out)]
        print("wootz     ", quality(f"{folder}/ours/tokenizer.json", texts))
        print("tokenizers", quality(f"{folder}/theirs.json", texts))
        if args.algorithm == "bpe":
            a, b = (json.loads(Path(name).read_text())["model"]["merges"] for name in (f"{folder}/ours/tokenizer.json", f"{folder}/theirs.json"))
            equal = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            print(f"merges: {len(a)} and {len(b)}, the first {equal} equal, {len(set(map(tuple, a)) & set(map(tuple, b)))} in both")


if __name__ == "__main__":
    main()
