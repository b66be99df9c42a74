#include "engine/kv/block_pool.hpp"

#include <cassert>

namespace millrace
{

BlockPool::BlockPool (int blocks)
    : in_use_ (static_cast<size_t> (blocks), false)
{
  free_.reserve (in_use_.size ());
  for (BlockId block = blocks; block-- > 0;)
    free_.push_back (
        block); // the first to be given out is block 0, so that a light load touches little memory
}

BlockId
BlockPool::allocate ()
{
  if (free_.empty ())
    return -1;
  const BlockId block = free_.back ();
  free_.pop_back ();
  in_use_[static_cast<size_t> (block)] = true;
  return block;
}

void
BlockPool::release (BlockId block)
{
  assert (block >= 0 && block < size () && in_use_[static_cast<size_t> (block)]);
  in_use_[static_cast<size_t> (block)] = false;
  free_.push_back (block);
}

} // namespace millrace
