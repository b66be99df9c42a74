#include "engine/sampling/token_counts.hpp"

#include <algorithm>
#include <bit>

namespace millrace
{

namespace
{

size_t
hash_of (TokenId token)
{
  // Token ids are dense and small; a multiplication spreads neighbours. Source: Knuth, TAOCP 6.4.
  return static_cast<uint32_t> (token) * 0x9E3779B9u;
}

} // namespace

void
TokenCounts::reserve (int distinct_tokens)
{
  const auto count = static_cast<size_t> (std::max (distinct_tokens, 1));
  entries_.clear ();
  entries_.reserve (count);
  size_index (count);
}

void
TokenCounts::add_prompt (std::span<const TokenId> tokens)
{
  for (const TokenId token : tokens) {
    if (token >= 0)
      ++entry (token).prompt;
  }
}

void
TokenCounts::add_generated (TokenId token)
{
  if (token >= 0)
    ++entry (token).generated;
}

void
TokenCounts::size_index (size_t distinct_tokens)
{
  index_.assign (std::bit_ceil (std::max<size_t> (distinct_tokens * 2, 16)), -1);
  for (size_t i = 0; i < entries_.size (); ++i) {
    size_t at = hash_of (entries_[i].token) & (index_.size () - 1);
    while (index_[at] >= 0)
      at = (at + 1) & (index_.size () - 1);
    index_[at] = static_cast<int32_t> (i);
  }
}

TokenCount &
TokenCounts::entry (TokenId token)
{
  if ((entries_.size () + 1) * 2 > index_.size ())
    size_index ((entries_.size () + 1) * 2);
  size_t at = hash_of (token) & (index_.size () - 1);
  for (; index_[at] >= 0; at = (at + 1) & (index_.size () - 1)) {
    TokenCount &found = entries_[static_cast<size_t> (index_[at])];
    if (found.token == token)
      return found;
  }
  index_[at] = static_cast<int32_t> (entries_.size ());
  return entries_.emplace_back (TokenCount{token, 0, 0});
}

} // namespace millrace
