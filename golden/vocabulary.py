#!/usr/bin/env python3
"""Learns BPE merges with Hugging Face `tokenizers`, for `wootz-data` to learn the same.

    python vocabulary.py tokenizers/texts.json vocabulary      # needs: pip install tokenizers==0.23.3

Writes OUT_DIR/merges.json: per way of cutting, the merges in order. The texts are the few hundred strings that the tokenizers'
golden data are made of; no special token of the trainers below occurs in them.
"""
import json, sys
from pathlib import Path
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from tokenizers_made import LLAMA3, O200K, QWEN2

SPECIAL = "<|nothing|>"


def byte_level(regex):
    if regex is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def merges(texts, pre_tokenizer, size, specials, alphabet):
    tok = Tokenizer(models.BPE(unk_token=specials[0]))
    tok.pre_tokenizer = pre_tokenizer
    tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, min_frequency=2, special_tokens=specials, initial_alphabet=alphabet, show_progress=False))
    return json.loads(tok.to_str())["model"]["merges"]


def main(texts_file, out_dir):
    texts = json.loads(Path(texts_file).read_text())
    assert not any(SPECIAL in text or "<unk>" == text for text in texts)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    found = {name: merges(texts, byte_level(regex), 900, [SPECIAL], alphabet)
             for name, regex in [("gpt2", None), ("llama3", LLAMA3), ("qwen2", QWEN2), ("o200k", O200K)]}
    # Spelling of special tokens in texts is text to `tokenizers` and no text to us.
    plain = [text for text in texts if "<unk>" not in text]
    found["spaces"] = merges(plain, pre_tokenizers.Metaspace(prepend_scheme="first"), 2000, ["<unk>"], [])
    Path(out_dir).mkdir(exist_ok=True)
    Path(out_dir, "merges.json").write_text(json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
