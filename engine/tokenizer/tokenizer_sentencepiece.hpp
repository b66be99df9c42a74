// A tokenizer from SentencePiece's own file, tokenizer.model.
//
// BPE and unigram models. What the file does not say (whether a text begins with BOS, tokens that were added behind its pieces) a
// checkpoint has in tokenizer_config.json, whose reader fills the options. Source: sentencepiece_model.proto.
#pragma once

#include "engine/tokenizer/added_tokens.hpp"
#include "engine/tokenizer/tokenizer.hpp"

#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace millrace
{

struct SentencePieceOptions {
  /// None: BOS where the model has such a piece, EOS where it has no BOS.
  std::optional<bool> add_bos, add_eos;
  /// Beyond the model's pieces, or in place of them.
  std::vector<AddedToken> added;
};

/// Throws LoadError naming file and field.
std::shared_ptr<const Tokenizer> load_sentencepiece_tokenizer (const std::filesystem::path &file,
                                                               const SentencePieceOptions &options = {});
/// "BPE" or "Unigram"; empty when the file does not say, or nothing that can be read.
std::string_view sentencepiece_model_type (const std::filesystem::path &file);

} // namespace millrace
