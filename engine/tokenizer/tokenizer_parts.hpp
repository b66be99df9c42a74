// The parts that a Tokenizer is made of, whatever file they come from.
//
// Private to engine/tokenizer. Readers (tokenizer_json.cpp, tokenizer_gguf.cpp, tokenizer_sentencepiece.cpp) fill them and check
// what can be wrong with their file; Tokenizer puts them together.
#pragma once

#include "engine/tokenizer/added_tokens.hpp"
#include "engine/tokenizer/bpe.hpp"
#include "engine/tokenizer/known_patterns.hpp"
#include "engine/tokenizer/normalizer.hpp"
#include "engine/tokenizer/pre_tokenizer.hpp"
#include "engine/tokenizer/token_texts.hpp"
#include "engine/tokenizer/unigram.hpp"
#include "engine/tokenizer/vocabulary.hpp"
#include "engine/tokenizer/word_piece.hpp"

#include <cstdint>
#include <variant>
#include <vector>

namespace millrace
{

struct AddedTokenEntry {
  AddedToken token;
  bool normalized = false;     ///< found in the normalized text, by its normalized content
  bool is_normal_form = false; ///< and its content is that already
};

struct TokenizerParts {
  Vocabulary vocabulary;
  std::variant<Bpe, Unigram, WordPiece> model; ///< Bpe without `vocabulary`, which its owner sets
  std::vector<AddedTokenEntry> added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::vector<int32_t> prefix; ///< post-processor: tokens before the text
  std::vector<int32_t> suffix; ///< and after it
  std::vector<DecoderStep> decoder;
  TokenTexts texts; ///< what depends on the place in the text; the tokens' texts are added by their owner
  bool added_verbatim = false; ///< added tokens are their own text, whatever the decoder
};

} // namespace millrace
