#!/usr/bin/env python3
"""Steps of optimizers, for `wootz-train` to take the same.

    python optimizers.py optimizers.json      # needs: pip install torch==2.15.0 pytorch-optimizer==4.1.0 schedulefree==1.4.1 numpy

53 weights, 8 steps with recorded gradients and rates. SGD, RMSprop, Adam and AdamW are PyTorch's, Lion is pytorch-optimizer's,
schedule-free AdamW its authors'. LAMB is written down here from the paper's algorithm in f64: packages differ in clamps.
"""
import json, sys
import numpy as np
import torch
import pytorch_optimizer
import schedulefree

N, STEPS = 53, 8
RATES = [0.0, 0.003, 0.006, 0.01, 0.01, 0.008, 0.005, 0.002]


def run(make, start, grads, rates, finish=None):
    w = torch.nn.Parameter(torch.tensor(start))
    opt = make([w])
    if hasattr(opt, "train"):
        opt.train()
    seen = []
    for grad, lr in zip(grads, rates):
        for group in opt.param_groups:
            group["lr"] = lr
        w.grad = torch.tensor(grad)
        opt.step()
        seen.append(w.detach().tolist())
    if hasattr(opt, "eval"):
        opt.eval()
        return seen, w.detach().tolist()
    return seen, None


def lamb(start, grads, rates, betas, eps, decay):
    w, m, v, seen = np.array(start, np.float64), 0.0, 0.0, []
    for t, (g, lr) in enumerate(zip(grads, rates), 1):
        g = np.array(g, np.float64)
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        r = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps) + decay * w
        w = w - lr * np.linalg.norm(w) / np.linalg.norm(r) * r
        seen.append(w.tolist())
    return seen, None


def main(out):
    rng = np.random.default_rng(5)
    start = rng.normal(size=N).astype(np.float32).tolist()
    grads = (rng.normal(size=(STEPS, N)) * np.exp(rng.normal(size=N))).astype(np.float32).tolist()
    steady = [0.01] * STEPS
    torch_opt = torch.optim
    cases = {
        "sgd": (lambda p: torch_opt.SGD(p, weight_decay=0.1), RATES),
        "momentum": (lambda p: torch_opt.SGD(p, momentum=0.9, weight_decay=0.1), RATES),
        "nesterov": (lambda p: torch_opt.SGD(p, momentum=0.9, nesterov=True), RATES),
        "rms_prop": (lambda p: torch_opt.RMSprop(p, alpha=0.95, eps=1e-6, weight_decay=0.1), RATES),
        "adam": (lambda p: torch_opt.Adam(p, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1), RATES),
        "adam_w": (lambda p: torch_opt.AdamW(p, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1), RATES),
        "lion": (lambda p: pytorch_optimizer.Lion(p, betas=(0.9, 0.99), weight_decay=0.1, foreach=False), RATES),
        "schedule_free": (lambda p: schedulefree.AdamWScheduleFree(p, lr=0.01, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1), steady),
    }
    found = {name: run(make, start, grads, rates) + (rates,) for name, (make, rates) in cases.items()}
    found["lamb"] = lamb(start, grads, RATES, (0.9, 0.95), 1e-6, 0.1) + (RATES,)
    cases = {name: {"rates": rates, "weights": seen, "average": average} for name, (seen, average, rates) in found.items()}
    json.dump({"start": start, "grads": grads, "cases": cases}, open(out, "w"), separators=(",", ":"))


if __name__ == "__main__":
    main(*sys.argv[1:])
