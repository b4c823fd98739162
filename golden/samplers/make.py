"""Makes `golden.json`: what other implementations of samplers and searches choose, for the tests of `wootz-engine`.

Run:    python golden/samplers/make.py     (needs numpy, torch, transformers, gguf, llama-cpp-python; versions: see the result)
Idea:   every case has at least one witness that others wrote (transformers, llama.cpp), or a plain numpy version of the published
        definition; where there are several, this script fails unless they agree.
Writes: `rows` of logits and cases that name a row, settings as in `wootz_text::Sampling`, and what must come out.
"""

import ctypes
import json
import math
import pathlib
import tempfile
from importlib.metadata import version

import gguf
import llama_cpp
import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel, logging
from transformers.generation import GenerationMixin, logits_process
from transformers.modeling_outputs import CausalLMOutput

SEED = 11
V = 96
rng = np.random.default_rng(SEED)


# llama.cpp's samplers through its C interface


def llama(sampler, logits, history=()):
    """The candidates that `sampler` leaves, as {id: logit}."""
    for token in history:
        llama_cpp.llama_sampler_accept(sampler, token)
    data = (llama_cpp.llama_token_data * len(logits))()
    for i, logit in enumerate(logits):
        data[i].id, data[i].logit, data[i].p = i, float(logit), 0.0
    array = llama_cpp.llama_token_data_array(data=data, size=len(logits), selected=-1, sorted=False)
    llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
    left = {array.data[i].id: array.data[i].logit for i in range(array.size)}
    llama_cpp.llama_sampler_free(sampler)
    return {i: x for i, x in left.items() if x > -math.inf}


LLAMA_CUTS = {
    "top_k": lambda k: llama_cpp.llama_sampler_init_top_k(k),
    "top_p": lambda p: llama_cpp.llama_sampler_init_top_p(p, 1),
    "min_p": lambda p: llama_cpp.llama_sampler_init_min_p(p, 1),
    "typical_p": lambda p: llama_cpp.llama_sampler_init_typical(p, 1),
    "top_n_sigma": lambda n: llama_cpp.llama_sampler_init_top_n_sigma(n),
    "xtc": lambda t: llama_cpp.llama_sampler_init_xtc(1.0, t, 1, 0),
}
HF_CUTS = {
    "top_k": lambda k: logits_process.TopKLogitsWarper(k),
    "top_p": lambda p: logits_process.TopPLogitsWarper(p),
    "min_p": lambda p: logits_process.MinPLogitsWarper(p),
    "typical_p": lambda p: logits_process.TypicalLogitsWarper(p),
    "temperature": lambda t: logits_process.TemperatureLogitsWarper(t),
}


def hf(processor, logits, history=(0,)):
    """The logits that a processor of transformers leaves, as {id: logit}."""
    out = processor(torch.tensor([list(history)]), torch.tensor(logits)[None].clone())[0]
    return {i: x for i, x in enumerate(out.tolist()) if x > -math.inf}


# Plain versions of the published definitions


def softmax(logits):
    e = np.exp(np.asarray(logits, np.float64) - np.max(logits))
    return e / e.sum()


def plain_xtc(logits, threshold):
    p = softmax(logits)
    tops = sorted(np.flatnonzero(p >= threshold), key=lambda i: (-p[i], i))
    return {i: float(x) for i, x in enumerate(logits) if i not in tops[:-1]}


def plain_top_n_sigma(logits, n):
    x = np.asarray(logits, np.float64)
    return {i: float(y) for i, y in enumerate(x) if y >= x.max() - n * x.std()}


def plain_dynamic_temperature(logits, temperature, dynamic):
    p = softmax(logits)
    share = -(p * np.log(p)).sum() / math.log(len(p))
    low, high = temperature - dynamic["range"], temperature + dynamic["range"]
    return low + (high - low) * share ** dynamic["exponent"]


def plain_penalties(logits, history, repetition, presence, frequency, last_n):
    window = history if last_n is None else history[len(history) - min(last_n, len(history)) :]
    out = {}
    for token in set(window):
        x = float(logits[token])
        x = x / repetition if x > 0 else x * repetition
        out[token] = x - window.count(token) * frequency - presence
    return out


def plain_dry(logits, history, texts, multiplier, base, allowed_length, penalty_last_n, sequence_breakers):
    """Looks at every earlier place of the window: how many tokens before it equal those at the end?"""
    text, ends = "", []
    for token in history:
        text += texts[token]
        ends.append(len(text))
    last_break = -1  # the token in which the last sequence breaker ends
    for breaker in sequence_breakers:
        end = text.rfind(breaker) + len(breaker)
        if breaker in text:
            last_break = max(last_break, next(i for i, e in enumerate(ends) if e >= end))
    start = 0 if penalty_last_n is None else max(0, len(history) - penalty_last_n)
    window = history[start:]
    limit = len(history) - 1 - last_break
    longest = {}
    for place in range(len(window) - 1):
        length = 0
        while length <= place and length < limit and window[place - length] == window[-1 - length]:
            length += 1
        follower = window[place + 1]
        if length >= allowed_length and not any(b in texts[follower] for b in sequence_breakers):
            longest[follower] = max(length, longest.get(follower, 0))
    return {t: float(logits[t]) - multiplier * base ** (n - allowed_length) for t, n in longest.items()}


def plain_mirostat(rows, version, tau, eta, vocab_size):
    """Alg. 1 of the paper, and the authors' second version; every time the candidate in the middle is 'drawn'."""
    mu, steps = 2 * tau, []
    for row, logits in rows:
        p = softmax(logits)
        order = np.argsort(-p, kind="stable")
        if version == 1:
            top = p[order][:100]
            t = np.log([(i + 2) / (i + 1) for i in range(len(top) - 1)])
            b = np.log(top[:-1] / top[1:])
            s = (t * b).sum() / (t * t).sum()
            epsilon = s - 1
            k = (epsilon * 2**mu / (1 - vocab_size**-epsilon)) ** (1 / s)
            kept = order[: max(1, min(int(k), len(order)))]
        else:
            kept = order[: max(1, int((-np.log2(p) <= mu).sum()))]
        kept = sorted(kept.tolist())
        drawn = kept[len(kept) // 2]
        mu -= eta * (-math.log2(p[drawn]) - tau)
        steps.append({"row": row, "kept": kept, "drawn": drawn, "mu": mu})
    return steps


def plain_contrastive(table, hidden, prompt, alpha, k, n):
    """Su et al. 2022, eq. 5. The hidden state depends on a token and the one before it."""
    ids = list(prompt)
    direction = lambda i: hidden[ids[i - 1] if i else 0][ids[i]] / np.linalg.norm(hidden[ids[i - 1] if i else 0][ids[i]])
    for _ in range(n):
        p = softmax(table[ids[-1]])
        scores = []
        for token in np.argsort(-p, kind="stable")[:k]:
            h = hidden[ids[-1]][token]
            similarity = max(float(h @ direction(i)) / np.linalg.norm(h) for i in range(len(ids)))
            scores.append(((1 - alpha) * p[token] - alpha * similarity, int(token)))
        ids.append(max(scores)[1])
    return ids[len(prompt) :]


# A model that is a table: the logits depend on the last token, and are sharper at some positions than at others, because
# otherwise the same steps in another order would tie


class TableModel(PreTrainedModel, GenerationMixin):
    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, table):
        super().__init__(PretrainedConfig(vocab_size=len(table), is_encoder_decoder=False))
        self.table = torch.nn.Parameter(torch.tensor(table, dtype=torch.float32))

    def forward(self, input_ids, **_):
        sharpness = (8 + torch.arange(input_ids.shape[1]) % 5) / 8
        return CausalLMOutput(logits=self.table[input_ids] * sharpness[None, :, None])

    def prepare_inputs_for_generation(self, input_ids, **_):
        return {"input_ids": input_ids}


def hf_beams(table, case):
    model = TableModel(table).eval()
    early = {"when_full": True, "heuristic": False, "never": "never"}[case["early_stopping"]]
    out = model.generate(
        torch.tensor([case["prompt"]]),
        do_sample=False,
        num_beams=case["num_beams"],
        num_return_sequences=case["n"],
        length_penalty=case["length_penalty"],
        early_stopping=early,
        max_new_tokens=case["max_tokens"],
        min_new_tokens=case["min_tokens"] or None,
        repetition_penalty=case["repetition"],
        eos_token_id=case["end_tokens"],
        pad_token_id=len(table) - 1,
        use_cache=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    hypotheses = []
    for ids, indices, score in zip(out.sequences.tolist(), out.beam_indices.tolist(), out.sequences_scores.tolist()):
        n = sum(i >= 0 for i in indices)
        ids = ids[len(case["prompt"]) :][:n]
        hypotheses.append({"token_ids": ids, "score": round(score, 5)})
    return hypotheses


# Agreement


def agree(what, witnesses):
    """The ids that all witnesses leave, ascending; fails if they differ."""
    (first, left), *others = witnesses.items()
    for name, other in others:
        assert set(left) == set(other), f"{what}: {first} and {name} differ: {set(left) ^ set(other)}"
    return sorted(left)


def agree_on_logits(what, witnesses, logits):
    """The changed logits, the same for all witnesses within f32."""
    (first, changed), *others = witnesses.items()
    for name, other in others:
        for i, logit in enumerate(logits):
            a, b = changed.get(i, float(logit)), other.get(i, float(logit))
            assert abs(a - b) <= 1e-4 * max(1, abs(a)), f"{what}: token {i}: {first} {a}, {name} {b}"
    return {str(i): float(np.float32(x)) for i, x in sorted(changed.items())}


def cases_of_cuts(rows):
    values = {
        "top_k": [1, 2, 7, 40, 95, 200],
        "top_p": [0.05, 0.3, 0.6, 0.9, 0.95, 0.999],
        "min_p": [0.001, 0.02, 0.1, 0.5, 0.95],
        "typical_p": [0.05, 0.2, 0.5, 0.9, 0.99],
        "top_n_sigma": [0.3, 1.0, 1.7, 3.0],
        "xtc": [0.01, 0.05, 0.1, 0.3, 0.5],
    }
    for row, logits in enumerate(rows):
        for name, settings in values.items():
            for setting in settings:
                witnesses = {"llama.cpp": llama(LLAMA_CUTS[name](setting), logits)}
                if name in HF_CUTS:
                    witnesses["transformers"] = hf(HF_CUTS[name](setting), logits)
                if name == "xtc":
                    witnesses["numpy"] = plain_xtc(logits, setting)
                if name == "top_n_sigma":
                    witnesses["numpy"] = plain_top_n_sigma(logits, setting)
                value = {"probability": 1.0, "threshold": setting} if name == "xtc" else setting
                kept = agree(f"row {row}, {name} {setting}", witnesses)
                yield {"row": row, "settings": {name: value}, "kept": kept, "by": sorted(witnesses)}


def cases_of_chains(rows):
    """Several warpers in an order; the probabilities that transformers ends with."""
    chains = [
        ["temperature", "top_k", "top_p"],
        ["top_k", "typical_p", "top_p", "min_p", "temperature"],
        ["min_p", "temperature"],
        ["top_p", "temperature", "top_k"],
    ]
    settings = {"temperature": 0.7, "top_k": 30, "top_p": 0.9, "min_p": 0.03, "typical_p": 0.95}
    for row, logits in enumerate(rows):
        for order in chains:
            x = torch.tensor(logits)[None]
            for name in order:
                x = HF_CUTS[name](settings[name])(torch.tensor([[0]]), x)
            p = torch.softmax(x.double(), -1)[0].numpy()
            left = {str(i): round(float(q), 7) for i, q in enumerate(p) if q > 0}
            yield {"row": row, "settings": {n: settings[n] for n in order}, "order": order, "probabilities": left}


def cases_of_temperature(rows):
    for row, logits in enumerate(rows):
        for temperature, dynamic in [(1.0, (0.5, 1.0)), (0.8, (0.8, 2.0)), (1.5, (1.0, 0.5)), (0.7, (0.0, 1.0))]:
            dynamic = {"range": dynamic[0], "exponent": dynamic[1]}
            t = plain_dynamic_temperature(logits, temperature, dynamic)
            sampler = llama_cpp.llama_sampler_init_temp_ext(temperature, dynamic["range"], dynamic["exponent"])
            ours = {i: float(x) / t for i, x in enumerate(logits)}
            agree_on_logits(f"dynatemp {row}", {"numpy": ours, "llama.cpp": llama(sampler, logits)}, logits)
            settings = {"temperature": temperature, "dynamic_temperature": dynamic}
            yield {"row": row, "settings": settings, "divisor": t}


def cases_of_penalties(rows):
    settings = [(1.3, 0.0, 0.0, None), (0.8, 0.0, 0.0, None), (1.0, 0.5, 0.0, 8), (1.0, 0.0, 0.3, 20), (1.2, -0.4, 0.25, 5)]
    for row, logits in enumerate(rows):
        for repetition, presence, frequency, last_n in settings:
            history = rng.integers(0, 30, 40).tolist()
            what = {"repetition": repetition, "presence": presence, "frequency": frequency, "last_n": last_n}
            window = last_n or len(history)
            sampler = llama_cpp.llama_sampler_init_penalties(V, window, repetition, frequency, presence)
            witnesses = {
                "numpy": plain_penalties(logits, history, **what),
                "llama.cpp": llama(sampler, logits, history),
            }
            if repetition != 1 and last_n is None:
                witnesses["transformers"] = hf(logits_process.RepetitionPenaltyLogitsProcessor(repetition), logits, history)
            changed = agree_on_logits(f"penalties {what}", witnesses, logits)
            yield {"row": row, "history": history, "settings": {"penalties": what}, "logits": changed, "by": sorted(witnesses)}


def dry_vocab(texts):
    """llama.cpp's vocabulary whose ids are those of `texts`, from a GGUF without tensors."""
    bytes_at = len(texts)
    path = pathlib.Path(tempfile.mkdtemp()) / "vocab.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts + [f"<0x{i:02X}>" for i in range(256)])
    writer.add_token_scores([-float(i) for i in range(bytes_at + 256)])
    writer.add_token_types([1] * bytes_at + [6] * 256)
    writer.add_add_space_prefix(False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    path.unlink()
    path.parent.rmdir()
    return llama_cpp.llama_model_get_vocab(model)


def llama_dry(vocab, logits, history, what):
    breakers = [b.encode() for b in what["sequence_breakers"]]
    sampler = llama_cpp.llama_sampler_init_dry(
        vocab,
        what["multiplier"],
        what["base"],
        what["allowed_length"],
        what["penalty_last_n"] or len(history),
        (ctypes.c_char_p * len(breakers))(*breakers),
        len(breakers),
    )
    return llama(sampler, logits, history)


def cases_of_dry(rows, texts):
    vocab = dry_vocab(texts)
    settings = [
        (0.8, 1.75, 2, None, ["\n", ":"], 60),
        (0.5, 1.2, 1, None, [], 60),
        (1.0, 2.0, 0, 30, ["\n"], 40),
        (1.5, 1.75, 3, 25, [":"], 100),
        (0.8, 1.75, 2, None, ["END", "!!"], 80),
        (2.0, 1.0, 1, None, ["a:"], 50),
    ]
    for row in range(6):
        for multiplier, base, allowed_length, penalty_last_n, sequence_breakers, n in settings:
            what = dict(multiplier=multiplier, base=base, allowed_length=allowed_length)
            what |= dict(penalty_last_n=penalty_last_n, sequence_breakers=sequence_breakers)
            n_ids = [3, 5, len(texts)][row % 3]
            motif = rng.integers(0, n_ids, 6).tolist()
            history = []
            while len(history) < n:
                history += motif if rng.random() < 0.5 else rng.integers(0, n_ids, 3).tolist()
            witnesses = {"numpy": plain_dry(rows[row], history, texts, **what)}
            # llama.cpp knows a breaker that spans tokens only as its own tokenizer would cut it.
            if all(len(breaker) == 1 for breaker in sequence_breakers):
                witnesses["llama.cpp"] = llama_dry(vocab, rows[row], history, what)
            changed = agree_on_logits(f"dry {row} {what}", witnesses, rows[row])
            yield {"row": row, "history": history, "settings": {"dry": what}, "logits": changed, "by": sorted(witnesses)}
    # E, N, D: cut as llama.cpp's tokenizer cuts "END".
    e, n, d = (texts.index(letter) for letter in "END")
    history = [0, 1, 2, 0, e, n, d, 0, 1, 2, 0, e, n, d, 0, 1, 2]
    what = dict(multiplier=0.8, base=1.75, allowed_length=2, penalty_last_n=None, sequence_breakers=["END"])
    witnesses = {"numpy": plain_dry(rows[0], history, texts, **what), "llama.cpp": llama_dry(vocab, rows[0], history, what)}
    changed = agree_on_logits("dry END", witnesses, rows[0])
    assert changed, "the case must show something"
    yield {"row": 0, "history": history, "settings": {"dry": what}, "logits": changed, "by": sorted(witnesses)}


def cases_of_mirostat(rows):
    for version_ in (1, 2):
        for tau, eta in [(3.0, 0.1), (5.0, 0.3), (1.0, 0.5)]:
            steps = plain_mirostat([(i % len(rows), rows[i % len(rows)]) for i in range(20)], version_, tau, eta, V)
            yield {"version": version_, "tau": tau, "eta": eta, "steps": steps}


def cases_of_beams():
    n_different = 0
    for table_idx in range(6):
        n = [12, 12, 20, 8, 12, 16][table_idx]
        table = (rng.normal(size=(n, n)) * [1.0, 2.0, 3.0, 1.5, 0.5, 2.0][table_idx]).astype(np.float32).round(4)
        table[:, 0] += np.float32(1.5)  # ends come often, so that the rules of ending matter
        searches = []
        for num_beams in (1, 2, 3, 5):
            for length_penalty in (-0.5, 0.0, 1.0, 2.0):
                for early_stopping in ("when_full", "heuristic", "never"):
                    case = {
                        "num_beams": num_beams,
                        "n": 1 + (len(searches) // 3 % num_beams),
                        "length_penalty": length_penalty,
                        "early_stopping": early_stopping,
                        "prompt": [3, 1] if table_idx % 2 else [2],
                        "max_tokens": [6, 10, 15][len(searches) // 3 % 3],
                        "min_tokens": [0, 0, 3][table_idx % 3],
                        "repetition": [1.0, 1.0, 1.0, 1.2][table_idx % 4],
                        "end_tokens": [0] if table_idx < 4 else [0, 1],
                    }
                    if num_beams == 1:
                        continue  # transformers then searches greedily and gives no score
                    searches.append(case | {"hypotheses": hf_beams(table, case)})
        found = {}
        for search in searches:
            key = tuple(search[name] for name in ("num_beams", "length_penalty"))
            found.setdefault(key, set()).add(str(search["hypotheses"][0]["token_ids"]))
        n_different += sum(len(x) > 1 for x in found.values())
        yield {"table": table.tolist(), "searches": searches}
    assert n_different > 10, "early stopping must matter in some cases"


def cases_of_contrastive():
    for alpha, k in [(0.6, 4), (0.0, 3), (1.0, 5), (0.3, 8), (0.8, 1)]:
        n, c = 12, 5
        table = rng.normal(size=(n, n)).round(3)
        hidden = rng.normal(size=(n, n, c)).round(3)
        prompt = [1, 4, 2]
        ids = plain_contrastive(table, hidden, prompt, alpha, k, 12)
        case = {"penalty_alpha": alpha, "top_k": k, "prompt": prompt, "token_ids": ids}
        yield case | {"table": table.tolist(), "hidden": hidden.tolist()}


def main():
    logging.set_verbosity_error()
    scales = [0.5, 1.0, 2.0, 3.0, 5.0, 8.0]
    rows = [(rng.normal(size=V) * scale).astype(np.float32).round(3) for scale in scales]
    texts = ["a", "b", "c", "\n", "ab", ":", "b\n", "x:y", "E", "N", "D", "!", "a!", "::", "c\na"]
    golden = {
        "made_with": {name: version(name) for name in ("numpy", "torch", "transformers", "llama-cpp-python", "gguf")},
        "seed": SEED,
        "rows": [[round(float(x), 3) for x in row] for row in rows],
        "cuts": list(cases_of_cuts(rows)),
        "chains": list(cases_of_chains(rows)),
        "temperature": list(cases_of_temperature(rows)),
        "penalties": list(cases_of_penalties(rows)),
        "dry_texts": texts,
        "dry": list(cases_of_dry(rows, texts)),
        "mirostat": list(cases_of_mirostat(rows)),
        "beams": list(cases_of_beams()),
        "contrastive": list(cases_of_contrastive()),
    }
    path = pathlib.Path(__file__).with_name("golden.json")
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(path, path.stat().st_size, {k: len(v) for k, v in golden.items() if isinstance(v, list)})


main()
