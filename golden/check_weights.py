"""Reads with other programs what `wootz-weights` writes, and compares every byte.

Run:    cargo test -p wootz-weights round_trip && python golden/check_weights.py
        (needs numpy, torch, safetensors, gguf, llama-cpp-python; the test leaves its files under target/tmp/weights-samples)
"""

import ctypes
import json
import os
import pathlib
import sys
from importlib.metadata import version

import gguf
import llama_cpp
import numpy as np
import safetensors
import safetensors.torch
import torch

ROOT = pathlib.Path(__file__).parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SAMPLES = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET / "tmp/weights-samples"


def numbers(n):
    """The numbers that the test writes."""
    return ((np.arange(n, dtype=np.uint64) * np.uint64(2654435761)) % np.uint64(1000)).astype(np.float32) / np.float32(
        250.0
    ) - np.float32(2.0)


def check_safetensors(path):
    tensors = safetensors.torch.load_file(path)
    for name, tensor in tensors.items():
        if tensor.dtype.is_floating_point:
            expected = numbers(tensor.numel()).reshape(tuple(tensor.shape))
            assert torch.equal(tensor, torch.from_numpy(expected).to(tensor.dtype)), name
        else:
            raw = tensor.numpy().tobytes()
            assert raw == bytes(i % 60 for i in range(len(raw))), name
    return tensors


def check_gguf(path):
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items()}
    assert keys["general.architecture"] == "llama" and keys["general.alignment"] == 128
    assert keys["t.u64"] == 2**64 - 1 and keys["t.i64"] == -(2**63) and keys["t.i32"] == -(2**31)
    assert keys["t.f64"] == 0.1 and keys["t.f32"] == np.float32(0.1) and keys["t.bool"] is True
    assert keys["tokenizer.ggml.tokens"] == [f"wörd{i}" for i in range(50_000)]
    assert keys["tokenizer.ggml.scores"] == [-float(i) for i in range(50_000)]
    assert keys["t.flags"] == [True, False] and keys["t.bytes"] == [1, 2, 3] and keys["t.counts"] == [7, 2**32 - 1]
    for tensor in reader.tensors:
        kind = tensor.tensor_type
        data = np.ascontiguousarray(tensor.data)
        if kind.name in ("F32", "F16", "F64", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "TQ1_0", "TQ2_0", "MXFP4"):
            x = numbers(int(np.prod(tensor.shape, dtype=np.uint64)))
            if kind.name == "F64":
                expected = x.astype(np.float64)
            else:
                expected = gguf.quants.quantize(x, kind) if x.size else x
            assert expected.tobytes() == data.tobytes(), tensor.name
        else:
            raw = data.tobytes()
            assert raw == bytes(i % 60 for i in range(len(raw))), tensor.name
    return reader


def check_ggml(path):
    """ggml's own reader: it checks offsets, sizes and alignment of every tensor."""
    lib = ctypes.CDLL(str(next(pathlib.Path(llama_cpp.__file__).parent.glob("lib/libggml-base.so*"))))

    class Params(ctypes.Structure):
        _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]

    lib.gguf_init_from_file.restype = ctypes.c_void_p
    lib.gguf_init_from_file.argtypes = [ctypes.c_char_p, Params]
    for call, result in [("gguf_get_n_tensors", ctypes.c_int64), ("gguf_get_n_kv", ctypes.c_int64)]:
        getattr(lib, call).restype = result
        getattr(lib, call).argtypes = [ctypes.c_void_p]
    context = lib.gguf_init_from_file(str(path).encode(), Params(True, None))
    assert context, f"ggml refuses {path}"
    return lib.gguf_get_n_tensors(context), lib.gguf_get_n_kv(context)


def main():
    n = len(check_safetensors(SAMPLES / "all_types.safetensors"))
    with safetensors.safe_open(SAMPLES / "all_types.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "ü": '"\n'}
    print(f"safetensors {safetensors.__version__}: all_types.safetensors, {n} tensors equal")

    index = json.loads((SAMPLES / "sharded/model.safetensors.index.json").read_text())
    files = {file: check_safetensors(SAMPLES / "sharded" / file) for file in set(index["weight_map"].values())}
    for tensor, file in index["weight_map"].items():
        assert tensor in files[file]
    print(f"safetensors: sharded, {len(files)} files, {len(index['weight_map'])} tensors equal")

    reader = check_gguf(SAMPLES / "python_types.gguf")
    print(f"gguf {version('gguf')}: python_types.gguf, {len(reader.tensors)} tensors and all keys equal")
    n_tensors, n_keys = check_ggml(SAMPLES / "all_types.gguf")
    print(f"ggml of llama-cpp-python {version('llama-cpp-python')}: all_types.gguf, {n_tensors} tensors, {n_keys} keys")


if __name__ == "__main__":
    main()
