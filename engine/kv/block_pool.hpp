// Which KV blocks are free. The memory behind them belongs to the backend.
//
// One thread. allocate () and release () never allocate memory.
#pragma once

#include "engine/kv/kv_layout.hpp"

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
  bool is_free (BlockId block) const { return !in_use_[static_cast<size_t> (block)]; }
  /// `block` must be allocated.
  void release (BlockId block);

private:
  std::vector<BlockId> free_;
  std::vector<bool> in_use_;
};

} // namespace millrace
