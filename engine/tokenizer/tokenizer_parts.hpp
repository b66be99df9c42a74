// The parts that a Tokenizer is made of, whatever file they come from.
//
// Private to engine/tokenizer. Readers (tokenizer_json.cpp, tokenizer_gguf.cpp) fill them and check what can be wrong with
// their file; Tokenizer puts them together.
#pragma once

#include "engine/tokenizer/added_tokens.hpp"
#include "engine/tokenizer/bpe.hpp"
#include "engine/tokenizer/normalizer.hpp"
#include "engine/tokenizer/pre_tokenizer.hpp"
#include "engine/tokenizer/vocabulary.hpp"

#include <cstdint>
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
  bool added_verbatim = false; ///< added tokens are their own text, whatever the decoder
};

/// What a ByteLevel pre-tokenizer cuts by: GPT-2's pattern.
inline constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

} // namespace millrace
