#include "engine/kv/kv_budget.hpp"

#include <stdexcept>
#include <string>

namespace millrace
{

namespace
{

constexpr int64_t kMostBlocks = 1 << 28;
constexpr int kCachedShare =
    4; ///< of positional blocks, how many have a window block beside them in the cache: 1 in …
constexpr int kSnapshotInterval = 32; ///< positional blocks for each snapshot of recurrent state

/// Blocks of each group that go with `positional` blocks of group 0.
BlockCounts
counts_for (const KvLayout &layout, const KvDemand &demand, int64_t positional)
{
  BlockCounts counts{};
  for (size_t g = 0; g < layout.size (); g++) {
    const KvGroup &group = layout[g];
    int64_t count = positional;
    if (group.kind == KvGroup::Kind::kWindow) {
      const int64_t window = blocks_for (group.window) + 2;
      count = std::min (positional,
                        window * demand.max_batch + blocks_for (demand.chunk) + positional / kCachedShare);
    } else if (group.kind == KvGroup::Kind::kRecurrent) {
      count = std::min<int64_t> (2 * int64_t{demand.max_batch}, std::max<int64_t> (2, positional / 8)) +
              positional / kSnapshotInterval;
    }
    counts[g] = static_cast<int> (count);
  }
  return counts;
}

size_t
bytes_of (const KvLayout &layout, const BlockCounts &counts)
{
  size_t total = 0;
  for (size_t g = 0; g < layout.size (); g++)
    total += layout[g].block_bytes * static_cast<size_t> (counts[g]);
  return total;
}

} // namespace

BlockCounts
divide_kv_memory (const KvLayout &layout, const KvDemand &demand)
{
  const auto bytes = [&] (int64_t positional) {
    return bytes_of (layout, counts_for (layout, demand, positional));
  };
  int64_t low = 0,
          high = std::min (static_cast<int64_t> (demand.max_batch) * blocks_for (demand.max_positions),
                           kMostBlocks);
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (bytes (middle) <= demand.bytes)
      low = middle;
    else
      high = middle - 1;
  }
  if (low == 0)
    throw std::invalid_argument ("kv-memory of " + std::to_string (demand.bytes) +
                                 " bytes holds no block of " + std::to_string (kBlockTokens) +
                                 " tokens: this model needs at least " + std::to_string (bytes (1)) +
                                 " bytes");
  return counts_for (layout, demand, low);
}

} // namespace millrace
