#!/usr/bin/env python3
"""Makes cut_vectors.json with the reference library.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.3
    /tmp/venv/bin/python tests/data/tokenizer/make_cut_vectors.py

Where the patterns of the models that tokenizer.ggml.pre names cut texts. The patterns are those of the models' own files, where
the engine has written them in another way (classes without some members, groups of digits) or matches them by hand."""
import json
import pathlib
import random

from tokenizers import Regex, pre_tokenizers

import make_sentencepiece_vectors as sentences

HERE = pathlib.Path(__file__).resolve().parent
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
QWEN35 = QWEN2.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"


def cased(upper, lower, contraction, rest):
    return rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{contraction}|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{contraction}|{rest}|\s*[\r\n]+|\s+(?!\S)|\s+"


O200K = cased(f"[{UPPER}]", f"[{LOWER}]", CONTRACTIONS + "?", r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*")
TEKKEN = cased(f"[{UPPER}]", f"[{LOWER}]", "", r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*")
KIMI = r"[\p{Han}]+|" + cased(rf"[{UPPER}&&[^\p{{Han}}]]", rf"[{LOWER}&&[^\p{{Han}}]]", CONTRACTIONS + "?", r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*")
DEEPSEEK = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
CUTS = {
    "gpt-2": [GPT2], "qwen2": [QWEN2], "llama-bpe": [LLAMA3], "qwen35": [QWEN35], "gpt-4o": [O200K], "tekken": [TEKKEN],
    "kimi-k2": [KIMI], "starcoder": [r"\p{N}", GPT2],
    "deepseek-v3": [r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK],
    "tiny_aya": [r"\d{1,3}(?=(?:\d{3})*\b)", O200K],
    "superbpe": [r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
    "bailingmoe": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"],
    "seed-coder": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "exaone-moe": [CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"],
    "bloom": [BLOOM], "viking": [BLOOM, r"\p{N}"],
}
TEXTS = [t for t in sentences.TEXTS if len(t) < 100] + [
    "1234567 12a 1 12 123 1234.5678", "٣٤٥٦ 12½3", "HTTPServer's helloWorld's I'LL", "中文abc中文 日本語カタカナ漢字", "ab cd ef  gh\u0301 i",
    "(a|b) [c], d! e… f。g", "x = 'it''s' ++ y\n\n\n  z//\n", "a\r\n\r\n b \t\n c",
]


def main():
    rng = random.Random(3)
    pools = ["abXY ", "12345 ", " \n\t\r", "'sSlLdD", ".,!?()/-", "中文漢カな", "é\u0301क्षि", "½٣Ⅷ"]
    texts = TEXTS + ["".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(2, 40))) for _ in range(60)]
    result = {"texts": texts, "cuts": {}}
    for name, patterns in CUTS.items():
        cutter = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns])
        result["cuts"][name] = [[len(text[a:b].encode()) for _, (a, b) in cutter.pre_tokenize_str(text)] for text in texts]
    (HERE / "cut_vectors.json").write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
