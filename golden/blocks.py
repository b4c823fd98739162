"""Makes `blocks.bin`: random blocks of every tensor type, and the numbers that reference implementations read from them.

Run:    python golden/blocks.py        (needs numpy, gguf, llama-cpp-python; results here: see the first line of blocks.bin)
Reads:  PyPI `gguf` where it defines the type, else ggml's C code (in llama-cpp-python), else the structure's definition.
Writes: a text line (tools, versions, seed), then records, little-endian:
        kind u8 (`d`: bytes are read as f32 bits; `q`: f32 are written as bytes; `.`: the end), name length u8, name,
        count of numbers u32, bytes, f32 each.
"""

import ctypes
import pathlib
import struct
from importlib.metadata import version

import gguf
import gguf.quants
import llama_cpp
import numpy as np

SEED = 7
TYPES = """f32 f16 q4_0 q4_1 q5_0 q5_1 q8_0 q8_1 q2_k q3_k q4_k q5_k q6_k q8_k iq2_xxs iq2_xs iq3_xxs iq1_s iq4_nl iq3_s
iq2_s iq4_xs i8 i16 i32 i64 f64 iq1_m bf16 tq1_0 tq2_0 mxfp4 nvfp4 q1_0 q2_0""".split()
IDS = {"q2_0": 42}
PLAIN = {"f32": "<f4", "f16": "<f2", "f64": "<f8", "i8": "<i1", "i16": "<i2", "i32": "<i4", "i64": "<i8"}
WRITABLE = "f64 f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 tq1_0 tq2_0 mxfp4".split()


class Traits(ctypes.Structure):
    """ggml_type_traits."""

    TO_FLOAT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("block_len", ctypes.c_int64),
        ("interleave", ctypes.c_int64),
        ("block_bytes", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", TO_FLOAT),
    ]


def ggml():
    lib = ctypes.CDLL(str(next(pathlib.Path(llama_cpp.__file__).parent.glob("lib/libggml-base.so*"))))
    lib.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    lib.ggml_get_type_traits.argtypes = [ctypes.c_int]
    return lib


def gguf_type(name):
    return getattr(gguf.GGMLQuantizationType, name.upper(), None)


def traits(lib, name):
    kind = gguf_type(name)
    return lib.ggml_get_type_traits(IDS[name] if kind is None else int(kind)).contents


def read_c(lib, name, data):
    """The numbers as ggml's C code reads them."""
    t = traits(lib, name)
    out = np.empty(data.size // t.block_bytes * t.block_len, np.float32)
    to_float = Traits.TO_FLOAT(("dequantize_row_q8_K", lib)) if name == "q8_k" else t.to_float
    to_float(data.ctypes.data, out.ctypes.data, out.size)
    return out


def read(lib, name, data):
    if name in PLAIN:
        return data.view(PLAIN[name]).astype(np.float32)
    if name == "q8_1":  # ggml never reads it back: f16 d, f16 d * sum(q), 32 signed bytes
        blocks = data.reshape(-1, 36)
        return (blocks[:, :2].copy().view("<f2").astype(np.float32) * blocks[:, 4:].copy().view(np.int8)).ravel()
    from_c = read_c(lib, name, data)
    if gguf_type(name) not in gguf.quants._type_traits:
        return from_c
    from_python = gguf.quants.dequantize(data, gguf_type(name)).ravel()
    assert (from_c.view(np.uint32) == from_python.view(np.uint32)).all(), name
    return from_python


def blocks(lib, rng, name):
    """About 1,024 numbers in random blocks whose numbers are finite."""
    t = traits(lib, name)
    out = []
    while len(out) * t.block_len < 1024:
        data = rng.integers(0, 256, t.block_bytes, np.uint8)
        if name == "f64":
            data = (rng.standard_normal(1) * 10.0 ** rng.integers(-46, 38)).view(np.uint8)
        if np.isfinite(read(lib, name, data)).all():
            out.append(data)
    return np.concatenate(out)


def numbers(rng):
    """Rows to quantize: normals of several sizes, ties, all equal, zeros, one outlier."""
    rows = [rng.standard_normal(256) * scale for scale in (1e-6, 0.02, 1.0, 300.0)]
    rows.append(rng.integers(-254, 255, 256) / 2.0)
    rows += [np.zeros(256), np.full(256, -0.75), np.full(256, 3.0)]
    outlier = rng.standard_normal(256)
    outlier[37] = -60.0
    rows.append(outlier)
    rows.append(2.0 ** rng.integers(-20, 12, 256) * rng.choice([-1.0, 1.0], 256))
    rows.append(np.nextafter(np.float32(2.0), np.float32(0)) * 2.0 ** np.repeat(np.arange(-12, 12, 3), 32))
    return np.concatenate(rows).astype(np.float32)


def write(name, x):
    if name in ("f32", "f64", "f16"):
        return x.astype(PLAIN[name]).view(np.uint8)
    return gguf.quants.quantize(x, gguf_type(name)).view(np.uint8).ravel()


def main():
    np.seterr(all="ignore")
    lib = ggml()
    rng = np.random.default_rng(SEED)
    tools = ", ".join(f"{name} {version(name)}" for name in ("gguf", "llama-cpp-python", "numpy"))
    out = [f"{tools}, seed {SEED}\n".encode()]

    def record(kind, name, data, x):
        out.append(struct.pack("<BB", ord(kind), len(name)) + name.encode() + struct.pack("<I", x.size))
        out.extend((data.tobytes(), x.astype("<f4").tobytes()))

    for name in TYPES:
        data = blocks(lib, rng, name)
        record("d", name, data, read(lib, name, data))
    for name in WRITABLE:
        x = numbers(rng)
        record("q", name, write(name, x), x)
    out.append(b".\0")
    path = pathlib.Path(__file__).with_name("blocks.bin")
    path.write_bytes(b"".join(out))
    print(f"{path}: {path.stat().st_size} bytes, {len(TYPES)} types read, {len(WRITABLE)} written")


if __name__ == "__main__":
    main()
