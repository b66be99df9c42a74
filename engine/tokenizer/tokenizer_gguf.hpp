// A tokenizer from the lists that a GGUF file has in its metadata.
//
// Byte-level BPE ("gpt2") only. A GGUF file does not hold the pre-tokenizer's patterns but the name of a model that has
// them (tokenizer.ggml.pre); the patterns here are those of these models' tokenizer.json, and so is the Unicode
// normalization of those that have one. Special tokens are the control tokens; user-defined ones are found in every text.
// Sources: GGUF specification; the patterns and their names as llama.cpp's llama-vocab.cpp lists them, where they are those
// of the models' tokenizer.json ("default" is llama.cpp's own).
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
};

/// Throws LoadError naming `file` and the key: other tokenizer models and unknown pre-tokenizers by name, lists that do
/// not belong together, tokens given twice, merges of unknown tokens.
std::shared_ptr<const Tokenizer> load_gguf_tokenizer (const std::filesystem::path &file,
                                                      const GgufVocabulary &source);

} // namespace millrace
