"""Makes `weights/`: small weight files as others' programs write them, and `expected.json` with what is in them.

Run:    python golden/weights.py       (needs numpy, torch, safetensors, gguf; versions are recorded in expected.json)
Writes: for each file or folder to open: its tensors (shape outermost first, Wootz's type, numbers as f32) and, for GGUF,
        its metadata; for each file that must be refused: a part of the message.
"""

import collections
import json
import pathlib
import shutil
from importlib.metadata import version

import gguf
import numpy as np
import safetensors.torch
import torch

SEED = 11
DIR = pathlib.Path(__file__).with_name("weights")
TYPES = {
    torch.float64: "f64",
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "f16",
    torch.float8_e5m2: "f16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int16: "i16",
    torch.int8: "i8",
    torch.uint8: "i16",
    torch.uint16: "i32",
    torch.uint32: "i64",
    torch.bool: "i8",
}
expected = {}


def describe(tensors):
    """What Wootz should say about torch tensors."""
    return {
        name: {
            "shape": list(t.shape),
            "type": TYPES[t.dtype],
            "numbers": t.detach().contiguous().to(torch.float32).flatten().tolist(),
        }
        for name, t in tensors.items()
    }


def every_dtype():
    tensors = {}
    for dtype in TYPES:
        name = str(dtype).removeprefix("torch.")
        if dtype.is_floating_point:
            tensors[name] = (torch.randn(3, 5) * 3).to(dtype)
        elif dtype == torch.bool:
            tensors[name] = torch.rand(7) > 0.5
        else:
            tensors[name] = torch.randint(0, 100, (2, 2, 3)).to(dtype)
    tensors["scalar"] = torch.tensor(1.5)
    tensors["empty"] = torch.zeros(0, 4)
    return tensors


def make_safetensors():
    tensors = every_dtype()
    safetensors.torch.save_file(tensors, DIR / "all.safetensors", {"format": "pt", "note": "über\n\"x\""})
    expected["all.safetensors"] = {"tensors": describe(tensors), "metadata": {"format": "pt", "note": "über\n\"x\""}}

    folder = DIR / "sharded_safetensors"
    folder.mkdir()
    halves = [{"a.weight": torch.randn(4, 3), "a.bias": torch.randn(4)}, {"b.weight": torch.randn(2, 2).half()}]
    write_shards(folder, "model", "safetensors", halves, lambda t, p: safetensors.torch.save_file(t, p))


def write_shards(folder, stem, ending, halves, save):
    weight_map = {}
    for i, half in enumerate(halves):
        name = f"{stem}-{i + 1:05}-of-{len(halves):05}.{ending}"
        save(half, folder / name)
        weight_map |= {tensor: name for tensor in half}
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps(index))
    expected[folder.name] = {"tensors": describe({k: v for half in halves for k, v in half.items()})}


def make_torch():
    tensors = every_dtype()
    base = torch.randn(6, 4)
    tensors |= {
        "transposed": base.t(),
        "columns": base[:, 1:3],
        "rows": base[2:5],
        "every_other": base.flatten()[1::2],
        "shared": base,
        "expanded": torch.randn(3, 1).expand(3, 4),
        "permuted": torch.randn(2, 3, 4).permute(2, 0, 1),
        "bool_columns": (torch.randn(4, 4) > 0)[:, ::2],
        "parameter": torch.nn.Parameter(torch.randn(2, 3)),
    }
    torch.save(tensors, DIR / "all.bin")
    expected["all.bin"] = {"tensors": describe(tensors)}

    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    torch.save(module.state_dict(), DIR / "module.pth")
    expected["module.pth"] = {"tensors": describe(module.state_dict())}

    checkpoint = {"epoch": 3, "lr": 1e-3, "note": "text", "state_dict": collections.OrderedDict(w=torch.randn(2))}
    torch.save(checkpoint, DIR / "checkpoint.pt", pickle_protocol=4)
    expected["checkpoint.pt"] = {"tensors": describe(checkpoint["state_dict"])}

    folder = DIR / "sharded_torch"
    folder.mkdir()
    write_shards(folder, "pytorch_model", "bin", [{"x": torch.randn(3)}, {"y": torch.arange(4)}], torch.save)

    torch.save({"w": torch.randn(2)}, DIR / "legacy.bin", _use_new_zipfile_serialization=False)
    expected["legacy.bin"] = {"error": "PyTorch's format from before version 1.6"}
    torch.save(module, DIR / "whole_module.pt")
    expected["whole_module.pt"] = {"error": "`torch.nn.modules.container.Sequential` in a pickle"}
    torch.save({"w": torch.randn(2, dtype=torch.complex64)}, DIR / "complex.pt")
    expected["complex.pt"] = {"error": "`torch.ComplexFloatStorage` in a pickle"}
    torch.jit.script(torch.nn.Linear(2, 1)).save(str(DIR / "script.pt"))
    expected["script.pt"] = {"error": "TorchScript"}


METADATA = [
    ("t.u8", 200, "add_uint8"),
    ("t.i8", -100, "add_int8"),
    ("t.u16", 60000, "add_uint16"),
    ("t.i16", -30000, "add_int16"),
    ("t.u32", 4000000000, "add_uint32"),
    ("t.i32", -2000000000, "add_int32"),
    ("t.f32", 0.1, "add_float32"),
    ("t.u64", 2**63 + 1, "add_uint64"),
    ("t.i64", -(2**62), "add_int64"),
    ("t.f64", 0.1, "add_float64"),
    ("t.yes", True, "add_bool"),
    ("t.text", "grüß \n\0 dich", "add_string"),
    ("t.words", ["", "a", "ü" * 9, "<|end|>"], "add_array"),
    ("t.ints", [1, -2, 3], "add_array"),
    ("t.floats", [0.5, -1.25], "add_array"),
    ("t.flags", [True, False, True], "add_array"),
]


def make_gguf():
    rng = np.random.default_rng(SEED)
    tensors = {"token_embd.weight": rng.standard_normal((3, 64)).astype(np.float32)}
    types = "F16 BF16 F64 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 TQ1_0 TQ2_0 MXFP4".split()

    def write(path, alignment=None, **options):
        writer = gguf.GGUFWriter(path, "llama", **options)
        if alignment:
            writer.add_custom_alignment(alignment)
        for key, value, method in METADATA:
            getattr(writer, method)(key, value)
        found = {}
        for name, data in tensors.items():
            writer.add_tensor(name, data)
            found[name] = {"shape": list(data.shape), "type": "f32", "numbers": data.flatten().tolist()}
        for kind in types:
            data = rng.standard_normal((2, 256)).astype(np.float32)
            qtype = gguf.GGMLQuantizationType[kind]
            if kind == "F64":
                raw = data = data.astype(np.float64)
                writer.add_tensor(kind, raw)
            elif kind == "F16":
                raw = data.astype(np.float16)
                data = raw
                writer.add_tensor(kind, raw)
            else:
                raw = gguf.quants.quantize(data, qtype)
                data = gguf.quants.dequantize(raw, qtype)
                writer.add_tensor(kind, raw, raw_dtype=qtype)
            numbers = data.astype(np.float32).flatten().tolist()
            found[kind] = {"shape": [2, 256], "type": kind.lower(), "numbers": numbers}
        for dtype in (np.int8, np.int16, np.int32, np.int64):
            data = rng.integers(-100, 100, (2, 3, 2)).astype(dtype)
            name = f"i{data.itemsize * 8}"
            writer.add_tensor(name, data)
            found[name] = {"shape": [2, 3, 2], "type": name, "numbers": data.flatten().astype(float).tolist()}
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        keys = {key: value for key, value, _ in METADATA} | {"general.architecture": "llama"}
        return {"tensors": found, "keys": keys}

    expected["v3.gguf"] = write(DIR / "v3.gguf", alignment=64)
    data = bytearray((DIR / "v3.gguf").read_bytes())
    data[4] = 2  # the two versions differ in nothing but big-endian files
    (DIR / "v2.gguf").write_bytes(data)
    expected["v2.gguf"] = expected["v3.gguf"]

    folder = DIR / "split_gguf"
    folder.mkdir()
    tensors = {f"blk.{i}.w": rng.standard_normal((2, 32)).astype(np.float32) for i in range(5)}
    types = []
    expected["split_gguf"] = write(folder / "m.gguf", split_max_tensors=4)

    writer = gguf.GGUFWriter(DIR / "big_endian.gguf", "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_tensor("w", np.zeros((2, 2), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected["big_endian.gguf"] = {"error": "big-endian GGUF"}


def main():
    torch.manual_seed(SEED)
    shutil.rmtree(DIR, ignore_errors=True)
    DIR.mkdir()
    make_safetensors()
    make_torch()
    make_gguf()
    tools = {name: version(name) for name in ("torch", "safetensors", "gguf", "numpy")}
    (DIR / "expected.json").write_text(json.dumps({"tools": tools, "seed": SEED, "files": expected}))
    sizes = sum(p.stat().st_size for p in DIR.rglob("*") if p.is_file())
    print(f"{DIR}: {sizes} bytes, {len(expected)} files and folders")


if __name__ == "__main__":
    main()
