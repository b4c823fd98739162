#!/usr/bin/env python3
"""Writes GGUF files with llama.cpp's own converter, for folders without a tokenizer too.

    python llama_cpp_convert.py LLAMA_CPP_SOURCE OUT_DIR FOLDER ... [--types f16,f32]   # needs: pip install torch transformers

Writes OUT_DIR/NAME.TYPE.gguf for each folder and type, and says of each that could not be written why.

LLAMA_CPP_SOURCE is a checkout (or an unpacked source package) of llama.cpp with its `conversion` package. Everything is its
converter's but what it would stop at: a folder without `tokenizer.json` gets the vocabulary `no_vocab`; a byte-level
vocabulary that it does not know by its hash gets the pre-tokenizer of `--pre`; and keys that transformers 5 no longer writes
are put back as earlier releases wrote them.
"""
import argparse, json, logging, os, sys, tempfile
from pathlib import Path


def older_config(config):
    """The configuration with the keys that the converter looks for and transformers 5 has renamed or dropped."""
    kind = config["model_type"]
    rope = config.get("rope_parameters") or {}
    if kind == "gpt2":
        config.setdefault("n_ctx", config["n_positions"])
    if kind == "bloom":
        config.setdefault("seq_length", 2048)
    if kind == "modernbert":
        config.setdefault("layer_norm_eps", config["norm_eps"])
    if kind == "gpt_neox":
        config.setdefault("rotary_pct", rope.get("partial_rotary_factor", 0.25))
    if kind == "falcon" and config["multi_query"] and not config["new_decoder_architecture"]:
        config["num_kv_heads"] = 1
    if kind == "deepseek_v3":
        config.setdefault("scoring_func", "sigmoid")
    return config


def with_own_width(cls):
    """Phi's converter writes four times the model's width for the feed-forward part's, whatever the configuration says."""
    def set_gguf_parameters(model):
        cls.set_gguf_parameters(model)
        width = model.hparams.get("intermediate_size")
        if width and model.hparams["model_type"] == "phi":
            model.gguf_writer.kv_data[0].pop(f"{model.gguf_writer.arch}.feed_forward_length")
            model.gguf_writer.add_feed_forward_length(width)
    return set_gguf_parameters


def prepared(folder, temporary):
    """The folder, for Gemma 3, whose converter counts the entries of a vocabulary, with one."""
    if not has_tokenizer(folder):
        config = json.loads((folder / "config.json").read_text())
        for file in folder.iterdir():
            os.symlink(file.resolve(), temporary / file.name)
        vocab = {str(i): i for i in range(config["vocab_size"])}
        (temporary / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}, "added_tokens": []}))
        return temporary
    return folder


def no_vocab(model):
    model.gguf_writer.add_tokenizer_model("no_vocab")
    model.gguf_writer.add_vocab_size(model.hparams["vocab_size"])
    # What the converters of encoders write beside the vocabulary.
    if types := model.hparams.get("type_vocab_size"):
        model.gguf_writer.add_token_type_count(types)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--types", default="f16")
    parser.add_argument("--pre", default="smaug-bpe", help="llama.cpp's name of a byte-level pre-tokenizer")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    sys.path[:0] = [str(args.source / "gguf-py"), str(args.source)]
    args.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for folder in args.folders:
        for ty in args.types.split(","):
            try:
                with tempfile.TemporaryDirectory() as temporary:
                    source = prepared(folder, Path(temporary))
                    convert(source, ty, args.out / f"{folder.name}.{ty}.gguf", not has_tokenizer(folder), args.pre)
            except Exception as error:  # one architecture that it does not know must not stop the others
                failed = True
                print(f"{folder.name} as {ty}: {type(error).__name__}: {error}")
    sys.exit(failed)


def has_tokenizer(folder):
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))


def convert(folder, ty, out, without_vocab, pre):
    import gguf, torch
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class
    hparams = older_config(ModelBase.load_hparams(folder, False))
    cls = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
    changed = {"set_vocab": no_vocab} if without_vocab else {"get_vocab_base_pre": lambda model, tokenizer: pre}
    cls = type(cls.__name__, (cls,), {"model_arch": cls.model_arch, "set_gguf_parameters": with_own_width(cls), **changed})
    types = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16"}
    with torch.inference_mode():
        cls(folder, getattr(gguf.LlamaFileType, types[ty]), out, hparams=hparams).write()


if __name__ == "__main__":
    main()
