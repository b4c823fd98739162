#!/usr/bin/env python3
"""Trains two small SentencePiece models and records what SentencePiece makes of the strings in `golden/tokenizers/texts.json`.

    python sentencepiece_made.py TRAINING_TEXT OUT_DIR      # needs: pip install sentencepiece==0.2.3

Writes OUT_DIR/sp-NAME.model and OUT_DIR/sp-NAME.ids.json: per string its `ids` and their `text`; null where SentencePiece ends a
string at a NUL. The recorded files were made from the validation texts of the project's corpus.
"""
import json, sys
from pathlib import Path
import sentencepiece as spm
from random_texts import OTHER_SCRIPTS

KINDS = {
    "bpe": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", user_defined_symbols=["<tool>", "▁▁▁", "\n"], remove_extra_whitespaces=False),
    "unigram": dict(model_type="unigram", user_defined_symbols=["<tool>", "Ünïcode"], normalization_rule_tsv="rules.tsv"),
}
# A few of NFKC's rules: the whole table has 240 KB.
RULES = [("FB01", "66 69"), ("2460", "31"), ("FF21", "41"), ("65 301", "E9"), ("A0", "20"), ("9", "20"), ("200B", ""), ("FDFA", "635 644 649")]


def main():
    lines = Path(sys.argv[1]).read_text().splitlines() + OTHER_SCRIPTS * 30
    out = Path(sys.argv[2])
    texts = json.loads((out / "texts.json").read_text())
    Path("rules.tsv").write_text("".join(f"{left}\t{right}\n" for left, right in RULES))
    for name, options in KINDS.items():
        prefix = str(out / f"sp-{name}")
        spm.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_prefix=prefix, vocab_size=700, minloglevel=2, character_coverage=0.99, self_test_sample_size=0, **options)
        Path(prefix + ".vocab").unlink()
        model = spm.SentencePieceProcessor(model_file=prefix + ".model")
        rows = [None if "\0" in text or "\ufffd" in text else {"ids": model.encode(text), "text": model.decode(model.encode(text))} for text in texts]
        Path(prefix + ".ids.json").write_text("[" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "]\n")
        print(name, len(rows), sum(row is None for row in rows))
    Path("rules.tsv").unlink()


if __name__ == "__main__":
    main()
