// The drafters that look things up, by name.
#pragma once

#include "engine/drafting/drafter.hpp"

#include <memory>

namespace millrace
{

enum class LookupPolicy : uint8_t {
  kSuffix, ///< the longest repeated suffix: engine/drafting/suffix_drafter.hpp
  kNgram,  ///< counts of what followed 2, 3 and 4 tokens: engine/drafting/ngram_drafter.hpp
};

constexpr int kLongestMinMatch = 32;
constexpr int kLargestSharedStore = 1 << 28; ///< tokens

struct LookupSettings {
  LookupPolicy policy = LookupPolicy::kSuffix;
  int max_draft = kMaxDraft; ///< tokens, 0 … kMaxDraft
  DraftGate gate = DraftGate::kCost;
  int min_match = 1; ///< tokens in common before one is guessed; 1 … 32, with kNgram 2 … 4
  /// kSuffix: outputs of so many tokens in all, up to kLargestSharedStore, are kept for other requests; 0: none. engine/drafting/shared_store.hpp says
  /// what that means for their users.
  int shared_store_tokens = 0;
};

std::unique_ptr<LookupDrafter> make_lookup_drafter (const LookupSettings &settings = {});

} // namespace millrace
