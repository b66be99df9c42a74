// How often each token occurred in one sequence, for penalties.
//
// Open addressing over a power-of-two table that reserve () sizes once; add () then never allocates.
#pragma once

#include "engine/sampling/sampling_params.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace millrace {

struct TokenCount {
  TokenId token = -1;
  uint32_t prompt = 0;    ///< occurrences in the prompt
  uint32_t generated = 0; ///< occurrences in the generated text
};

class TokenCounts
{
public:
  void reserve (int distinct_tokens); ///< drops what was counted
  void add_prompt (std::span<const TokenId> tokens);
  void add_generated (TokenId token);
  int distinct () const { return distinct_; }

  /// Calls f (const TokenCount &) for each distinct token, in table order.
  template <typename F>
  void
  for_each (F &&f) const
  {
    for (const TokenCount &entry : entries_) {
      if (entry.token >= 0)
        f (entry);
    }
  }

private:
  TokenCount &entry (TokenId token);
  std::vector<TokenCount> entries_;
  int distinct_ = 0;
};

} // namespace millrace
