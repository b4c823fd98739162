#!/usr/bin/env python3
"""Runs a GGUF with llama.cpp: prints one JSON object with greedy tokens and logits, or an encoder's rows.

    python llama_cpp_run.py FILE.gguf --ids 5,6,7 [-n 24] [--encode] [--texts FILE.json]    # needs: pip install llama-cpp-python

Caches are F32 and attention is the plain one, so that what differs is the model. `--texts` holds a list of texts that are
tokenized, and nothing is run.
"""
import argparse, contextlib, json, os, sys


@contextlib.contextmanager
def quiet_to(path):
    """The library writes to the standard error of the process; its last lines say why a file was refused."""
    saved = os.dup(2)
    with open(path, "w") as log:
        os.dup2(log.fileno(), 2)
        yield
    os.dup2(saved, 2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--ids", default="")
    parser.add_argument("-n", type=int, default=24)
    parser.add_argument("--encode", action="store_true")
    parser.add_argument("--texts")
    parser.add_argument("--log", default=os.devnull)
    args = parser.parse_args()
    import numpy as np
    import llama_cpp
    ids = [int(i) for i in args.ids.split(",") if i]
    if args.texts:
        model = llama_cpp.Llama(args.file, vocab_only=True, verbose=False)
        texts = json.load(open(args.texts))
        encode = lambda text, special: model.tokenize(text.encode(), add_bos=False, special=special)
        return print(json.dumps({"plain": [encode(t, False) for t in texts], "special": [encode(t, True) for t in texts]}))
    common = dict(n_ctx=256, n_batch=256, n_ubatch=256, n_threads=1, n_threads_batch=1, type_k=0, type_v=0, flash_attn=False, verbose=True, seed=0)
    with quiet_to(args.log):
        if args.encode:
            model = llama_cpp.Llama(args.file, embedding=True, pooling_type=llama_cpp.LLAMA_POOLING_TYPE_NONE, **common)
            model._batch.reset() if hasattr(model._batch, "reset") else None
            model._batch.add_sequence(ids, 0, True)
            model._ctx.decode(model._batch)
            width = model.n_embd()
            rows = [llama_cpp.llama_get_embeddings_ith(model._ctx.ctx, i)[:width] for i in range(len(ids))]
            return print(json.dumps({"rows": rows}))
        model = llama_cpp.Llama(args.file, logits_all=True, **common)
        model.eval(ids)
        first = np.array(model.scores[len(ids) - 1])
        greedy = []
        for _ in range(args.n):
            greedy.append(int(np.argmax(model.scores[model.n_tokens - 1])))
            model.eval(greedy[-1:])
    print(json.dumps({"greedy": greedy, "logits": first.tolist()}))


if __name__ == "__main__":
    main()
