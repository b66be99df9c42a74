// Guesses of the tokens that follow a sequence's pending one, and who made them.
#pragma once

#include "engine/sampling/sampling_params.hpp"

#include <array>
#include <cstdint>
#include <span>

namespace millrace
{

constexpr int kMaxDraft = 15; ///< draft tokens in one row

/// Who guessed a token. What each is worth is learned separately.
enum class DraftSource : uint8_t {
  kNgram,      ///< tables of short contexts of the request itself
  kSuffix,     ///< the longest repeated suffix of the request itself
  kPrediction, ///< the output that the request said it expects
  kStore,      ///< what other requests of this process said
  kModel,      ///< a smaller model
};
constexpr int kDraftSources = 5;

const char *draft_source_name (DraftSource source); ///< "ngram", "suffix", "prediction", "store", "model"

/// A chain of guesses: token i is right only if all before it are.
struct Draft {
  int count = 0;
  std::array<TokenId, kMaxDraft> tokens{};
  /// That token i is right, given that those before it are: 0 … 1, as its drafter believes.
  std::array<float, kMaxDraft> probability{};
  std::array<DraftSource, kMaxDraft> source{};

  std::span<const TokenId> span () const { return std::span (tokens).first (static_cast<size_t> (count)); }
  bool full () const { return count == kMaxDraft; }
  /// Not when full ().
  void push (TokenId token, float chance, DraftSource who)
  {
    const auto at = static_cast<size_t> (count++);
    tokens[at] = token;
    probability[at] = chance;
    source[at] = who;
  }
};

} // namespace millrace
