#!/usr/bin/env python3
"""Trains tiny models with PyTorch, transformers, TRL and PEFT and records what every step saw, for `wootz-train` to agree with.

    python golden/train/make.py [CASE ...]             # writes golden/train/CASE.json and golden/train/adapters
    python golden/train/make.py --shaken [CASE ...]    # writes nothing; says how far rounding alone can carry a run

needs: pip install torch==2.15.0 transformers==5.23.0 trl==1.16.0 peft==0.21.2 accelerate==1.15.0 datasets==5.2.0

The models are those of golden/models (`models.py`), so no weights lie here but the first weights of LoRA adapters. Everything runs
on one thread of a CPU in f32. README.md beside this file says what the fields are and how each loss is defined.

Whose code runs: the trainers are TRL's (SFTTrainer, DPOTrainer, KTOTrainer, GRPOTrainer; ORPOTrainer and CPOTrainer from
trl.experimental) with their own tokenization, collators and losses; the loop, clipping, optimizer (torch.optim.AdamW) and schedule are
transformers' Trainer; adapters are PEFT's. Ours is: the token ids, a tokenizer of one word an id (so that ids pass through texts
unchanged; what reached the model is compared with what was meant), the order of rows (as they lie), completions and rewards that
GRPOTrainer is given instead of generating (`_generate` is overridden, and the shuffle of a generation batch is taken out), and
the collator of the packed case, which lays the rows of a micro-batch end to end with positions that begin anew.
"""
import argparse, json, os, sys, tempfile, warnings

os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", CUDA_VISIBLE_DEVICES="",
                  HF_DATASETS_DISABLE_PROGRESS_BARS="1", TRL_EXPERIMENTAL_SILENCE="1", TQDM_DISABLE="1")
warnings.filterwarnings("ignore")
import datasets, peft, torch, transformers, trl
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer
import trl.trainer.grpo_trainer as grpo_module

transformers.logging.set_verbosity_error()
datasets.disable_progress_bars()
HERE = os.path.dirname(os.path.abspath(__file__))
VOCAB, BOS, EOS, PAD, STEPS = 96, 1, 2, 0, 30
VERSIONS = {m.__name__: m.__version__ for m in (torch, transformers, trl, peft)}
MODELS = ["llama", "qwen3", "gemma2", "mixtral"]

# What every case shares unless it says otherwise; recorded in full as `settings`.
BASE = dict(steps=STEPS, micro_batch=2, accumulation=2, lr=2e-3, warmup_steps=3, schedule="cosine to 0", adam_beta1=0.9,
            adam_beta2=0.99, adam_epsilon=1e-8, weight_decay=0.01, max_grad_norm=1.0)
LORA_ALL = dict(r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear")
LORA_MIXTRAL = dict(LORA_ALL, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])  # experts are no linear layers to transformers
LORA_QV = dict(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])


def cases():
    """name -> (model, method, settings that differ)"""
    out = {}
    for m in MODELS:
        out[f"{m}-sft"] = (m, "sft", {})
        out[f"{m}-lora"] = (m, "sft", dict(lora=LORA_MIXTRAL if m == "mixtral" else LORA_ALL, lr=1e-2))
        out[f"{m}-lora-qv"] = (m, "sft", dict(lora=LORA_QV, lr=1e-2))
        out[f"{m}-dpo"] = (m, "dpo", dict(loss_type="sigmoid", beta=0.1, lr=5e-4))
        out[f"{m}-kto"] = (m, "kto", dict(beta=0.1, desirable_weight=1.0, undesirable_weight=1.25, micro_batch=3, lr=5e-4))
        out[f"{m}-orpo"] = (m, "orpo", dict(beta=0.1, lr=1e-3))
        out[f"{m}-grpo"] = (m, "grpo", dict(loss_type="grpo", beta=0.04, lr=1e-3))
    for loss_type in ("bnpo", "dr_grpo", "dapo"):
        out[f"llama-grpo-{loss_type}"] = ("llama", "grpo", dict(loss_type=loss_type, beta=0.0, lr=1e-3))
    out["llama-grpo-plain-kl"] = ("llama", "grpo", dict(loss_type="grpo", beta=0.04, kl_times_ratio=False, lr=1e-3))
    out["llama-ipo"] = ("llama", "dpo", dict(loss_type="ipo", beta=0.1, lr=5e-4))
    out["llama-simpo"] = ("llama", "simpo", dict(loss_type="simpo", beta=2.0, gamma=1.0, lr=5e-4))
    out["llama-dpo-lora"] = ("llama", "dpo", dict(loss_type="sigmoid", beta=0.1, lora=LORA_ALL, lr=5e-3))
    out["llama-sft-packed"] = ("llama", "sft", dict(packed=True))
    out["gemma2-sft-packed"] = ("gemma2", "sft", dict(packed=True))
    out["llama-sft-decay"] = ("llama", "sft", dict(weight_decay=5.0))
    out["qwen3-sft-decay"] = ("qwen3", "sft", dict(weight_decay=5.0))
    out["mixtral-sft-balance"] = ("mixtral", "sft", dict(router_aux_loss_coef=0.1))
    return out


class Draw:
    """Rows of ids; lengths are unequal on purpose, and some are longer than Gemma 2's window of 16."""

    def __init__(self, seed):
        self.gen = torch.Generator().manual_seed(seed)

    def int(self, low, high):
        return int(torch.randint(low, high + 1, (1,), generator=self.gen))

    def ids(self, low, high):
        return torch.randint(3, VOCAB, (self.int(low, high),), generator=self.gen).tolist()

    def prompt(self):
        return [BOS] + self.ids(2, 9)

    def answer(self, low=1, high=13):
        return self.ids(low, high) + [EOS]


def sft_rows():
    draw, rows = Draw(1), []
    for i in range(12):
        if i % 3 == 0:  # a text: all but the first token is learned
            ids = [BOS] + draw.answer(4, 24)
            rows.append(dict(ids=ids, supervised=[0] + [1] * (len(ids) - 1)))
        else:  # one or two turns, of which the answers are learned
            ids, learned = [], []
            for turn in range(i % 3):
                prompt, answer = (draw.prompt() if turn == 0 else draw.ids(2, 5)), draw.answer(1, 7 if i % 3 == 2 else 13)
                ids, learned = ids + prompt + answer, learned + [0] * len(prompt) + [1] * len(answer)
            rows.append(dict(ids=ids, supervised=learned))
    return rows


def pair_rows():
    draw = Draw(2)
    return [dict(prompt=draw.prompt(), chosen=draw.answer(), rejected=draw.answer()) for _ in range(12)]


def label_rows():
    draw = Draw(3)
    labels = [True, False, True, False, False, True, True, True, False, True, False, False]
    return [dict(prompt=draw.prompt(), completion=draw.answer(), label=label) for label in labels]


def group_rows():
    draw, rows = Draw(4), []
    for i in range(6):
        rewards = [0.5] * 4 if i == 4 else [draw.int(0, 4) / 4 for _ in range(4)]  # a group that teaches nothing is there too
        rows.append(dict(prompt=draw.prompt(), completions=[draw.answer(1, 9) for _ in range(4)], rewards=rewards))
    return rows


def words(ids):
    return "".join(f"<{i}>" for i in ids)


def tokenizer():
    t = Tokenizer(models.WordLevel({f"<{i}>": i for i in range(VOCAB)}, unk_token=f"<{PAD}>"))
    t.pre_tokenizer = pre_tokenizers.Split(pattern="<", behavior="merged_with_next")
    made = PreTrainedTokenizerFast(tokenizer_object=t, bos_token=f"<{BOS}>", eos_token=f"<{EOS}>", pad_token=f"<{PAD}>")
    probe = list(range(VOCAB))
    assert made(words(probe))["input_ids"] == probe
    return made


def load(name, shaken):
    model = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, "../models", name), dtype=torch.float32, attn_implementation="eager")
    if shaken:
        noise = torch.Generator().manual_seed(99)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1 + 1e-7 * torch.randn(p.shape, generator=noise))
    return model


def logprobs(model, ids):
    """Of every token but the first: log p(ids[i] | ids[..i]). Plain transformers."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return logits[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def first_logprobs(model, method, rows):
    """What the untrained model gives the tokens that a loss looks at, row by row: also the reference of DPO, KTO and GRPO."""
    out = []
    for row in rows:
        if method == "sft":
            out.append([lp for lp, s in zip(logprobs(model, row["ids"]), row["supervised"][1:]) if s])
            continue
        answers = row["completions"] if method == "grpo" else [row[k] for k in ("chosen", "rejected", "completion") if k in row]
        out.append([logprobs(model, row["prompt"] + answer)[len(row["prompt"]) - 1:] for answer in answers])
    return out


def batch_of(method, rows, settings, k):
    """The rows of micro-batch `k`, counted from 0."""
    if method == "grpo":  # two prompts a generation, each generation taken twice, a prompt a micro-batch
        return [rows[(k // 4 * 2 + k % 2) % len(rows)]]
    return [rows[(k * settings["micro_batch"] + i) % len(rows)] for i in range(settings["micro_batch"])]


class Definition:
    """The losses of README.md, written down once more from log-probabilities of unpadded rows; the trainers are held to it."""

    def __init__(self, model, method, rows, settings):
        self.method, self.rows, self.s, self.model = method, rows, settings, model
        self.reference = {}
        if method in ("dpo", "kto", "grpo"):
            for k in range(STEPS * settings["accumulation"]):
                for ids, n_prompt in self.sequences(batch_of(method, rows, settings, k)):
                    self.reference.setdefault((tuple(ids), n_prompt), self.answer(ids, n_prompt))

    def sequences(self, batch):
        """(ids, length of the prompt) of everything that is looked at."""
        if self.method == "grpo":
            return [(r["prompt"] + c, len(r["prompt"])) for r in batch for c in r["completions"]]
        if self.method == "kto":
            mixed = [(r["prompt"], batch[i - 1]["completion"]) for i, r in enumerate(batch)]  # the completion of the row before
            return [(p + c, len(p)) for p, c in [(r["prompt"], r["completion"]) for r in batch] + mixed]
        return [(r["prompt"] + r[k], len(r["prompt"])) for k in ("chosen", "rejected") for r in batch]

    def answer(self, ids, n_prompt):
        return torch.tensor(logprobs(self.model, ids)[n_prompt - 1:], dtype=torch.float64)

    def loss(self, k):
        """What micro-batch `k` adds to the loss of its step, with the model as it is now."""
        s, n_acc = self.s, self.s["accumulation"]
        batch = batch_of(self.method, self.rows, s, k)
        if self.method == "sft":
            first = k // n_acc * n_acc
            n_tokens = sum(sum(r["supervised"][1:]) for j in range(first, first + n_acc) for r in batch_of("sft", self.rows, s, j))
            return -sum(lp for r in batch for lp, l in zip(logprobs(self.model, r["ids"]), r["supervised"][1:]) if l) / n_tokens
        now = [self.answer(*q) for q in self.sequences(batch)]
        if self.method == "grpo":
            return self.grpo(k, batch[0], now)
        n = len(batch)
        log_sigmoid = torch.nn.functional.logsigmoid
        if self.method in ("dpo", "kto"):
            moved = [(lp - self.reference[tuple(ids), n_prompt]).sum() for lp, (ids, n_prompt) in zip(now, self.sequences(batch))]
        if self.method == "kto":
            kl = max(0.0, sum(moved[n:]) / n)
            parts = [s["desirable_weight"] * (1 - torch.sigmoid(s["beta"] * (m - kl))) if r["label"] else
                     s["undesirable_weight"] * (1 - torch.sigmoid(s["beta"] * (kl - m))) for m, r in zip(moved, batch)]
        elif s.get("loss_type") == "sigmoid":
            parts = [-log_sigmoid(s["beta"] * (c - r)) for c, r in zip(moved[:n], moved[n:])]
        elif s.get("loss_type") == "ipo":
            means = [m / len(lp) for m, lp in zip(moved, now)]
            parts = [(c - r - 1 / (2 * s["beta"])) ** 2 for c, r in zip(means[:n], means[n:])]
        elif s.get("loss_type") == "simpo":
            means = [lp.mean() for lp in now]
            parts = [-log_sigmoid(s["beta"] * (c - r) - s["gamma"]) for c, r in zip(means[:n], means[n:])]
        else:  # orpo
            means = [lp.mean() for lp in now]
            odds = lambda lp: lp - torch.log1p(-torch.exp(lp))
            whole = [lp for r in batch for lp in logprobs(self.model, r["prompt"] + r["chosen"])]
            parts = [-sum(whole) / len(whole) - s["beta"] * log_sigmoid(odds(c) - odds(r)) for c, r in zip(means[:n], means[n:])]
        return float(sum(parts) / n / n_acc)

    def grpo(self, k, row, now):
        s = self.s
        if k % 4 == 0:  # a generation begins: these weights are the old ones for both of its steps
            self.old = {tuple(q[0]): self.answer(*q) for j in (k, k + 1) for q in self.sequences(batch_of("grpo", self.rows, s, j))}
        rewards = torch.tensor(row["rewards"], dtype=torch.float64)
        advantages = (rewards - rewards.mean()) / (rewards.std(unbiased=True) + 1e-4)
        parts = []
        for lp, (ids, n_prompt), advantage in zip(now, self.sequences([row]), advantages):
            ratio = torch.exp(lp - self.old[tuple(ids)])
            part = -torch.minimum(ratio * advantage, ratio.clamp(1 - s["epsilon"], 1 + s["epsilon"]) * advantage)
            away = self.reference[tuple(ids), n_prompt] - lp
            parts.append(part + s["beta"] * (ratio if s["kl_times_ratio"] else 1) * (torch.exp(away) - away - 1))
        n_tokens = sum(len(p) for p in parts)
        generation = sum(len(lp) for lp in self.old.values())
        total = sum(p.sum() for p in parts)
        n_acc = s["accumulation"]
        return float({"grpo": sum(p.mean() for p in parts) / len(parts) / n_acc, "bnpo": total / n_tokens / n_acc,
                      "dr_grpo": total / (len(parts) * s["max_completion_length"]) / n_acc, "dapo": total / generation}[s["loss_type"]])


class Log(TrainerCallback):
    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **_):
        if "loss" in logs:
            self.seen.append(logs)


def packed_collator(rows):
    """The rows of a micro-batch end to end: positions begin anew, which is where transformers cuts attention; no mask, no padding."""
    ids = [i for row in rows for i in row["input_ids"]]
    positions = [p for row in rows for p in range(len(row["input_ids"]))]
    labels = [l for row in rows for l in [-100] + row["labels"][1:]]
    return {k: torch.tensor([v]) for k, v in dict(input_ids=ids, position_ids=positions, labels=labels).items()}


class GivenCompletions(GRPOTrainer):
    """GRPO on recorded completions: the i-th repetition of a prompt gets the i-th of them."""

    given = {}

    def _generate(self, prompts):
        rows = [self.given[p] for p in prompts]
        done = [row["completions"][i % self.num_generations] for i, row in enumerate(rows)]
        return [r["prompt"] for r in rows], done, None, [words(c) for c in done], None, {}, None, None


def reward(prompts, completions, **_):
    """The recorded reward of a completion, found by its text."""
    return [GivenCompletions.given[p]["rewards"][[words(c) for c in GivenCompletions.given[p]["completions"]].index(c)]
            for p, c in zip(prompts, completions)]


def build(name, method, settings, model, folder):
    """The rows of a case and a trainer that will go over them in order."""
    s = settings
    common = dict(output_dir=folder, max_steps=s["steps"], per_device_train_batch_size=s["micro_batch"],
                  gradient_accumulation_steps=s["accumulation"], learning_rate=s["lr"], warmup_steps=s["warmup_steps"],
                  lr_scheduler_type="cosine", optim="adamw_torch", adam_beta1=s["adam_beta1"], adam_beta2=s["adam_beta2"],
                  adam_epsilon=s["adam_epsilon"], weight_decay=s["weight_decay"], max_grad_norm=s["max_grad_norm"], logging_steps=1,
                  save_strategy="no", report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
                  train_sampling_strategy="sequential", dataloader_pin_memory=False, seed=0)
    log = Log()
    given = dict(model=model, processing_class=tokenizer(), callbacks=[log])
    quiet = {} if method in ("orpo", "simpo") else dict(router_aux_loss_coef=s.get("router_aux_loss_coef")
                                                        or (0.0 if "mixtral" in name else None))
    pairs = lambda rows: Dataset.from_list([{k: words(v) for k, v in row.items()} for row in rows])
    if method == "sft":
        rows = sft_rows()
        data = Dataset.from_list([dict(input_ids=r["ids"], labels=[i if l else -100 for i, l in zip(r["ids"], r["supervised"])]) for r in rows])
        if s.get("packed"):
            given["data_collator"] = packed_collator
        trainer = SFTTrainer(args=SFTConfig(max_length=None, **common, **quiet), train_dataset=data, **given)
    elif method == "dpo":
        rows = pair_rows()
        args = DPOConfig(loss_type=s["loss_type"], beta=s["beta"], max_length=None, **common, **quiet)
        trainer = DPOTrainer(args=args, train_dataset=pairs(rows), **given)
    elif method == "kto":
        rows = label_rows()
        data = Dataset.from_list([dict(prompt=words(r["prompt"]), completion=words(r["completion"]), label=r["label"]) for r in rows])
        args = KTOConfig(beta=s["beta"], desirable_weight=s["desirable_weight"], undesirable_weight=s["undesirable_weight"],
                         max_length=None, **common, **quiet)
        trainer = KTOTrainer(args=args, train_dataset=data, **given)
    elif method == "orpo":
        rows = pair_rows()
        trainer = ORPOTrainer(args=ORPOConfig(beta=s["beta"], max_length=128, **common), train_dataset=pairs(rows), **given)
    elif method == "simpo":
        rows = pair_rows()
        args = CPOConfig(loss_type="simpo", cpo_alpha=0.0, beta=s["beta"], simpo_gamma=s["gamma"], max_length=128, **common)
        trainer = CPOTrainer(args=args, train_dataset=pairs(rows), **given)
    else:
        rows = group_rows()
        s.setdefault("kl_times_ratio", True)  # TRL's default
        s.update(num_generations=4, micro_batch=4, num_iterations=2, epsilon=0.2, scale_rewards="group", temperature=1.0,
                 max_completion_length=16)
        common.update(per_device_train_batch_size=4)
        del common["train_sampling_strategy"]
        args = GRPOConfig(loss_type=s["loss_type"], beta=s["beta"], num_generations=4, num_iterations=2, epsilon=0.2,
                          scale_rewards="group", temperature=1.0, max_completion_length=16, shuffle_dataset=False,
                          use_bias_correction_kl=s["kl_times_ratio"], **common, **quiet)
        GivenCompletions.given = {words(r["prompt"]): r for r in rows}
        grpo_module.shuffle_sequence_dict = lambda batch: batch
        data = Dataset.from_list([dict(prompt=words(r["prompt"])) for r in rows])
        trainer = GivenCompletions(args=args, reward_funcs=reward, train_dataset=data, **given)
    return rows, trainer, log


def fed(inputs):
    """The sequences of a micro-batch without padding, as the model will see them."""
    if "concatenated_input_ids" in inputs:
        ids, mask = inputs["concatenated_input_ids"], inputs["concatenated_attention_mask"]
    elif "prompt_ids" in inputs:
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    elif "chosen_input_ids" in inputs:
        return [i[m == 1].tolist() for k in ("chosen", "rejected") for i, m in zip(inputs[k + "_input_ids"], inputs[k + "_attention_mask"])]
    else:
        ids, mask = inputs["input_ids"], inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
    return [i[m == 1].tolist() for i, m in zip(ids, mask)]


def meant(method, rows, settings, k):
    """What micro-batch `k` should be, in the same form."""
    batch = batch_of(method, rows, settings, k)
    if method == "grpo":
        return [r["prompt"] + c for r in batch for c in r["completions"]]
    if method == "sft":
        return [sum((r["ids"] for r in batch), [])] if settings.get("packed") else [r["ids"] for r in batch]
    if method == "kto":
        return [r["prompt"] + r["completion"] for r in batch]
    return [r["prompt"] + r[key] for key in ("chosen", "rejected") for r in batch]


def run(name, shaken=False):
    model_name, method, changes = cases()[name]
    settings = dict(BASE, **changes)
    torch.manual_seed(7)
    model = load(model_name, shaken)
    if "lora" in settings:
        model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings["lora"]))
        folder = os.path.join(HERE, "adapters", name)
        if not shaken:
            model.save_pretrained(folder)
            os.remove(os.path.join(folder, "README.md"))
            config = json.load(open(os.path.join(folder, "adapter_config.json")))
            config["base_model_name_or_path"] = f"golden/models/{model_name}"  # no folder of the machine that made it
            if isinstance(config["target_modules"], list):
                config["target_modules"].sort()
            json.dump(config, open(os.path.join(folder, "adapter_config.json"), "w"), indent=1, sort_keys=True)
        settings["adapter"] = f"golden/train/adapters/{name}"
    with tempfile.TemporaryDirectory() as folder:
        rows, trainer, log = build(name, method, settings, model, folder)
        first = first_logprobs(trainer.model, method, rows)
        watched = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
        start = {n: float(p.detach().double().abs().sum()) for n, p in watched.items()}
        decayed = set(trainer.get_decay_parameter_names(trainer.model))
        batches, items, compute = [], [], trainer.compute_loss
        definition, defined = Definition(trainer.model, method, rows, settings), []

        def compute_loss(model, inputs, *args, **kwargs):
            batches.append(fed(inputs))
            items.append(kwargs.get("num_items_in_batch"))
            defined.append(definition.loss(len(defined)))
            return compute(model, inputs, *args, **kwargs)

        trainer.remove_callback(PrinterCallback)
        trainer.compute_loss = compute_loss
        trainer.train()
    assert batches == [meant(method, rows, settings, k) for k in range(len(batches))], f"{name}: other tokens reached the model"
    seen, n_acc = log.seen, settings["accumulation"]
    assert len(seen) == STEPS and len(batches) == STEPS * n_acc
    worst = max(abs(x["loss"] - sum(defined[i * n_acc:(i + 1) * n_acc])) for i, x in enumerate(seen))
    if "router_aux_loss_coef" not in settings:  # its balance term is not written down a second time
        assert worst < 2e-5 * max(1, seen[0]["loss"]), f"{name}: the loss is defined otherwise, off by {worst}"
    end = {n: float(p.detach().double().abs().sum()) for n, p in watched.items()}
    record = dict(case=name, model=f"golden/models/{model_name}", method=method, versions=VERSIONS, settings=settings, rows=rows,
                  first_logprobs=first, lr=[x["learning_rate"] for x in seen], loss=[x["loss"] for x in seen],
                  grad_norm=[x["grad_norm"] for x in seen])
    if method == "sft":
        record["supervised_tokens"] = [int(items[k]) for k in range(0, len(items), settings["accumulation"])]
    if method == "grpo":
        record["clipped"] = [x.get("clip_ratio/region_mean") for x in seen]
    record["not_decayed"] = sorted(n for n in watched if n not in decayed)
    record["tensors"] = {n.replace(".default", ""): dict(start=start[n], end=end[n]) for n in watched}
    return record


def rounded(x):
    """Nine digits are more than f32 has."""
    if isinstance(x, float):
        return float(f"{x:.9g}")
    if isinstance(x, list):
        return [rounded(y) for y in x]
    return {k: rounded(v) for k, v in x.items()} if isinstance(x, dict) else x


def dump(record, path):
    """One line a field, one line a row."""
    lines = []
    for key, value in record.items():
        if key in ("rows", "first_logprobs"):
            text = "[\n" + ",\n".join("  " + json.dumps(rounded(v), separators=(",", ":")) for v in value) + "\n ]"
        elif key == "tensors":
            text = "{\n" + ",\n".join(f"  {json.dumps(k)}:" + json.dumps(rounded(v), separators=(",", ":")) for k, v in value.items()) + "\n }"
        else:
            text = json.dumps(rounded(value), separators=(",", ":"))
        lines.append(f' "{key}":{text}')
    with open(path, "w") as f:
        f.write("{\n" + ",\n".join(lines) + "\n}\n")


def apart(a, b, steps):
    """Largest difference, relative to the larger of the number and 0.1 (a tenth of what 1e-4 absolute allows at 1e-3)."""
    return max(abs(x - y) / max(abs(x), 0.1) for x, y in list(zip(a, b))[steps])


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("cases", nargs="*")
    ap.add_argument("--shaken", action="store_true", help="once more with weights changed by 1e-7: how far apart do the runs come?")
    a = ap.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in a.cases or cases():
        record = run(name)
        loss, norm = record["loss"], record["grad_norm"]
        note = f"{name:22} loss {loss[0]:9.5f} {loss[4]:9.5f} {loss[29]:9.5f}   grad_norm {norm[0]:9.4f} {norm[4]:9.4f} {norm[29]:9.4f}"
        if a.shaken:
            other = run(name, shaken=True)
            note += "   shaken: " + " ".join(f"{apart(record[k], other[k], part):.1e}" for k in ("loss", "grad_norm")
                                               for part in (slice(0, 5), slice(5, 30)))
        else:
            dump(record, os.path.join(HERE, name + ".json"))
        print(note, flush=True)


if __name__ == "__main__":
    main()
