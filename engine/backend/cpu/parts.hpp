// How work on rows is cut for the threads: parts of a fixed size, or none at all when one thread is faster.
#pragma once

#include "engine/tensor/thread_pool.hpp"

#include <algorithm>
#include <cstdint>

namespace millrace::cpu
{

constexpr int kInlineCost = 1 << 15; ///< multiply-adds below which one thread is faster than several
constexpr int kPartCost = 1 << 14;   ///< about this much work in a part of row-wise operations

constexpr int
parts_of (int count, int size)
{
  return (count + size - 1) / size;
}

/// Calls work (part, lane) for each part; by several threads when their cost together, in multiply-adds, is worth it.
template <typename F>
void
run_parts (ThreadPool &pool, int parts, int64_t cost, F &&work)
{
  if (cost >= kInlineCost) {
    pool.run (parts, work);
    return;
  }
  for (int part = 0; part < parts; ++part)
    work (part, 0);
}

/// Calls work (row) for each row.
template <typename F>
void
for_rows (ThreadPool &pool, int rows, int row_cost, F &&work)
{
  const int part_rows = std::max (1, kPartCost / std::max (1, row_cost));
  run_parts (pool, parts_of (rows, part_rows), static_cast<int64_t> (rows) * row_cost, [&] (int part, int) {
    const int end = std::min (rows, (part + 1) * part_rows);
    for (int row = part * part_rows; row < end; ++row)
      work (row);
  });
}

} // namespace millrace::cpu
