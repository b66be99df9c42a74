// A tokenizer from SentencePiece's list of pieces, whether tokenizer.model or a GGUF file has it.
//
// Byte pair encoding by scores, or a unigram language model. Control pieces are special tokens and are found in the text as it
// is; each text between two of them is normalized by itself, as Llama's tokenizers do it. User-defined pieces are found in
// every text. Unused pieces are never produced. Sources: SentencePiece; the tokenizers of llama.cpp for GGUF files.
#pragma once

#include "engine/tokenizer/sentencepiece_normalizer.hpp"
#include "engine/tokenizer/tokenizer_parts.hpp"

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

/// ModelProto.SentencePiece.Type of SentencePiece, and tokenizer.ggml.token_type.
enum class PieceType : int32_t { kUndefined, kNormal, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct SentencePiece {
  std::string_view content;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

struct SentencePieceSource {
  std::filesystem::path file;
  std::string field; ///< what the list of pieces is called in messages
  std::vector<SentencePiece> pieces;
  bool unigram = false;
  bool byte_fallback = false;
  /// User-defined pieces are cut out of the text before it is normalized, and their own text is as it stands.
  bool user_defined_verbatim = false;
  SentencePieceNormalizer normalizer;
  std::string unknown_text; ///< what the unknown token is decoded to; empty: its content
};

/// Pieces, model, normalizer and decoder. Throws LoadError.
TokenizerParts sentencepiece_parts (SentencePieceSource source);

} // namespace millrace
