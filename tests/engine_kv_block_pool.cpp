// labels: unit
#include "engine/kv/block_pool.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

using namespace millrace;

namespace
{

TEST (BlockPool, gives_each_block_once_until_none_is_left)
{
  BlockPool pool (5);
  std::set<BlockId> blocks;
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ (pool.free (), 5 - i);
    blocks.insert (pool.allocate ());
  }
  EXPECT_EQ (blocks, (std::set<BlockId>{0, 1, 2, 3, 4}));
  EXPECT_EQ (pool.allocate (), -1);
  EXPECT_EQ (pool.used (), 5);
  EXPECT_EQ (pool.size (), 5);
}

TEST (BlockPool, counts_hold_through_random_use)
{
  const auto seed = static_cast<uint32_t> (test_seed ());
  SCOPED_TRACE ("seed " + std::to_string (seed));
  std::mt19937 random (seed);
  BlockPool pool (40);
  std::vector<BlockId> held;
  for (int i = 0; i < 5000; ++i) {
    if (random () % 2 && !held.empty ()) {
      const size_t victim = random () % held.size ();
      pool.release (held[victim]);
      held.erase (held.begin () + static_cast<std::ptrdiff_t> (victim));
    } else {
      const BlockId block = pool.allocate ();
      ASSERT_EQ (block == -1, held.size () == 40);
      if (block >= 0) {
        ASSERT_LT (block, 40);
        ASSERT_EQ (std::count (held.begin (), held.end (), block), 0) << "given twice";
        held.push_back (block);
      }
    }
    ASSERT_EQ (pool.used (), static_cast<int> (held.size ()));
    ASSERT_EQ (pool.free (), 40 - pool.used ());
  }
}

TEST (BlockPool, an_empty_pool_has_nothing_to_give)
{
  BlockPool pool (0);
  EXPECT_EQ (pool.allocate (), -1);
  EXPECT_EQ (pool.size (), 0);
}

TEST (BlockPool, blocks_for_rounds_up)
{
  EXPECT_EQ (blocks_for (0), 0);
  EXPECT_EQ (blocks_for (1), 1);
  EXPECT_EQ (blocks_for (kBlockTokens), 1);
  EXPECT_EQ (blocks_for (kBlockTokens + 1), 2);
}

} // namespace
