#!/usr/bin/env python3
"""Encoding speed on one thread: this project, Hugging Face `tokenizers` and `tiktoken` in turn, same texts, same vocabulary.

    python encoding_speed.py FILE TOKENIZER_JSON ... [--rounds 5] [--json]      # needs: pip install tokenizers tiktoken

FILE is cut at line ends into texts of about 4 KiB. In every round each program encodes them (A B C A B C; `tokenizers` an eighth of
them, this project three times); a row holds the medians over rounds in MB/s, the range in brackets, and this project's ratio to the
others. The tokens of all texts are counted for all three and must be as many for `tokenizers`; for `tiktoken` the merges are the
vocabulary's order, which is the same for vocabularies that were trained, not edited. That ids are equal is `check_tokenizers.py`'s
matter. Builds and runs the example `encoding` of `wootz-text`.
"""
import argparse, json, os, re, statistics, subprocess, sys, time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
import tiktoken
import tokenizers

ROOT = Path(__file__).resolve().parent.parent.parent
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TEXT_BYTES = 4096


def cut(data):
    texts, start = [], 0
    while (end := data.find(b"\n", start + TEXT_BYTES)) >= 0:
        texts.append(data[start:end + 1].decode())
        start = end + 1
    return texts + [data[start:].decode()]


def alphabet():
    """The byte of each character of GPT-2's alphabet."""
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    moved = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + i): byte for i, byte in enumerate(moved)}}


def tiktoken_from(path):
    """The same vocabulary and expression; tokens are ranked by their ids."""
    file = json.loads(Path(path).read_text())
    byte_of = alphabet()
    vocab = {token: id for token, id in file["model"]["vocab"].items() if all(c in byte_of for c in token)}
    added = {token["content"] for token in file.get("added_tokens", [])}
    ranks = {bytes(byte_of[c] for c in token): id for token, id in vocab.items() if token not in added}
    steps = file["pre_tokenizer"].get("pretokenizers", [file["pre_tokenizer"]])
    expressions = [step["pattern"]["Regex"] for step in steps if step["type"] == "Split"] or [GPT2]
    assert len(expressions) == 1, f"{path}: more than one expression"
    return tiktoken.Encoding("same", pat_str=expressions[0], mergeable_ranks=ranks, special_tokens={})


def rate(n_bytes, work):
    start = time.perf_counter()
    work()
    return n_bytes / 1e6 / (time.perf_counter() - start)


def ours(file, tokenizer):
    done = subprocess.run([ROOT_BINARY, file, tokenizer, "3"], capture_output=True, text=True, check=True)
    n_tokens = int(re.search(r"(\d+) tokens", done.stdout).group(1))
    return float(re.search(r"encode ([\d.]+)", done.stdout).group(1)), n_tokens


def build():
    run = ["cargo", "build", "--quiet", "--release", "-p", "wootz-text", "--example", "encoding", "--message-format=json"]
    lines = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()
    return next(entry["executable"] for entry in map(json.loads, lines) if entry.get("executable"))


def measure(file, path, rounds):
    data = Path(file).read_bytes()
    texts = cut(data)
    hugging = tokenizers.Tokenizer.from_file(path)
    tik = tiktoken_from(path)
    rates = {"wootz": [], "tokenizers": [], "tiktoken": []}
    hugging_texts = texts[:max(1, len(texts) // 8)]  # an eighth: it is slow
    hugging_bytes = sum(len(text.encode()) for text in hugging_texts)
    for _ in range(rounds):
        fastest, n_ours = ours(file, path)
        rates["wootz"].append(fastest)
        rates["tokenizers"].append(rate(hugging_bytes, lambda: [hugging.encode(text, add_special_tokens=False) for text in hugging_texts]))
        rates["tiktoken"].append(rate(len(data), lambda: [tik.encode_ordinary(text) for text in texts]))
    n_tik = sum(len(tik.encode_ordinary(text)) for text in texts)
    n_hugging = sum(len(hugging.encode(text, add_special_tokens=False).ids) for text in texts)
    assert n_ours == n_hugging, f"{path}: {n_ours} tokens, {n_hugging} by tokenizers"
    row = {"tokenizer": path, "n_tokens": n_ours, "n_tokens_tiktoken": n_tik}
    for name, all_rates in rates.items():
        row[name] = {"mb_per_s": statistics.median(all_rates), "least": min(all_rates), "most": max(all_rates)}
    for name in ("tokenizers", "tiktoken"):
        row[f"over_{name}"] = row["wootz"]["mb_per_s"] / row[name]["mb_per_s"]
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("tokenizers", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--binary", help="the built example `encoding`; else it is built")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    global ROOT_BINARY
    ROOT_BINARY = args.binary or build()
    rows = [measure(args.file, path, args.rounds) for path in args.tokenizers]
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"tokenizers {tokenizers.__version__}, tiktoken {tiktoken.__version__}, {args.rounds} rounds, MB/s")
    for row in rows:
        cells = [f"{name} {row[name]['mb_per_s']:.1f} ({row[name]['least']:.1f} to {row[name]['most']:.1f})" for name in ("wootz", "tokenizers", "tiktoken")]
        print(f"{Path(row['tokenizer']).stem}: {', '.join(cells)}; {row['over_tokenizers']:.1f} × tokenizers, {row['over_tiktoken']:.1f} × tiktoken; "
              f"{row['n_tokens']} tokens, {row['n_tokens_tiktoken']} by tiktoken")


if __name__ == "__main__":
    main()
