#!/usr/bin/env python3
"""Trains small tokenizers with Hugging Face `tokenizers` and records what they make of a few hundred strings.

    python tokenizers_made.py TRAINING_TEXT OUT_DIR      # needs: pip install tokenizers==0.23.3

Writes OUT_DIR/NAME.json (the tokenizer), OUT_DIR/NAME.ids.json (its results) and OUT_DIR/texts.json (the strings, the same for
all). The results hold, per string: `ids` with special tokens, `plain` with neither added nor parsed special tokens, `text` and
`skipped` (decoded without and with skipping special tokens; null where equal to the string). Any English text of some hundred
kilobytes will do for training; a few sentences of other scripts are added here. The recorded files were made from the validation
texts of the project's corpus with seed 7.
"""
import json, random, sys
from pathlib import Path
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from random_texts import OTHER_SCRIPTS, random_text

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
SPECIALS = ["<unk>", "<s>", "</s>", "<pad>"]
ADDED = [AddedToken("<|im_start|>", special=True, normalized=False), AddedToken("<|im_end|>", special=True, normalized=False),
         AddedToken("<tool>", normalized=False), AddedToken("Ünïcode", normalized=True), AddedToken("<l>", lstrip=True, normalized=False),
         AddedToken("<r>", rstrip=True, normalized=False), AddedToken("lone", single_word=True, normalized=False),
         AddedToken("[MASK]", lstrip=True, special=True, normalized=False)]


def finish(tok, trainer, lines, added=True):
    tok.train_from_iterator(lines, trainer)
    if added:
        tok.add_tokens(ADDED)
    return tok


def byte_level(regex, lines, size, normalizer=None, prefix=False, post=None):
    tok = Tokenizer(models.BPE())
    if normalizer:
        tok.normalizer = normalizer
    if regex:
        tok.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(regex), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False)])
    else:
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tok.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    finish(tok, trainers.BpeTrainer(vocab_size=size, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False), lines)
    tok.post_processor = post or processors.ByteLevel(trim_offsets=True)
    return tok


def unigram(lines, fallback):
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if fallback else "always")
    tok.decoder = decoders.Metaspace()
    specials = SPECIALS + ([f"<0x{i:02X}>" for i in range(256)] if fallback else [])
    finish(tok, trainers.UnigramTrainer(vocab_size=1500, special_tokens=specials, unk_token="<unk>", show_progress=False), lines)
    if fallback:
        tok = Tokenizer.from_str(json.dumps(dict(json.loads(tok.to_str()), model=dict(json.loads(tok.to_str())["model"], byte_fallback=True))))
        tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tok.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B:1 </s>:1", special_tokens=[("</s>", 2)])
    return tok


def word_piece(lines):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer()
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    finish(tok, trainers.WordPieceTrainer(vocab_size=1500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False), lines)
    tok.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tok


def llama2(lines):
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    specials = SPECIALS + [f"<0x{i:02X}>" for i in range(256)]
    words = [word for line in lines for word in line.split(" ") if 0 < len(word) < 40]
    finish(tok, trainers.BpeTrainer(vocab_size=1800, special_tokens=specials, show_progress=False, limit_alphabet=120), words)
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tok


def clip(lines):
    tok = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tok.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()])
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)])
    tok.decoder = decoders.BPEDecoder()
    return finish(tok, trainers.BpeTrainer(vocab_size=700, special_tokens=SPECIALS, end_of_word_suffix="</w>", show_progress=False), lines)


def prefixed(lines):
    tok = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.UnicodeScripts(), pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("contiguous")])
    tok.decoder = decoders.WordPiece(cleanup=False)
    return finish(tok, trainers.BpeTrainer(vocab_size=700, special_tokens=SPECIALS, continuing_subword_prefix="##", show_progress=False), lines)


def word_level(lines):
    tok = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tok.normalizer = normalizers.Sequence([normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.Lowercase()])
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.CharDelimiterSplit("-"), pre_tokenizers.Split(" ", "merged_with_next"),
        pre_tokenizers.Split(Regex("[0-9]+"), "merged_with_previous"), pre_tokenizers.Split(Regex(r"\w+|\s"), "removed", invert=True), pre_tokenizers.FixedLength(6)])
    tok = finish(tok, trainers.WordLevelTrainer(vocab_size=800, special_tokens=SPECIALS, show_progress=False), lines)
    tok.decoder = decoders.CTC(pad_token="<pad>", word_delimiter_token="|", cleanup=True)
    return tok


def made(lines):
    bos = processors.TemplateProcessing(single="<|endoftext|> $A", pair="<|endoftext|> $A <|endoftext|>:1 $B:1", special_tokens=[("<|endoftext|>", 0)])
    yield "bpe-llama3", byte_level(LLAMA3, lines, 1200, post=processors.Sequence([processors.ByteLevel(), bos]))
    yield "bpe-gpt2", byte_level(None, lines, 900, prefix=True, post=processors.RobertaProcessing(("<|im_end|>", 901), ("<|endoftext|>", 0)))
    yield "bpe-qwen2", byte_level(QWEN2, lines, 700, normalizer=normalizers.NFC())
    yield "bpe-o200k", byte_level(O200K, lines, 700)
    yield "unigram", unigram(lines, False)
    yield "unigram-bytes", unigram(lines, True)
    yield "wordpiece", word_piece(lines)
    yield "bpe-llama2", llama2(lines)
    yield "bpe-clip", clip(lines)
    yield "bpe-prefix", prefixed(lines)
    yield "wordlevel", word_level(lines)


def record(tok, texts):
    rows = []
    for text in texts:
        tok.encode_special_tokens = False
        ids = tok.encode(text).ids
        decoded, skipped = tok.decode(ids, skip_special_tokens=False), tok.decode(ids)
        tok.encode_special_tokens = True
        plain = tok.encode(text, add_special_tokens=False).ids
        rows.append({"ids": ids, "plain": None if plain == ids else plain,
                     "text": None if decoded == text else decoded, "skipped": None if skipped == text else skipped})
    return rows


def main():
    lines = Path(sys.argv[1]).read_text().splitlines() + OTHER_SCRIPTS * 30
    out = Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(7)
    words = sorted(set(" ".join(lines[:2000]).split()))
    texts = [random_text(rng, words) for _ in range(110)] + OTHER_SCRIPTS
    (out / "texts.json").write_text(json.dumps(texts, ensure_ascii=True, indent=0) + "\n")
    for name, tok in made(lines):
        file = json.loads(tok.to_str())
        file["added_tokens"] = [token for token in file["added_tokens"] if not token["content"].startswith("<0x")]
        (out / f"{name}.json").write_text(json.dumps(file, ensure_ascii=False, separators=(",", ":")) + "\n")
        tok = Tokenizer.from_file(str(out / f"{name}.json"))
        rows = record(tok, texts)
        (out / f"{name}.ids.json").write_text("[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]\n")
        print(name, tok.get_vocab_size())


if __name__ == "__main__":
    main()
