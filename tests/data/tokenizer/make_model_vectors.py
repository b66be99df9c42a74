#!/usr/bin/env python3
"""Makes model_vectors.json with the reference library.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.3
    /tmp/venv/bin/python tests/data/tokenizer/make_model_vectors.py

Small tokenizers of every kind but byte-level BPE (make_vectors.py has those), trained on the sentences of
make_sentencepiece_vectors.py, with all parts that go with them in published files; and what they make of texts."""
import base64
import json
import pathlib
import random

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import make_sentencepiece_vectors as sentences

HERE = pathlib.Path(__file__).resolve().parent
SPECIAL = ["<unk>", "<s>", "</s>"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]
TEXTS = sentences.TEXTS + [
    "Don't you've we're it's do not can't", "a , b . c ! d ? e ' f n't", "<s>a</s> b<s>", "[MASK] in [CLS]", "中文字符和English混合",
    "Ünïcödé İstanbul ΣΑΣ", "hello\u0000world", "a\u00adb\u200db\u0085c", "word-with-dashes_and_underscores", "e\u0301\u0302\u0323x",
    "\r\n\r\n", "ﬁ\u0301x", "각\u0301", "x" * 120, "  <s>  x", "1/2 3.14 1,000", "\u0b95\u0bca \u093f\u0928", "ＡＢＣ\u3000ｄ",
]


def charsmap():
    """The table of rules of make_sentencepiece_vectors.py."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString((HERE / "sentencepiece" / "unigram-rules.model").read_bytes())
    return proto.normalizer_spec.precompiled_charsmap


def bpe(byte_fallback, unknown="<unk>", fuse=True):
    """Llama's way: merges of characters with spaces as "▁"."""
    tokenizer = Tokenizer(models.BPE(unk_token=unknown, fuse_unk=fuse, byte_fallback=byte_fallback))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=300 + (256 if byte_fallback else 0), show_progress=False, limit_alphabet=70,
                                  special_tokens=SPECIAL + (BYTES if byte_fallback else []))
    tokenizer.train_from_iterator(sentences.TRAINING, trainer)
    tokenizer.pre_tokenizer = None
    return tokenizer


def unigram(byte_fallback=False, metaspace=None, size=180):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = metaspace or pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=size, show_progress=False, special_tokens=SPECIAL + (BYTES if byte_fallback else []),
                                      unk_token="<unk>")
    tokenizer.train_from_iterator(sentences.TRAINING, trainer)
    if byte_fallback:
        state = json.loads(tokenizer.to_str())
        state["model"]["byte_fallback"] = True
        tokenizer = Tokenizer.from_str(json.dumps(state))
    return tokenizer


def word_piece(**bert):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**bert)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=260, show_progress=False, special_tokens=BERT, limit_alphabet=90)
    tokenizer.train_from_iterator(sentences.TRAINING, trainer)
    return tokenizer


def word_level(pre_tokenizer):
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(sentences.TRAINING, trainers.WordLevelTrainer(vocab_size=150, show_progress=False, special_tokens=SPECIAL))
    return tokenizer


def template(tokenizer, first="<s>", last=None):
    single = f"{first} $A" + (f" {last}" if last else "")
    names = [name for name in (first, last) if name]
    return processors.TemplateProcessing(single=single, pair=f"{single} $B:1", special_tokens=[(n, tokenizer.token_to_id(n)) for n in names])


def configurations():
    llama_decoder = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]

    llama = bpe(True)
    llama.decoder = decoders.Sequence(llama_decoder)
    llama.post_processor = template(llama)
    yield "llama-2", llama

    gemma = bpe(True)
    gemma.normalizer = normalizers.Replace(" ", "▁")
    gemma.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    gemma.add_tokens([AddedToken("<mask>", normalized=False), AddedToken("  ", normalized=False)])
    gemma.decoder = decoders.Sequence(llama_decoder[:3])
    gemma.post_processor = template(gemma)
    yield "gemma", gemma

    first = bpe(True)
    first.normalizer = None
    first.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    first.add_special_tokens([AddedToken("<sep>", normalized=False, rstrip=True)])
    first.decoder = decoders.Sequence(llama_decoder)
    yield "llama-metaspace-first", first

    unfused = bpe(False, fuse=False)
    unfused.decoder = decoders.Metaspace()
    yield "bpe-unknown", unfused
    fused = bpe(False, fuse=True)
    fused.decoder = decoders.Metaspace(prepend_scheme="never")
    yield "bpe-unknown-fused", fused
    yield "bpe-no-decoder", bpe(False, unknown=None)

    t5 = unigram()
    t5.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap()), normalizers.Strip(left=False, right=True),
                                          normalizers.Replace(Regex(" {2,}"), "▁")])
    t5.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    t5.decoder = decoders.Metaspace(prepend_scheme="always")
    t5.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)])
    yield "t5", t5

    xlm = unigram()
    xlm.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    xlm.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first")])
    xlm.decoder = decoders.Metaspace()
    xlm.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    yield "xlm", xlm

    bytes_unigram = unigram(byte_fallback=True, size=440)
    bytes_unigram.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    yield "unigram-bytes", bytes_unigram

    accents = unigram()
    accents.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    accents.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.Digits(True), pre_tokenizers.Metaspace(prepend_scheme="never")])
    accents.decoder = decoders.Sequence([decoders.Strip("▁", 1, 0), decoders.Replace("▁", " ")])
    yield "unigram-accents", accents

    uncased = word_piece(lowercase=True)
    uncased.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    yield "bert-uncased", uncased
    cased = word_piece(lowercase=False, strip_accents=False, handle_chinese_chars=False)
    cased.decoder = decoders.WordPiece(cleanup=False)
    cased.post_processor = template(cased, "[CLS]", "[SEP]")
    yield "bert-cased", cased
    raw = word_piece(lowercase=False, clean_text=False, strip_accents=True)
    raw.model = models.WordPiece(raw.get_vocab(with_added_tokens=False), unk_token="[UNK]", max_input_chars_per_word=6)
    yield "bert-short-words", raw

    yield "words", word_level(pre_tokenizers.Whitespace())
    words = word_level(pre_tokenizers.WhitespaceSplit())
    words.decoder = decoders.Fuse()
    yield "words-split", words
    letters = word_level(pre_tokenizers.CharDelimiterSplit(" "))
    letters.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.CharDelimiterSplit("e"), pre_tokenizers.Punctuation("merged_with_previous")])
    yield "words-delimited", letters


def vectors(configurations, file, texts=TEXTS, random_texts=30):
    rng = random.Random(11)
    texts = texts + [sentences.random_text(rng) for _ in range(random_texts)]
    result = {"texts": texts, "configs": []}
    for name, tokenizer in configurations:
        cases = []
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            case = {"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}
            if (special := tokenizer.encode(text).ids) != ids:
                case["with_special"] = special
            if (skipped := tokenizer.decode(ids)) != case["decoded"]:
                case["skipped"] = skipped
            cases.append(case)
        sequences = []
        for _ in range(40):
            ids = [rng.randrange(tokenizer.get_vocab_size()) for _ in range(rng.randrange(1, 8))]
            # Of bytes that are characters only in part the reference replaces all, as Millrace cannot while it writes.
            ids = [i for n, i in enumerate(ids) if n % 2 == 0 or not tokenizer.id_to_token(i).startswith("<0x")]
            if any(tokenizer.id_to_token(a).startswith("<0x") and tokenizer.id_to_token(b).startswith("<0x") for a, b in zip(ids, ids[1:])):
                continue
            sequences.append({"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
        result["configs"].append({"name": name, "tokenizer": json.loads(tokenizer.to_str()), "cases": cases, "sequences": sequences})
    (HERE / file).write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    vectors(configurations(), "model_vectors.json")
