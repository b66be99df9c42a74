// Where each context of a few tokens last occurred in one sequence.
//
// An open-addressing table of positions. A context is found by comparing tokens, never by its hash alone: a
// position is the end of the context in the sequence, and the tokens before it are the key. Probes are
// bounded, so that a prompt made of colliding contexts costs nothing but drafts. No allocation after size_for
// ().
#pragma once

#include "engine/sampling/sampling_params.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace millrace
{

class NgramTable
{
public:
  /// Empties the table and makes room for the contexts of a sequence of up to `max_tokens` tokens.
  void size_for (int max_tokens, int context_tokens);
  /// The context that ends before tokens[end] occurred; replaces the position of an earlier occurrence.
  /// context_tokens <= end <= tokens.size ().
  void insert (std::span<const TokenId> tokens, int end);
  /// The end of the latest inserted occurrence of the context before tokens[end], or 0.
  int find (std::span<const TokenId> tokens, int end) const;

private:
  size_t home (const TokenId *context) const;
  bool is_at (std::span<const TokenId> tokens, int32_t position, int end) const;

  std::vector<int32_t> ends_; ///< 0: empty; the first mask_ + 1 entries are in use
  size_t mask_ = 0;
  int context_tokens_ = 0;
};

} // namespace millrace
