#include "engine/drafting/token_index.hpp"

#include <algorithm>
#include <bit>

namespace millrace
{

namespace
{

constexpr size_t kLoad = 2; ///< tokens for each entry of a table, at most

/// Of the last 1, 2, 4 and 8 tokens before `end`, each as far as there are so many.
template <typename TokenAt>
std::array<uint64_t, TokenIndex::kOrders.size ()>
hashes_before (int available, const TokenAt &token_back)
{
  std::array<uint64_t, TokenIndex::kOrders.size ()> hashes{};
  uint64_t hash = 0;
  int back = 0;
  for (size_t order = 0; order < hashes.size () && TokenIndex::kOrders[order] <= available; ++order) {
    for (; back < TokenIndex::kOrders[order]; ++back)
      hash = (hash + static_cast<uint32_t> (token_back (back)) + 1) * 0x9E3779B97F4A7C15u;
    const uint64_t mixed = (hash ^ (hash >> 32)) * 0xD6E8FEB86659FD93u;
    hashes[order] = mixed ^ (mixed >> 32);
  }
  return hashes;
}

} // namespace

TokenIndex::TokenIndex (size_t capacity, uint32_t first)
    : capacity_ (capacity ? std::bit_ceil (std::clamp<size_t> (capacity, kBlockTokens, size_t{1} << 30)) : 0)
    , block_mask_ (capacity_ ? static_cast<uint32_t> (capacity_ / kBlockTokens - 1) : ~0u)
    , begin_ (first)
    , end_ (first)
    , text_ (first)
{
  for (auto &heads : heads_)
    heads.resize (capacity_);
}

void
TokenIndex::clear (size_t expected)
{
  begin_ = end_ = text_ = 0;
  const size_t kept = (expected + kBlockTokens - 1) / kBlockTokens;
  if (blocks_.size () > kept) {
    blocks_.resize (kept);
    blocks_.shrink_to_fit ();
  }
  const size_t entries = expected ? std::bit_ceil (std::max (expected, kBlockTokens)) / kLoad : 0;
  for (auto &heads : heads_) {
    if (heads.size () > entries) {
      heads.resize (entries);
      heads.shrink_to_fit ();
    }
    heads.assign (entries, 0);
  }
}

void
TokenIndex::grow_heads ()
{
  for (auto &heads : heads_) {
    const size_t old = heads.size ();
    std::vector<uint32_t> wider (std::max (2 * old, kBlockTokens / kLoad));
    std::ranges::copy (heads, wider.begin ());
    std::ranges::copy (heads, wider.begin () + static_cast<std::ptrdiff_t> (old));
    heads = std::move (wider);
  }
}

void
TokenIndex::push (TokenId token)
{
  const size_t index = (end_ / kBlockTokens) & block_mask_;
  if (index >= blocks_.size ())
    blocks_.push_back (std::make_unique_for_overwrite<Block> ());
  Block &last = *blocks_[index];
  last.tokens[end_ % kBlockTokens] = token;
  for (auto &links : last.links)
    links[end_ % kBlockTokens] = 0;
  if (!capacity_ && size () >= kLoad * heads_[0].size ())
    grow_heads ();
  ++end_;
}

void
TokenIndex::border ()
{
  push (kBorder);
  text_ = end_;
}

void
TokenIndex::append (TokenId token)
{
  push (token);
  const uint32_t next = end_ - 1;
  const uint32_t before = next - (text_ - begin_ <= size () ? text_ : begin_);
  const auto hashes = hashes_before (static_cast<int> (std::min<uint32_t> (before, kOrders.back ())),
                                     [&] (int back) { return at (next - 1 - static_cast<uint32_t> (back)); });
  for (size_t order = 0; order < kOrders.size () && static_cast<uint32_t> (kOrders[order]) <= before;
       ++order) {
    uint32_t &head = heads_[order][hashes[order] & (heads_[order].size () - 1)];
    // What is no position any more ends the chain.
    if (head - begin_ < next - begin_)
      block (next).links[order][next % kBlockTokens] = next - head;
    head = next;
  }
}

int
TokenIndex::in_common (std::span<const TokenId> tail, uint32_t next) const
{
  const auto most = static_cast<int> (std::min<size_t> ({tail.size (), next - begin_, kLongestMatch}));
  int length = 0;
  while (length < most && at (next - 1 - static_cast<uint32_t> (length)) ==
                              tail[tail.size () - 1 - static_cast<size_t> (length)])
    ++length;
  work_ += static_cast<uint64_t> (length) + 1;
  return length;
}

TokenIndex::Matches
TokenIndex::find (std::span<const TokenId> tail, int shortest, int most_visits) const
{
  Matches matches;
  if (size () == 0)
    return matches;
  const int available = static_cast<int> (std::min<size_t> (tail.size (), kOrders.back ()));
  const auto hashes = hashes_before (
      available, [&] (int back) { return tail[tail.size () - 1 - static_cast<size_t> (back)]; });
  for (size_t order = kOrders.size (); order-- > 0 && matches.count < kEnough;) {
    const int least = kOrders[order];
    if (least > available)
      continue;
    const int longest = order + 1 < kOrders.size () ? kOrders[order + 1] - 1 : kLongestMatch;
    if (longest < shortest)
      break;
    uint32_t next = heads_[order][hashes[order] & (heads_[order].size () - 1)];
    for (int visits = 0; visits < most_visits && matches.count < kMaxMatches; ++visits) {
      if (next - begin_ >= size ())
        break;
      const int length = in_common (tail, next);
      if (length >= std::max (least, shortest) && length <= longest)
        matches.items[static_cast<size_t> (matches.count++)] = {next, length};
      const uint32_t back = block (next).links[order][next % kBlockTokens];
      if (back == 0 || back > next - begin_)
        break;
      next -= back;
    }
  }
  return matches;
}

size_t
TokenIndex::bytes () const
{
  size_t bytes =
      sizeof (*this) + blocks_.capacity () * sizeof (blocks_[0]) + blocks_.size () * sizeof (Block);
  for (const auto &heads : heads_)
    bytes += heads.capacity () * sizeof (heads[0]);
  return bytes;
}

} // namespace millrace
