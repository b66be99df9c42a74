// A tokenizer from the lists that a GGUF file has in its metadata.
//
// tokenizer.ggml.model says of what kind: "gpt2" (BPE with merges: gguf_pre_tokenizers.hpp has how each
// tokenizer.ggml.pre cuts), "llama" (SentencePiece's BPE by scores), "t5" (its unigram model), "bert" (WordPiece). Special tokens
// are the control tokens; user-defined ones are found in every text. Sources: GGUF specification; llama-vocab.cpp of
// llama.cpp, and where a model's own tokenizer does otherwise, that.
#pragma once

#include "engine/tokenizer/tokenizer.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace millrace
{

/// The members are named after the keys tokenizer.ggml.…; text need not be valid UTF-8.
struct GgufVocabulary {
  std::string_view model;
  std::string_view pre;
  std::span<const std::string_view> tokens;
  std::span<const std::string_view> merges; ///< "left right"
  std::span<const int32_t> types;           ///< of each token; empty: all normal
  TokenId bos = -1, eos = -1;               ///< -1: none
  std::optional<bool> add_bos, add_eos;     ///< none: as the pre-tokenizer's model does
  std::span<const float> scores = {};       ///< of each token: "llama", "t5"
  std::string_view precompiled_charsmap = {};
  TokenId unknown = -1, separator = -1; ///< unknown_token_id, seperator_token_id
  std::optional<bool> add_space_prefix = {}, remove_extra_whitespaces = {};
  std::optional<bool> lowercase = {}, strip_accents = {}; ///< normalizer.…: "bert"
  bool strips_after_special = false; ///< white space after a special token goes, as Phi-3's tokenizer has it
};

/// Throws LoadError naming `file` and the key: other tokenizer models and unknown pre-tokenizers by name, lists that do
/// not belong together, tokens given twice, merges of unknown tokens.
std::shared_ptr<const Tokenizer> load_gguf_tokenizer (const std::filesystem::path &file,
                                                      const GgufVocabulary &source);

} // namespace millrace
