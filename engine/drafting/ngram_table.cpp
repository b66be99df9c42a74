#include "engine/drafting/ngram_table.hpp"

#include <algorithm>
#include <bit>

namespace millrace
{

namespace
{

constexpr size_t kMaxProbes = 16;
constexpr size_t kMinEntries = 64;
/// Past half a million contexts the table forgets some instead of growing: 4 MiB.
constexpr size_t kMaxEntries = 1u << 20;

} // namespace

void
NgramTable::size_for (int max_tokens, int context_tokens)
{
  const auto wanted = static_cast<size_t> (std::max (max_tokens, 1)) * 2;
  const size_t entries = std::bit_ceil (std::clamp (wanted, kMinEntries, kMaxEntries));
  if (ends_.size () < entries)
    ends_.resize (entries);
  std::fill_n (ends_.begin (), entries, 0);
  mask_ = entries - 1;
  context_tokens_ = context_tokens;
}

size_t
NgramTable::home (const TokenId *context) const
{
  uint64_t hash = 0x9E3779B97F4A7C15u;
  for (int i = 0; i < context_tokens_; ++i) {
    hash = (hash ^ static_cast<uint32_t> (context[i])) * 0xD6E8FEB86659FD93u;
    hash ^= hash >> 32;
  }
  return static_cast<size_t> (hash) & mask_;
}

bool
NgramTable::is_at (std::span<const TokenId> tokens, int32_t position, int end) const
{
  const TokenId *const there = tokens.data () + position - context_tokens_;
  return std::equal (there, there + context_tokens_, tokens.data () + end - context_tokens_);
}

void
NgramTable::insert (std::span<const TokenId> tokens, int end)
{
  const size_t first = home (tokens.data () + end - context_tokens_);
  for (size_t probe = 0; probe < kMaxProbes; ++probe) {
    int32_t &position = ends_[(first + probe) & mask_];
    if (position == 0 || is_at (tokens, position, end)) {
      position = end;
      return;
    }
  }
  ends_[first] = end; // crowded: the newer context is likelier to come again
}

int
NgramTable::find (std::span<const TokenId> tokens, int end) const
{
  const size_t first = home (tokens.data () + end - context_tokens_);
  for (size_t probe = 0; probe < kMaxProbes; ++probe) {
    const int32_t position = ends_[(first + probe) & mask_];
    if (position == 0)
      return 0;
    if (is_at (tokens, position, end))
      return position;
  }
  return 0;
}

} // namespace millrace
