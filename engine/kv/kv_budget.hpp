// How a budget in bytes is divided into blocks of each kind.
#pragma once

#include "engine/kv/kv_layout.hpp"

#include <cstddef>

namespace millrace
{

struct KvDemand {
  size_t bytes = 0;
  int max_batch = 1;     ///< sequences at a time
  int max_positions = 1; ///< of a sequence
  int chunk = 1;         ///< positions that one step computes for a sequence
};

/// Blocks of each group, as many as fit into `bytes` and max_batch sequences can use. Window groups get what all
/// sequences' windows need and a quarter of the rest for cached ones, recurrent groups states for all and
/// snapshots. Throws std::invalid_argument, with the numbers, when not even one small sequence fits.
BlockCounts divide_kv_memory (const KvLayout &layout, const KvDemand &demand);

} // namespace millrace
