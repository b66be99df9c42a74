// Which KV blocks are free. The memory behind them belongs to the backend.
//
// One thread. allocate () and release () never allocate memory.
#pragma once

#include "engine/backend/backend.hpp"

#include <vector>

namespace millrace
{

class BlockPool
{
public:
  explicit BlockPool (int blocks);

  int size () const { return static_cast<int> (in_use_.size ()); }
  int free () const { return static_cast<int> (free_.size ()); }
  int used () const { return size () - free (); }

  /// -1 when there is none. The lowest-numbered released block is not promised.
  BlockId allocate ();
  /// `block` must be allocated.
  void release (BlockId block);

private:
  std::vector<BlockId> free_;
  std::vector<bool> in_use_;
};

/// Blocks that hold `tokens` positions.
constexpr int
blocks_for (int64_t tokens)
{
  return static_cast<int> ((tokens + kBlockTokens - 1) / kBlockTokens);
}

} // namespace millrace
