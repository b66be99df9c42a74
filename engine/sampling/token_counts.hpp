// How often each token occurred in one sequence, for penalties.
//
// The counts lie densely in order of first occurrence, so that walking them costs as much as there are
// distinct tokens and not as much as there may be; an open-addressing index over them finds a token's.
// reserve () sizes both once; add_… () then never allocates (past the reserved number both grow).
#pragma once

#include "engine/sampling/sampling_params.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace millrace
{

struct TokenCount {
  TokenId token = -1;
  uint32_t prompt = 0;    ///< occurrences in the prompt
  uint32_t generated = 0; ///< occurrences in the generated text
};

class TokenCounts
{
public:
  void reserve (int distinct_tokens); ///< drops what was counted
  /// Negative ids are not tokens and are not counted.
  void add_prompt (std::span<const TokenId> tokens);
  void add_generated (TokenId token);
  int distinct () const { return static_cast<int> (entries_.size ()); }

  /// Calls f (const TokenCount &) for each distinct token, in order of first occurrence.
  template <typename F>
  void for_each (F &&f) const
  {
    for (const TokenCount &entry : entries_)
      f (entry);
  }

private:
  TokenCount &entry (TokenId token);
  void size_index (size_t distinct_tokens);

  std::vector<TokenCount> entries_;
  std::vector<int32_t> index_; ///< power of two, at least twice as large; -1 or an index into entries_
};

} // namespace millrace
