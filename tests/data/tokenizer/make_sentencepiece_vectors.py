#!/usr/bin/env python3
"""Makes sentencepiece/*.model and sentencepiece/vectors.json with the reference implementation.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install sentencepiece==0.2.3
    /tmp/venv/bin/python tests/data/tokenizer/make_sentencepiece_vectors.py

The models are trained on TRAINING, so small that the files stay small. Their normalization rules are a few of NFKC and some of
our own, because the whole table of nmt_nfkc is a quarter of a megabyte."""
import io
import json
import pathlib
import random
import tempfile
import unicodedata

import sentencepiece

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "sentencepiece"

TRAINING = [
    "The quick brown fox jumps over the lazy dog.", "A mill grinds what the water brings, and the race brings the water.",
    "for (int i = 0; i < count; i++) total += values[i];", "def tokenize(text):  return text.split()",
    "Il était une fois un meunier qui avait trois fils.", "Über die Brücke gehen fünf müde Esel.",
    "Мельница мелет зерно, вода течёт под колесом.", "水車は川の水で回る。", "the water, the wheel, the stone and the flour",
    "one two three four five six seven eight nine ten 1 2 3 10 20 300 2024", "    indented    text\twith\ttabs",
    "flour floured flouring mill milled milling mills water watered watering", "ﬁne ﬂour, Ａ ｆｕｌｌ ｗｉｄｔｈ line, ½ of it",
] * 4

TEXTS = [
    "a", " ", "  ", "\n", "\t", "Hello, world!", " leading", "trailing ", "  two  spaces  inside  ", "the water mill",
    "The quick brown fox", "line one\nline two\r\nline three", "tabs\there", "ünïcödé", "e\u0301 and \u00e9", "日本語の水車",
    "Мельница", "emoji 🙂 and 👨‍👩‍👧", "\u200bzero width", "ﬁne ﬂour ½", "Ａｌｌ ｗｉｄｅ", "a\u00a0b\u3000c",
    "<mask> and<mask>more <sep>", "<s>not control</s>", "▁literal▁metaspace", "\ufffd", "\ue000 private", "x" * 200,
    " " * 70, "milling" * 30, "0123456789", "<0x41>", "a<unk>b", "٣٤٥ 🄰 ①②③", "\u0001 control \u007f", "the  the   the",
    "Aſ ẞ İ", "각 각", "क्षि", "naïve café", "for (int i = 0; i < 10; i++) { sum += i; }", "ZZZZ qqqq", "\n\n\n", "a\n\nb",
    "foo<mask>", "水水水 water水", "\U0010fffd",
]


def random_text(rng):
    pools = ["the mill water wheel flour ", "aeiou xyz 0123", "äöüßé ", "水車は川の", "Мельница ", "  \t\n", "<mask>▁", "ﬁ½Ａ①🙂",
             "".join(chr(rng.randrange(32, 0x2FFF)) for _ in range(20))]
    return "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(1, 60)))


def rules():
    """The rules that matter for the texts: NFKC of some blocks, and some that are longer, empty or make spaces."""
    lines = {}
    blocks = [(0xA0, 0xBF), (0xFB00, 0xFB07), (0xFF01, 0xFF5F), (0x2460, 0x2474), (0x3000, 0x3001), (0x1F130, 0x1F132)]
    for first, last in blocks:
        for code in range(first, last):
            normal = unicodedata.normalize("NFKC", chr(code))
            if normal != chr(code):
                lines[chr(code)] = normal
    for base in "aeiouAEIOU":
        for mark in "\u0300\u0301\u0302\u0308":
            lines[base + mark] = unicodedata.normalize("NFKC", base + mark)
    lines.update({"\t": " ", "\n": " ", "\r": " ", "\u200b": "", "\u0001": "", "\u007f": "", "ſ": "s", "\u1100\u1161\u11a8": "각"})
    return "".join(" ".join(f"{ord(c):X}" for c in key) + "\t" + " ".join(f"{ord(c):X}" for c in value) + "\n"
                   for key, value in sorted(lines.items()))


def train(name, **options):
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as table:
        table.write(rules())
        table.flush()
        if options.pop("with_rules", False):
            options["normalization_rule_tsv"] = table.name
        else:
            options.setdefault("normalization_rule_name", "identity")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TRAINING), model_writer=model, hard_vocab_limit=False, minloglevel=2,
            num_threads=1, **options)
    (OUT / f"{name}.model").write_bytes(model.getvalue())


MODELS = {
    "bpe-llama": dict(model_type="bpe", vocab_size=520, byte_fallback=True, remove_extra_whitespaces=False,
                      allow_whitespace_only_pieces=True, split_digits=True),
    "bpe-rules": dict(model_type="bpe", vocab_size=260, with_rules=True, user_defined_symbols=["<mask>", "mill"],
                      control_symbols=["<sep>"]),
    "bpe-gemma": dict(model_type="bpe", vocab_size=600, byte_fallback=True, remove_extra_whitespaces=False,
                      add_dummy_prefix=False, user_defined_symbols=["▁▁", "▁▁▁▁", "\n\n", "<mask>"],
                      allow_whitespace_only_pieces=True, character_coverage=0.98),
    "bpe-words": dict(model_type="bpe", vocab_size=300, split_by_whitespace=False),
    "unigram-rules": dict(model_type="unigram", vocab_size=200, with_rules=True),
    "unigram-bytes": dict(model_type="unigram", vocab_size=480, byte_fallback=True, remove_extra_whitespaces=False,
                          user_defined_symbols=["<mask>", "water"], control_symbols=["<sep>"], character_coverage=0.98),
    "unigram-suffix": dict(model_type="unigram", vocab_size=200, treat_whitespace_as_suffix=True, with_rules=True),
    "unigram-plain": dict(model_type="unigram", vocab_size=200, add_dummy_prefix=False),
}


def main():
    OUT.mkdir(exist_ok=True)
    rng = random.Random(7)
    texts = TEXTS + [random_text(rng) for _ in range(80)]
    result = {"texts": texts, "models": []}
    for name, options in MODELS.items():
        train(name, **dict(options))
        processor = sentencepiece.SentencePieceProcessor(model_file=str(OUT / f"{name}.model"))
        cases = [{"ids": (ids := processor.encode(text)), "decoded": processor.decode(ids)} for text in texts]
        sequences = []
        usable = [i for i in range(processor.vocab_size()) if not processor.is_control(i)]
        for _ in range(60):
            ids = [rng.choice(usable) for _ in range(rng.randrange(1, 9))]
            sequences.append({"ids": ids, "decoded": processor.decode(ids)})
        result["models"].append({"name": name, "pieces": processor.vocab_size(), "cases": cases, "sequences": sequences})
    (OUT / "vectors.json").write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
