// How the text of a byte-level vocabulary of a GGUF file is cut: tokenizer.ggml.pre names the model that does it so.
//
// A GGUF file does not hold the pre-tokenizer's patterns; those here are the ones of these models' tokenizer.json, and so is the
// Unicode normalization of those that have one. Sources: the names as llama.cpp's llama-vocab.cpp lists them; the models' own
// files ("default" is llama.cpp's own).
#pragma once

#include "engine/tokenizer/pre_tokenizer.hpp"

#include <array>
#include <string>
#include <string_view>

namespace millrace
{

struct GgufPreTokenizer {
  std::array<std::string_view, 16> names;
  std::array<std::string_view, 6>
      patterns;               ///< in Oniguruma's syntax; each cuts what those before it have left
  bool normalizes = false;    ///< to NFC, before
  bool ignore_merges = false; ///< a word that is a token is that token
  bool adds_bos = false;      ///< where the file does not say
  bool groups_digits = false; ///< before the patterns: digits by threes, from the right
  bool whole_numbers = false; ///< and no run of digits before a letter
  bool cuts_digits = false;   ///< after the patterns: where a multiple of three digits follows
  bool of_characters = false; ///< not byte-level, with byte fallback
  bool metaspaces = false;    ///< spaces become "▁"
};

/// Null for an unknown name.
const GgufPreTokenizer *find_gguf_pre_tokenizer (std::string_view name);
/// Its stages.
PreTokenizer make_pre_tokenizer (const GgufPreTokenizer &kind);
/// All of them, for messages.
std::string gguf_pre_tokenizer_names ();

} // namespace millrace
