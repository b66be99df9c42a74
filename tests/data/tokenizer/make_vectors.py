"""Makes feature_vectors.json and regex_vectors.json with the reference library (pip install tokenizers==0.23.*).

Usage: make_vectors.py CORPUS.txt OUTPUT_FOLDER. The corpus only trains the two small vocabularies.
"""
import json
import random
import sys

import tokenizers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

corpus, folder = open(sys.argv[1]).read()[:300_000], sys.argv[2]
corpus += "é ü ñ café naïve 中文 日本語 Привет мир ¿que? don't I'll we've 123 456 7890 " * 40
random.seed(20240607)

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
DEEPSEEK = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

ALPHABET = list("abcxyzABCXYZ019 '.,!?-_/\\\"<>|[](){}\n\r\t") + list("  \n") + [
    "é", "e\u0301", "ß", "İ", "Σ", "ς", "ſ", "\u212a", "ﬁ", "ﬀ", "Å", "\u212b", "中", "文", "ひ", "カ", "한", "\u1112\u1161\u11ab",
    "я", "Ж", "ا", "ह", "\u093f", "\u0300", "\u0323", "\u0f73", "\u0344", "½", "²", "Ⅷ", "٣", "①", "😀", "👩‍👩‍👧", "🇫🇷",
    "\u00a0", "\u0085", "\u180e", "\u200b", "\u200d", "\ufeff", "\u2028", "\u3000", "\u000b", "\u000c", "\x00", "\x7f", "\u00ad",
    "\U00031350", "\U0002ebf0", "\U00010d50", "\U00010d40", "\U00016d40", "\u1c8a", "\ua7da", "\u0897", "\U0001cc00", "\ufdd0", "\U0010ffff",
    "'s", "'LL", "'ſ", "'t", " the", "ing", "123", "<s>", "</s>", "<tool>", "word", "Day", " day ", "[X]", "  "]
TEXTS = ["", " ", "a", "hello world", "Hello, World!  It's   fine.\n\n  def f(x):\n\treturn x+1\n", "don't DON'T I'LL we've",
         "1234567 12 3", "<s>a</s>", "  <s>  a  </s>  ", "a<s>b", "a <s>b</s> c", "Day yesterday day DAY", "<tool>  x<tool>", "aword word wordy",
         "[X][x] [X]", "cafe\u0301 café", "ﬁne ﬀ", "\u3000x\u3000", "İstanbul ΣΑΣ", "中文字符和 English mixed 日本語カタカナ", "a\r\n\r\nb",
         "   leading", "trailing   ", "x" * 50, "ab" * 25, " " * 50 + "x", "hello" * 30]
TEXTS += ["".join(random.choice(ALPHABET) for _ in range(random.randint(1, 24))) for _ in range(70)]


def train(tokenizer, size, **options):
    tokenizer.train_from_iterator(corpus.splitlines(True), trainers.BpeTrainer(vocab_size=size, show_progress=False, **options))
    model = json.loads(tokenizer.to_str())["model"]
    if not any(" " in m for pair in model["merges"] for m in pair):
        model["merges"] = [" ".join(m) for m in model["merges"]]
    return model


byte = Tokenizer(models.BPE())
byte.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
byte_model = train(byte, 520, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
# A word that merges cannot make: ignore_merges finds it.
byte_model["vocab"]["Ġwordyx"] = len(byte_model["vocab"])
byte_model["vocab"]["hellohello"] = len(byte_model["vocab"])
char = Tokenizer(models.BPE(unk_token="<unk>"))
char.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), "merged_with_next")
char_model = train(char, 260, special_tokens=["<unk>"], limit_alphabet=60)
MODELS = {"byte": byte_model, "char": char_model}
NEXT = {"byte": len(byte_model["vocab"]), "char": len(char_model["vocab"])}

BYTE = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT = dict(BYTE, use_regex=True)


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(key, *parts):
    return {"type": "Sequence", key: list(parts)}


def added(model, *specs):
    out, vocab, fresh = [], MODELS[model]["vocab"], 0
    for content, flags in specs:
        known = vocab.get(content)
        token = {"id": NEXT[model] + fresh if known is None else known, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": False}
        for flag in flags.split():
            token[flag] = True
        fresh += known is None
        out.append(token)
    return out


def template(model, before, after):
    def piece(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}
    return {"type": "TemplateProcessing",
            "single": [piece(n) for n in before] + [{"Sequence": {"id": "A", "type_id": 0}}] + [piece(n) for n in after],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {n: {"id": n, "ids": [NEXT[model] + i], "tokens": [n]} for i, n in enumerate(before + after)}}


SPECIALS = [("<s>", "special"), ("</s>", "special")]
CONFIGS = []


def config(name, model="byte", tokens=(), normalizer=None, pre=None, post=None, decoder=BYTE, **changes):
    CONFIGS.append((name, model, {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(model, *tokens),
                    "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": post, "decoder": decoder}, changes))


config("gpt2", pre=GPT, tokens=SPECIALS)
config("gpt2_prefix_space", pre=dict(GPT, add_prefix_space=True), tokens=SPECIALS)
config("prefix_space_after_split", pre=sequence("pretokenizers", split(r"\s", "MergedWithNext"), dict(GPT, add_prefix_space=True)))
config("llama3", pre=sequence("pretokenizers", split(LLAMA3), BYTE), tokens=SPECIALS, ignore_merges=True,
       post=sequence("processors", dict(BYTE), template("byte", ["<s>"], [])))
config("qwen2", normalizer={"type": "NFC"}, pre=sequence("pretokenizers", split(QWEN2), BYTE), tokens=SPECIALS,
       post=template("byte", ["<s>"], ["</s>"]), decoder=sequence("decoders", BYTE, {"type": "Fuse"}))
config("qwen3_5", normalizer={"type": "NFC"}, pre=sequence("pretokenizers", split(QWEN35), BYTE))
config("o200k", pre=sequence("pretokenizers", split(O200K), BYTE))
config("deepseek", pre=sequence("pretokenizers", split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK), BYTE))
config("digits", pre=sequence("pretokenizers", {"type": "Digits", "individual_digits": True}, GPT))
config("digits_runs", pre=sequence("pretokenizers", {"type": "Digits", "individual_digits": False}, BYTE))
config("no_words", pre=BYTE)
config("added_strips", pre=GPT, tokens=[("<s>", "special lstrip"), ("</s>", "special rstrip"), ("<tool>", "lstrip rstrip"),
       ("word", "single_word"), ("\n", "rstrip"), ("  ", ""), ("Day", "single_word lstrip"), ("<s>a", "")])
config("added_normalized", pre=GPT, normalizer={"type": "Lowercase"}, tokens=[("<S>", "special"), ("Day", "normalized"),
       ("[X]", "normalized special"), ("WORD", "normalized single_word rstrip"), ("é", "normalized"), ("Ġx", "")])
config("nfkc_added", pre=GPT, normalizer={"type": "NFKC"}, tokens=[("ﬁ", "normalized"), ("½", ""), ("\u212b", "normalized special")])
config("nfd_lower", pre=GPT, normalizer=sequence("normalizers", {"type": "NFD"}, {"type": "Lowercase"}))
config("nfkd", pre=GPT, normalizer={"type": "NFKD"})
config("replacements", pre=GPT, tokens=SPECIALS, normalizer=sequence(
    "normalizers", {"type": "Strip", "strip_left": True, "strip_right": False},
    {"type": "Replace", "pattern": {"String": "a."}, "content": "<A>"},
    {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
    {"type": "Replace", "pattern": {"Regex": "x+"}, "content": "-"}, {"type": "Prepend", "prepend": "_"}))
config("strip_right", pre=GPT, tokens=SPECIALS, normalizer={"type": "Strip", "strip_left": False, "strip_right": True})
for behavior in ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
    for invert in [False, True]:
        config("split_%s_%s" % (behavior, invert), pre=sequence("pretokenizers", split("[a-e]|\\s", behavior, invert), BYTE))
    config("string_%s" % behavior, pre=sequence("pretokenizers", split("b", behavior, kind="String"), BYTE))
config("empty_string_pattern", pre=sequence("pretokenizers", split("", kind="String"), BYTE))
config("characters", model="char", decoder=None)
config("characters_split", model="char", pre=split(r"\s+", "MergedWithNext"), decoder=sequence("decoders", {"type": "Fuse"}), tokens=SPECIALS)
config("characters_fused_unknown", model="char", pre=split(r"\s+"), decoder=None, fuse_unk=True, tokens=SPECIALS)
config("characters_without_unknown", model="char", decoder=sequence("decoders", {"type": "Fuse"}), unk_token=None, ignore_merges=True)

out = {"tokenizers": tokenizers.__version__, "models": {"byte": byte_model, "char": char_model}, "texts": TEXTS, "configs": []}
for number, (name, model, rest, changes) in enumerate(CONFIGS):
    full = dict(rest, model=dict({"byte": byte_model, "char": char_model}[model], **changes))
    tokenizer = Tokenizer.from_str(json.dumps(full))
    for token in rest["added_tokens"]:
        assert tokenizer.token_to_id(token["content"]) == token["id"], token
    cases = []
    for index, text in enumerate(TEXTS):
        if index >= 27 and name.startswith(("split_", "string_")):
            continue
        try:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            tokenizer.encode_special_tokens = True
            plain = tokenizer.encode(text, add_special_tokens=False).ids
        except BaseException:  # the reference panics on some replacements
            continue
        finally:
            tokenizer.encode_special_tokens = False
        case = {"text": index, "ids": ids}
        with_special = tokenizer.encode(text, add_special_tokens=True).ids
        if with_special != ids:
            case["with_special"] = with_special
        if plain != ids:
            case["not_parsed"] = plain
        decoded, skipped = tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids, skip_special_tokens=True)
        if decoded != text:
            case["decoded"] = decoded
        if skipped != decoded:
            case["skipped"] = skipped
        # A sample: together the configurations use every text.
        if index % 9 == number % 9 or (index < 27 and index % 3 == number % 3):
            cases.append(case)
    out["configs"].append({"name": name, "model": model, "changes": changes, "rest": rest, "cases": cases})
with open(folder + "/feature_vectors.json", "w") as f:
    json.dump(out, f, ensure_ascii=True, separators=(",", ":"))

PATTERNS = [GPT2, LLAMA3, QWEN2, QWEN35, O200K, DEEPSEEK, r"\w+", r"\W+", r"\s+", r"\S+", r"\d", r"\D+", r"[\w]+", r"[^\w]+", r"[^\W_]+", r"[\W_]+",
            r"[^\S\n]+", r"[\S\n]+", r"[\D]+", r"[^\D]+", r"[\P{L}]+", r"[^\P{L}]+", r"\P{L}+", r"\p{^L}+", r"\p{Lu}\p{Ll}*", r"\p{M}+", r"[\p{P}\p{S}]+",
            r"\p{N}", r"\p{Han}+", r"\p{Hiragana}|\p{Katakana}", r"\p{Latin}+", r"\p{Letter}+", r"\p{alpha}+", r"[[:alpha:]]+", r"[[:digit:][:space:]]+",
            r"[[:^alpha:]]+", r"[^[:alnum:]]+", r"[[:punct:]]+", r"\h+", r"\H+", r"\bw", r"\b", r"\B.", r".+", r"(?m:.+)", r"(?m).+", r"a(?i)b|c", r"(?i)ab|x",
            r"(?i:'s|'ll|k|σ)", r"(?:a(?i)x|b)c", r"a{2}", r"b{,2}c", r"a{1,2}+", r"x{2}?", r"x{2,3}?", r"x{2,}+", r"a{", r"a{x}", r"{2}"[1:], r"a**", r"(?:ab)*+",
            r"[a\-z]+", r"[a-]+", r"[-a]+", r"[]a]", r"[\]\[]+", r"[^\]]+", r"^.", r".$", r"\A.", r".\z", r".\Z", r"\R", r"\n", r"\v", r"[\v\f]+",
            r"[\b]", r"\x41", r"\x{4e2d}", r"\u4e2d", r"[\u4e00-\u9fff]+", r"\x7f", r"(?<=a)b", r"(?<!a)b", r"a(?=b)", r"a(?!b)", r"(?>a+)b", r"(a)(b)\1?", r"(?<n>a)",
            r"a|b|", r"(?#comment)a", r"\/|\-|\"", r"\Qa", r"é", r"[é中]+", r"\é", r"(?-i:a)", r"(?i-m:A)", r"\p{L}\p{M}*", r"\p{Emoji}", r"\p{Nd}+", r"\p{So}+",
            r"\p{Lo}+", r"\p{Mn}", r"\p{Po}+", r"\p{Sc}|\p{Sm}"]
rows = []
for pattern in PATTERNS:
    try:
        cutter = pre_tokenizers.Split(Regex(pattern), "isolated")
    except Exception as error:
        rows.append({"pattern": pattern, "error": str(error)})
        continue
    lengths = []
    for text in TEXTS[21:75:4]:
        pieces = [p for p, _ in cutter.pre_tokenize_str(text) if p]
        lengths.append([len(p.encode()) for p in pieces])
    rows.append({"pattern": pattern, "pieces": lengths})
with open(folder + "/regex_vectors.json", "w") as f:
    json.dump({"tokenizers": tokenizers.__version__, "texts": TEXTS[21:75:4], "rows": rows}, f, separators=(",", ":"))
