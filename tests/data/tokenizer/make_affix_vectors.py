#!/usr/bin/env python3
"""Makes affix_vectors.json with the reference library; as make_model_vectors.py, which says what is needed.

Tokenizers of BPE whose characters are others within a word, or at its end."""
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import make_model_vectors as model_vectors
import make_sentencepiece_vectors as sentences


def affixed():
    """Of characters that are others within a word and at its end, as GPT-1, CLIP and the like have them."""
    for name, prefix, suffix, pre_tokenizer, options in [
            ("bpe-suffix", "", "</w>", pre_tokenizers.BertPreTokenizer(), {"unk_token": "<unk>"}),
            ("bpe-prefix", "##", "", pre_tokenizers.Whitespace(), {"unk_token": "<unk>", "fuse_unk": True}),
            ("bpe-prefix-suffix", "@é", "$", pre_tokenizers.WhitespaceSplit(), {}),
            ("bpe-suffix-bytes", "", "</w>", pre_tokenizers.WhitespaceSplit(), {"unk_token": "<unk>", "byte_fallback": True}),
            ("bpe-byte-level-suffix", "", "</w>", pre_tokenizers.ByteLevel(add_prefix_space=False), {"unk_token": "<unk>"}),
            ("bpe-byte-level-prefix", "··", "", pre_tokenizers.ByteLevel(add_prefix_space=False), {"ignore_merges": True})]:
        affixes = {k: v for k, v in [("continuing_subword_prefix", prefix), ("end_of_word_suffix", suffix)] if v}
        tokenizer = Tokenizer(models.BPE(**affixes, **options))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizer
        special = model_vectors.SPECIAL + (model_vectors.BYTES if options.get("byte_fallback") else [])
        trainer = trainers.BpeTrainer(vocab_size=220 + len(special), show_progress=False, limit_alphabet=60, special_tokens=special, **affixes)
        tokenizer.train_from_iterator(sentences.TRAINING, trainer)
        if suffix:
            tokenizer.decoder = decoders.BPEDecoder(suffix)
        if name == "bpe-suffix-bytes":
            tokenizer.decoder = decoders.Sequence([decoders.BPEDecoder(suffix), decoders.ByteFallback()])
        yield name, tokenizer


if __name__ == "__main__":
    model_vectors.vectors(affixed(), "affix_vectors.json", model_vectors.TEXTS[::2] + ["  ", "a", "flour, flour"], 10)
