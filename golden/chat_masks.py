#!/usr/bin/env python3
"""Which tokens of a conversation an assistant says, by `transformers`' own `{% generation %}` masks.

    python chat_masks.py tokenizers chat_masks.json      # needs: pip install transformers==5.23.0 jinja2

Writes, per tokenizer, rows of messages with their token ids and masks. The template is ChatML, whose turns end with <|im_end|>;
the mask covers what the assistant says and that token. `wootz-data` must find the same without the marks.
Answers that begin with a space are left out: tokenizers that trim offsets then find no token at the answer's first character,
and transformers leaves that answer, and all that follow in the row, unsupervised without a word.
"""
import json, random, sys
from pathlib import Path
from transformers import PreTrainedTokenizerFast

MARKED = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}"
          "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}"
          "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool>", "<l>", "<r>", "lone", "[MASK]", "<s>", "</s>", "<unk>", "<pad>", "nïcode", "[CLS]", "[UNK]", "[PAD]", "[SEP]", "yesterday"]


def main(folder, out):
    rng = random.Random(3)
    texts = [text for text in json.loads(Path(folder, "texts.json").read_text()) if 0 < len(text) < 120 and not text[0].isspace() and not any(token in text for token in SPECIAL)]
    found = {}
    for name in ["bpe-qwen2", "bpe-llama3", "bpe-o200k"]:
        tok = PreTrainedTokenizerFast(tokenizer_file=str(Path(folder, name + ".json")), eos_token="<|im_end|>")
        tok.chat_template = MARKED
        rows = []
        for _ in range(40):
            messages = [{"role": "system", "content": rng.choice(texts)}] if rng.random() < 0.3 else []
            for _ in range(rng.randrange(1, 4)):
                messages += [{"role": "user", "content": rng.choice(texts)}, {"role": "assistant", "content": rng.choice(texts)}]
            coded = tok.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
            rows.append({"messages": messages, "ids": coded["input_ids"], "mask": coded["assistant_masks"]})
        found[name] = rows
    Path(out).write_text(json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
