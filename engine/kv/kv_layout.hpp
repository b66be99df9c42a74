// How many blocks a sequence needs, by kind of layers: plain arithmetic, shared by cache and planner.
#pragma once

#include "engine/backend/backend.hpp"

#include <algorithm>
#include <array>

namespace millrace
{

using BlockCounts = std::array<int, kMaxKvGroups>; ///< of each group

/// Blocks that hold `tokens` positions.
constexpr int
blocks_for (int64_t tokens)
{
  return static_cast<int> ((tokens + kBlockTokens - 1) / kBlockTokens);
}

/// Entries of a sequence's block table once `length` positions can be written. Recurrent: the state and a checkpoint.
constexpr int
table_size (const KvGroup &group, int length)
{
  return group.kind == KvGroup::Kind::kRecurrent ? 2 : blocks_for (length);
}

/// The most blocks that a sequence of `length` positions holds at a time when at most `chunk` of them are computed
/// in one step.
constexpr int
most_blocks (const KvGroup &group, int length, int chunk)
{
  if (group.kind != KvGroup::Kind::kWindow)
    return table_size (group, length);
  return std::min (blocks_for (length), blocks_for (static_cast<int64_t> (group.window) + chunk) + 1);
}

} // namespace millrace
