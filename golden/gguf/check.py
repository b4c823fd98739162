#!/usr/bin/env python3
"""Runs GGUF files here and in llama.cpp, those that its converter writes and those that are written here: a table.

    python check.py MODELS --wootz BINARY --llama-cpp SOURCE [--types f16,f32] [--from theirs,ours] [NAME ...]

MODELS holds folders with `golden.json` (`golden/models.py` makes them). Needs: pip install llama-cpp-python torch transformers
A row a file: of both recorded prompts, how many of the 24 greedy tokens are equal before the first that is not, and the largest
difference of a logit after the prompt (of a number of the last rows, for encoders), in units of the logits' standard deviation.
`=` is all of them, `rows` an encoder. Exits with 1 if a row differs that the list below does not explain.
"""
import argparse, json, re, subprocess, sys, tempfile
from pathlib import Path

HERE = Path(__file__).parent
ENCODERS = {"bert", "roberta", "modernbert"}
# Where llama.cpp computes something else than the model's own code says, or cannot load it.
KNOWN = json.loads((HERE / "known.json").read_text())


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def ours(wootz, file, ids, encode):
    ids = ",".join(map(str, ids))
    if encode:
        code, out, err = run(wootz, "hidden", file, "--ids", ids, "--json")
        return (None, err) if code else ({"rows": json.loads(out)["hidden"]}, "")
    code, out, err = run(wootz, "run", "-m", file, "--ids", ids, "--max-tokens", 24, "--temperature", 0, "--ignore-eos", "--json")
    if code:
        return None, err
    greedy = json.loads(out)["token_ids"]
    code, out, err = run(wootz, "logits", file, "--ids", ids, "--json")
    return (None, err) if code else ({"greedy": greedy, "logits": json.loads(out)["logits"]}, "")


def theirs(file, ids, encode):
    with tempfile.NamedTemporaryFile("r") as log:
        command = [sys.executable, HERE / "llama_cpp_run.py", file, "--ids", ",".join(map(str, ids)), "--log", log.name]
        code, out, err = run(*command, *(["--encode"] if encode else []))
        if code:
            said = [line for line in log.read().splitlines() if re.search("error|ASSERT|unknown|missing|wrong shape|invalid", line)]
            return None, (said or err.strip().splitlines() or ["?"])[0]
        return json.loads(out), ""


def compare(a, b):
    """How many tokens are equal (of how many), and the largest difference relative to the spread."""
    if "rows" in a:
        x, y = [n for row in a["rows"] for n in row], [n for row in b["rows"] for n in row]
        n, equal = 0, 0
    else:
        x, y = a["logits"], b["logits"]
        n = len(b["greedy"])
        equal = next((i for i in range(n) if a["greedy"][i] != b["greedy"][i]), n)
    mean = sum(y) / len(y)
    spread = (sum((v - mean) ** 2 for v in y) / len(y)) ** 0.5 or 1.0
    worst = max(abs(p - q) for p, q in zip(x, y)) / spread if len(x) == len(y) else float("inf")
    return equal, n, worst if all(v == v for v in x + y) else float("nan")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--wootz", required=True)
    parser.add_argument("--llama-cpp", type=Path, required=True)
    parser.add_argument("--types", default="f16,f32")
    parser.add_argument("--from", dest="sources", default="theirs,ours")
    parser.add_argument("--keep", type=Path, help="where the files stay, and are not made again")
    args = parser.parse_intermixed_args()
    folders = sorted(path.parent for path in args.models.glob("*/golden.json"))
    folders = [folder for folder in folders if not args.names or folder.name in args.names]
    failed = 0
    print(f"{'model':<14} {'from':<7} {'type':<4} {'greedy':>12} {'difference':>11}  note")
    with tempfile.TemporaryDirectory() as temporary:
        keep = args.keep or Path(temporary)
        for folder in folders:
            for source in args.sources.split(","):
                for ty in args.types.split(","):
                    failed += not row(args, folder, source, ty, keep / source)
    sys.exit(failed > 0)


def row(args, folder, source, ty, out):
    name, file = folder.name, out / f"{folder.name}.{ty}.gguf"
    known = KNOWN.get(f"{source}/{name}") or KNOWN.get(f"{ty}/{name}") or KNOWN.get(name, "")
    show = lambda greedy, difference, note: print(f"{name:<14} {source:<7} {ty:<4} {greedy:>12} {difference:>11}  {note}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    if not file.exists() or source == "ours":
        if source == "ours":
            code, said, err = run(args.wootz, "convert", folder, "--to", file, "--dtype", ty, "--force")
        else:
            code, said, err = run(sys.executable, HERE / "llama_cpp_convert.py", args.llama_cpp, out, folder, "--types", ty)
        if code:
            show("-", "-", known or "NOT WRITTEN " + (said + err).strip().splitlines()[-1][:120])
            return bool(known)
    recorded = json.loads((folder / "golden.json").read_text())
    equal, n, worst, encode = 0, 0, 0.0, name in ENCODERS
    for ids in recorded["input_ids"]:
        (a, said_a), (b, said_b) = ours(args.wootz, file, ids, encode), theirs(file, ids, encode)
        if a is None or b is None:
            show("-", "-", ("HERE: " + said_a.strip().replace("\n", " ")[:300]) if a is None else known or "LLAMA.CPP: " + said_b[:200])
            return a is not None and bool(known)
        e, m, w = compare(a, b)
        equal, n, worst = equal + e, n + m, worst if w <= worst else w  # a NaN stays
    good = equal == n and worst < (2e-2 if ty == "f16" else 2e-3)
    show("rows" if encode else "=" if equal == n else f"{equal}/{n}", f"{worst:.1e}", "" if good else known or "DIFFERENT")
    return good or bool(known)


if __name__ == "__main__":
    main()
