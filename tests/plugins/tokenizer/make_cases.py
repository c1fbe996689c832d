"""Makes the cases in cases/, with Hugging Face's library: python make_cases.py TANDEM [STRINGS]

TANDEM is the command. It needs tokenizers and sentencepiece (these cases: 0.23.3 and 0.2.3), which the tests do not.

  strings.json    texts, ordinary and odd; with STRINGS, so many random ones more
  mapped.json     1000 texts for `charsmap`
  NAME.json       a tokenizer.json: made by the library, or of
  NAME.model      a SentencePiece model, by `tandem convert`
  NAME.ids.json   for each text the ids that the library makes: "plain" if special tokens are text, "parsed" if they
                  are found, only where that differs; and "text", what "plain" is decoded to, only where that differs
                  (null: it is not to be compared)
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases")
CORPUS = os.path.join(os.path.dirname(HERE), "..", "..", "..", "data", "corpus")

TEXTS = [
    "The ferry from the island leaves at 7:45, doesn't it?",
    "  two  spaces, and at the end  ",
    "\n\n\tx = f(a, b)\r\n    return x\n",
    "naïve café, Straße, ĲSSEL, İstanbul, ŒUVRE",
    "e\u0301 a\u0308\u0323 \u1e9b\u0323 ﬁ ½ ２ ㎏",
    "数学は楽しい。한국어도! Привет, мир. مرحبا",
    "😀👩\u200d👩\u200d👧 \U0001f1e9\U0001f1ea ✓ →→ ← →",
    "12 345.67 1e-9 ٣٤ Ⅷ x² 1234567890",
    "<s></s><pad><unk> <tool> a<tool>b <tool><tool>",
    "<0x41><0xE2> <0x0A> <0x4",
    "<extra_id_0> [R] <|end|> <|endx",
    "I'll WE'VE it's 'TIS don't",
    "\u2581\u2581a \u2581 b",
    "a\u00a0b\u2003c\u3000d\u180ee\u200bf\u2028g\x85h",
    "aaaaaaa",
    "zero\x00byte \x01\x7f\x1b[0m",
    " ",
    "",
    "ſtraſſe ΑΣ ΑΣΑ K",
]


def random_text(r):
    kinds = [
        lambda: r.choice("abcdefghij   \n\t.,<>[]/_'0123456789ABC"),
        lambda: r.choice(["the", " of", " the", "ing", "tion", "<tool>", "</s>", "<0x41>", "<s>", "'ll", "  "]),
        lambda: chr(r.choice([r.randrange(0x80, 0x800), r.randrange(0x800, 0xD800), r.randrange(0x10000, 0x10FFFF)])),
        lambda: r.choice("éàüßñ中国日本한국→✓€\u0301\u0308\u2581"),
    ]
    return "".join(r.choices(kinds, [8, 4, 1, 2])[0]() for _ in range(r.randrange(1, 60)))


def lines():
    for name in sorted(os.listdir(CORPUS)):
        if name.endswith(".valid.jsonl"):
            with open(os.path.join(CORPUS, name)) as f:
                yield from (json.loads(line)["text"] for line in f)
    yield from (t.replace("\0", "") for t in TEXTS * 5)


def train(tokenizer, trainer):
    tokenizer.train_from_iterator(lines(), trainer)
    return tokenizer


def gpt():
    """Bytes of words, a normalizer, and tokens that were added later."""
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    train(t, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, special_tokens=["<s>", "</s>", "<pad>"]))
    t.add_special_tokens(["<|end|>"])
    t.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("café", normalized=True)])
    return t


def words():
    """Patterns of newer models, words that are tokens, and digits in threes."""
    t = Tokenizer(models.BPE(ignore_merges=True))
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return train(t, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["</s>"]))


def llama():
    """The whole text as one word, with bytes for what is no token."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    splitter = t.pre_tokenizer
    t.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    train(t, trainers.BpeTrainer(vocab_size=480, limit_alphabet=90, special_tokens=special))
    j = json.loads(t.to_str())
    j["pre_tokenizer"] = None
    j["added_tokens"] = j["added_tokens"][:3]
    return Tokenizer.from_str(json.dumps(j))


def unigram(scheme, byte_fallback):
    def make():
        t = Tokenizer(models.Unigram())
        t.normalizer = normalizers.NFKC()
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        t.decoder = decoders.Metaspace(prepend_scheme=scheme)
        bytes_ = [f"<0x{b:02X}>" for b in range(256)] if byte_fallback else []
        special = ["<pad>", "</s>", "<unk>"] + bytes_
        train(t, trainers.UnigramTrainer(vocab_size=150 + len(special), special_tokens=special, unk_token="<unk>"))
        j = json.loads(t.to_str())
        j["added_tokens"] = j["added_tokens"][:3]
        j["model"]["byte_fallback"] = byte_fallback
        if byte_fallback:
            j["decoder"] = {
                "type": "Sequence",
                "decoders": [{"type": "ByteFallback"}, j["decoder"]],
            }
        return Tokenizer.from_str(json.dumps(j))

    return make


def odd():
    """The other steps."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False))
    t.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[\p{Mn}\x7f]+"), "")]
    )
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split("t", "merged_with_previous"),
            pre_tokenizers.Split(Regex(r"\p{L}+"), "contiguous", invert=True),
            pre_tokenizers.Split("a", "removed"),
            pre_tokenizers.Metaspace(prepend_scheme="first"),
        ]
    )
    t.decoder = decoders.Metaspace(prepend_scheme="first")
    train(t, trainers.BpeTrainer(vocab_size=200, limit_alphabet=60, special_tokens=["<unk>", "</s>"]))
    t.add_tokens([AddedToken("CAFÉ", normalized=True)])
    return t


# Characters that SentencePiece replaces: of several, by several, by none; a beginning of others; in others' middle.
RULES = [
    ("ﬁ", "fi"), ("½", "1\u20442"), ("e\u0301", "é"), ("a\u0308", "ä"), ("a\u0308\u0323", "ạ\u0308"), ("\u200b", ""),
    ("\t", " "), ("\n", " "), ("\r", " "), ("\u3000", " "), ("\u00a0", " "), ("２", "2"), ("㎏", "kg"), ("o", "0"),
    ("E", "e"), ("\u0327", ""), ("ſ", "s"), ("İ", "i\u0307"), ("…", "..."), ("한", "\u1112\u1161\u11ab"), ("😀", ":)"),
    ("\U0001f1e9", "D"), ("\u0600", "#"), ("क", "k"), ("ü", "u\u0308"), ("\x7f", ""),
]  # fmt: skip


def field(message, wanted):
    """The bytes of a field of a protocol buffer."""

    def number(at):
        value = shift = 0
        while True:
            value |= (message[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if message[at - 1] < 128:
                return value, at

    at = 0
    while at < len(message):
        tag, at = number(at)
        size, at = {0: lambda: (0, number(at)[1]), 1: lambda: (8, at), 2: lambda: number(at), 5: lambda: (4, at)}[tag & 7]()
        if tag >> 3 == wanted:
            return message[at : at + size]
        at += size
    raise KeyError(wanted)


def table(**how):
    """A table of characters as SentencePiece compiles it: of a model's normalizer."""
    with tempfile.TemporaryDirectory() as scratch:
        model = os.path.join(scratch, "a")
        texts = (line for line in lines() if line.strip())
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=texts, model_prefix=model, vocab_size=200, hard_vocab_limit=False, minloglevel=2, **how
        )
        with open(model + ".model", "rb") as f:
            return field(field(f.read(), 3), 2)


def rules():
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as f:
        for source, target in RULES:
            f.write("\t".join(" ".join(f"{ord(c):X}" for c in text) for text in (source, target)) + "\n")
        f.flush()
        return table(normalization_rule_tsv=f.name)


def charsmap(make=rules):
    """As T5's, with the table of a SentencePiece model."""
    t = unigram("always", False)()
    t.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(make()), normalizers.Strip(left=False), normalizers.Replace(Regex(" {2,}"), "▁")]
    )
    return t


def mapped_text(r):
    """Much of what the table has, in clusters."""
    marks = ["\u0301", "\u0308", "\u0323", "\u0327", "\u200d", "\ufe0f", "\u0903", "\u094d"]
    kinds = [
        lambda: r.choice("aeoEABc \t\n\r\x7f\0 "),
        lambda: r.choice(RULES)[r.randrange(2)],
        lambda: r.choice("aeouEé한क😀\u0600") + "".join(r.choices(marks, k=r.randrange(4))),
        lambda: r.choice(RULES)[0][:1],
        lambda: chr(r.choice([r.randrange(0x80, 0x800), r.randrange(0x800, 0xD800), r.randrange(0x10000, 0x10FFFF)])),
    ]
    return "".join(r.choices(kinds, [4, 3, 3, 1, 1])[0]() for _ in range(r.randrange(1, 12)))


MADE = {
    "charsmap": charsmap,
    "gpt": gpt,
    "words": words,
    "llama": llama,
    "unigram": unigram("always", False),
    "unigram-bytes": unigram("never", True),
    "odd": odd,
}

# Options of `tandem data train-tokenizer`, or of SentencePiece's own trainer.
MODELS = {
    "pieces-unigram": ["tokenizer.type=unigram"],
    "pieces-bpe": ["tokenizer.type=bpe", 'tokenizer.symbols=["<tool>", "→→"]'],
    "pieces-symbols": ["tokenizer.type=unigram", 'tokenizer.symbols=["<tool>"]'],
    "pieces-prefix": dict(model_type="bpe", vocab_size=420, byte_fallback=True, add_dummy_prefix=True),
}


def train_model(tandem, name, how, scratch):
    text = os.path.join(scratch, "text.txt")
    with open(text, "w") as f:
        f.writelines(" ".join(line.split()) + "\n" for line in lines())
    out = os.path.join(HERE, f"{name}.model")
    if isinstance(how, dict):
        sentencepiece.SentencePieceTrainer.train(
            input=text, model_prefix=out[:-6], normalization_rule_name="identity", remove_extra_whitespaces=False, **how
        )
        os.remove(out[:-6] + ".vocab")
        return
    config = os.path.join(scratch, "train.cfg")
    with open(config, "w") as f:
        f.write('tokenizer = { plugin = "sentencepiece"; };\n')
        f.write(f'data = {{ plugin = "text"; sources = ( {{ name = "a"; files = ( "{text}" ); }} ); }};\n')
    subprocess.run([tandem, "data", "train-tokenizer", "-c", config, "--vocab-size", "420", "--out", out, *how], check=True)


def convert(tandem, name, scratch):
    """A model of any kind, for its tokenizer."""
    config = os.path.join(scratch, f"{name}.cfg")
    out = os.path.join(scratch, name)
    weights = os.path.join(scratch, "run")
    with open(config, "w") as f:
        f.write('extends = "quickstart/decllm.cfg";\n')
        f.write(f'tokenizer = {{ plugin = "sentencepiece"; model = "{HERE}/{name}.model"; }};\n')
        f.write("model = { d_model = 8; layers = 1; vocab_size = 500; attention = { heads = 1; head_dim = 8; };\n")
        f.write("  ffn = { d_ff = 8; }; };\ntrain = { steps = 1; length = 16; batch = 1; micro_batch = 1; };\n")
        f.write(f'run = {{ dir = "{scratch}"; name = "run-{name}"; }};\n')
    subprocess.run([tandem, "train", "-c", config], check=True)
    subprocess.run([tandem, "convert", os.path.join(scratch, f"run-{name}"), out, "--to", "huggingface"], check=True)
    return os.path.join(out, "tokenizer.json")


def ids_of(tokenizer, text, plain):
    tokenizer.encode_special_tokens = plain
    return tokenizer.encode(text, add_special_tokens=False).ids


def entry(tokenizer, text):
    plain = ids_of(tokenizer, text, True)
    out = {"plain": plain}
    parsed = ids_of(tokenizer, text, False)
    if parsed != plain:
        out["parsed"] = parsed
    back = tokenizer.decode(plain, skip_special_tokens=True)
    if "caf" in text:  # the library decodes a normalized token as what it was normalized to
        out["text"] = None
    elif back != text:
        out["text"] = back
    return out


def main():
    tandem = os.path.abspath(sys.argv[1])
    r = random.Random(1)
    texts = TEXTS + [random_text(r) for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 40)]
    shutil.rmtree(HERE, ignore_errors=True)
    os.makedirs(HERE)
    with tempfile.TemporaryDirectory() as scratch:
        for name, make in MADE.items():
            make().save(os.path.join(HERE, f"{name}.json"))
        for name, how in MODELS.items():
            train_model(tandem, name, how, scratch)
            shutil.copy(convert(tandem, name, scratch), os.path.join(HERE, f"{name}.json"))
    mapped = [mapped_text(r) for _ in range(1000)]
    for file, list_ in (("strings", texts), ("mapped", mapped)):
        with open(os.path.join(HERE, f"{file}.json"), "w") as f:
            json.dump(list_, f, indent=0)
            f.write("\n")
    for name in list(MADE) + list(MODELS):
        tokenizer = Tokenizer.from_file(os.path.join(HERE, f"{name}.json"))
        own = mapped if name == "charsmap" else texts
        with open(os.path.join(HERE, f"{name}.ids.json"), "w") as f:
            f.write("[\n" + ",\n".join(json.dumps(entry(tokenizer, t)) for t in own) + "\n]\n")


main()
