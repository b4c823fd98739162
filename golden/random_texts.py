"""Random strings that tokenizers tend to disagree about. Used by `tokenizers_made.py` and `check_tokenizers.py`."""

OTHER_SCRIPTS = [
    "Zażółć gęślą jaźń; příliš žluťoučký kůň úpěl ďábelské ódy.", "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.", "いろはにほへと ちりぬるを、わかよたれそつねならむ。カタカナー！", "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。",
    "키스의 고유조건은 입술끼리 만나야 하고.", "نص حكيم له سر قاطع وذو شأن عظيم", "דג סקרן שט בים מאוכזב", "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า", "Falsches Üben von Xylophonmusik quält jeden größeren Zwerg.", "Việt Nam: Do bạch kim rất quý.",
    "x = [i ** 2 for i in range(10)]\n\tif x:\n\t\tprint(f\"{x!r}\")\r\n", "1234567890 3.14159 1,000,000 ½ ² ③ Ⅻ ٣٤", "I'm you're he'll WE'VE it's don'T O'Neill",
    "https://example.org/a?b=c&d=%20#e mail@example.org", "👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 🇩🇪 👍🏽 ❤\ufe0f ☕\ufe0f", "ﬁ ﬂ ① Ａｂｃ ｶﾞ ㌔ ™ … “quotes” «guillemets»",
]
RANGES = [(0x20, 0x7e), (0x20, 0x7e), (0xa0, 0x17f), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x4ff), (0x590, 0x5ff), (0x600, 0x6ff), (0x900, 0x97f),
          (0xe00, 0xe7f), (0x1100, 0x11ff), (0x1e00, 0x1eff), (0x2000, 0x206f), (0x2070, 0x20bf), (0x2100, 0x214f), (0x2190, 0x21ff), (0x2500, 0x25ff),
          (0x3000, 0x30ff), (0x4e00, 0x9fa5), (0xac00, 0xd7a3), (0xe000, 0xe010), (0xfb00, 0xfb4f), (0xff00, 0xffef), (0x10330, 0x1034a), (0x1d400, 0x1d454),
          (0x1f300, 0x1f5ff), (0x1f600, 0x1f64f), (0x20000, 0x2a6d6)]
ODD = ["\u200d", "\u200b", "\ufeff", "\u00a0", "\u3000", "\u0301", "\u0323\u0307", "\u0345", "\u1e9e", "ß", "İ", "ı", "ς", "Σ", "Ǆ", "ǅ", "\ufffd", "\x00", "\x07", "\x1b", "\x7f", "\x85",
       "\u2028", "\u2029", "\u115f\u1161", "각", "\u1100\u1161\u11a8", "e\u0301", "é", "n\u0303", "\u0f71\u0f72", "▁", "▁▁", "Ġ", "Ċ", "<0x41>", "##", "</w>", "|", "-"]
SPELLED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool>", "<l>", " <l> ", "<r>", "  <r>  ", "lone", " lone ", "xlone", "[MASK]", " [MASK]  ", "[CLS]", "[UNK]", "[PAD]",
           "<s>", "</s>", "<unk>", "<pad>", "Ünïcode", "ünïcode", "U\u0308nïcode", "<|im_", "im_end|>", "<<s>>"]


def broken(rng):
    """What becomes of broken UTF-8: surrogate escapes are no text, so the bytes are read as Latin-1 or replaced."""
    data = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 12)))
    return data.decode("latin-1") if rng.random() < 0.5 else data.decode("utf-8", "replace")


def random_text(rng, words):
    """A string of some random parts; `words` are ordinary words."""
    parts = []
    for _ in range(rng.randrange(1, 9)):
        kind = rng.random()
        if kind < 0.25:
            parts.append(" ".join(rng.choice(words) for _ in range(rng.randrange(1, 9))))
        elif kind < 0.40:
            low, high = rng.choice(RANGES)
            parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randrange(1, 14))))
        elif kind < 0.50:
            sentence = rng.choice(OTHER_SCRIPTS)
            start = rng.randrange(len(sentence))
            parts.append(sentence[start:start + rng.randrange(1, 20)])
        elif kind < 0.62:
            parts.append(rng.choice([" ", "\n", "\t", "\r\n", " \n", "\u00a0", "  \t "]) * rng.choice([1, 1, 2, 3, 5, 8, 17, 40]))
        elif kind < 0.74:
            parts.append(rng.choice(SPELLED))
        elif kind < 0.86:
            parts.append("".join(rng.choice(ODD) for _ in range(rng.randrange(1, 4))))
        elif kind < 0.92:
            parts.append(broken(rng))
        elif kind < 0.96:
            parts.append(rng.choice("0123456789,.'\"!?-_/\\#*=+abcXYZ") * rng.choice([1, 2, 3, 4, 7, 30]))
        else:
            parts.append(rng.choice(words) + rng.choice(["'s", "'LL", "'t", "'ve ", "'", "'d", "'M", "'re"]))
        if rng.random() < 0.3:
            parts.append(" ")
    return "".join(parts)
