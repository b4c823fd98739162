"""Measures the three products of training and attention in PyTorch, on the shapes of wootz-kernels' example `training`.

Run with `python golden/train/products.py [threads] [rows]`, in turn with `cargo run --release -p wootz-kernels --example training`,
on a machine that does nothing else. Best and median of several passes, in 10^9 operations a second.
"""

import sys
import time

import torch
import torch.nn.functional as F

SHAPES = [(768, 768), (2048, 768), (768, 2048), (32_000, 768)]


def measure(work):
    work()
    seconds, start = [], time.perf_counter()
    while len(seconds) < 3 or (time.perf_counter() - start < 0.15 and len(seconds) < 100):
        at = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - at)
    seconds.sort()
    return seconds[0], seconds[len(seconds) // 2]


def products(dtype, m, n, k):
    x, w, dy = (torch.rand(shape, dtype=dtype) - 0.5 for shape in [(m, k), (n, k), (m, n)])
    works = [lambda: F.linear(x, w), lambda: dy @ w, lambda: dy.T @ x]
    rates = [tuple(2 * m * n * k / s / 1e9 for s in measure(work)) for work in works]
    name = {torch.float32: "f32", torch.bfloat16: "bf16"}[dtype]
    print(f"{name:5} {m:4} {n:6} {k:6}", *(f"{best:6.1f} ({median:5.1f})" for best, median in rates))


def attention(length, n_kv_heads):
    q, k, v = (torch.rand(1, h, length, 64, requires_grad=True) for h in (12, n_kv_heads, n_kv_heads))
    d_out = torch.rand(1, 12, length, 64)

    def forward():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=n_kv_heads < 12)

    def both():
        torch.autograd.grad(forward(), (q, k, v), d_out)

    with torch.no_grad():
        ahead = measure(forward)[0]
    behind = measure(both)[0] - ahead
    pairs = length * (length + 1) / 2 * 12 * 64 * 2 / 1e9
    print(
        f"attention of {length}, 12 heads over {n_kv_heads}: forward {ahead * 1e3:.2f} ms, {2 * pairs / ahead:.1f} GFLOP/s;"
        f" backward {behind * 1e3:.2f} ms, {5 * pairs / behind:.1f} GFLOP/s"
    )


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("type  rows      n      k     forward          dx          dw   best (median) GFLOP/s")
    with torch.no_grad():
        for m in [int(sys.argv[2])] if len(sys.argv) > 2 else [512, 2048]:
            for n, k in SHAPES:
                for dtype in (torch.float32, torch.bfloat16):
                    products(dtype, m, n, k)
    for length, n_kv_heads in [(512, 12), (2048, 12), (2048, 3)]:
        attention(length, n_kv_heads)


if __name__ == "__main__":
    main()
