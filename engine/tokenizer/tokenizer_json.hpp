// Reads a tokenizer.json into the parts a Tokenizer is made of.
//
// Anything that the parts cannot do exactly as the reference does is a LoadError naming the field. Unknown
// members are ignored as the reference does; "truncation" and "padding" are requests' business and ignored.
// Source: the serialization of the reference `tokenizers` library, version "1.0".
#pragma once

#include "engine/tokenizer/added_tokens.hpp"
#include "engine/tokenizer/bpe.hpp"
#include "engine/tokenizer/json_field.hpp"
#include "engine/tokenizer/normalizer.hpp"
#include "engine/tokenizer/pre_tokenizer.hpp"
#include "engine/tokenizer/vocabulary.hpp"

#include <cstdint>
#include <filesystem>
#include <vector>

namespace millrace
{

/// How tokens become text: by the byte alphabet, as they are, or as they are with spaces between them.
enum class DecoderKind { kByteLevel, kPlain, kSpaced };

struct AddedTokenEntry {
  AddedToken token;
  bool normalized = false;
};

struct TokenizerParts {
  Vocabulary vocabulary;
  Bpe bpe; ///< without `vocabulary`, which its owner sets
  std::vector<AddedTokenEntry> added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::vector<int32_t> prefix; ///< post-processor: tokens before the text
  std::vector<int32_t> suffix; ///< and after it
  DecoderKind decoder = DecoderKind::kSpaced;
};

TokenizerParts read_tokenizer_json (const std::filesystem::path &file);

// The sections, each in its own function; the model and the added tokens are in tokenizer_json_model.cpp.

void read_vocabulary (const JsonField &root, TokenizerParts &parts);
void read_merges (const JsonField &model, TokenizerParts &parts);

} // namespace millrace
