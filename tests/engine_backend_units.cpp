// labels: unit
//
// How products are cut for threads: each row meets each token once, and no part is much smaller than the others.
#include "engine/backend/cpu/units.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

using namespace millrace;
using namespace millrace::cpu;

namespace
{

constexpr int kTokenCounts[] = {1, 2, 16, 17, 127, 128, 129, 132, 255, 256, 257, 260, 511, 512, 513, 1000};

/// What is done when threads take `step` units at once.
std::vector<Tile>
tiles_of (const Units &units, int outputs, int step)
{
  std::vector<Tile> tiles;
  const int count = units.of (outputs);
  for (int begin = 0; begin < count; begin += step) {
    const int end = std::min (count, begin + step);
    for (int unit = begin; unit < end;) {
      tiles.push_back (units.tile (unit, end, outputs));
      unit += tiles.back ().units;
    }
  }
  return tiles;
}

TEST (Units, each_row_meets_each_token_once)
{
  for (const int most : {128, 256}) {
    for (const int tokens : kTokenCounts) {
      for (const int outputs : {1, 8, 47, 48, 49, 200}) {
        for (const int step : {1, 3, 7}) {
          std::vector<int> met (static_cast<size_t> (outputs * tokens));
          for (const Tile &tile : tiles_of (Units (tokens, most), outputs, step)) {
            ASSERT_GE (tile.units, 1);
            ASSERT_LE (tile.tokens, most);
            ASSERT_LE (tile.row + tile.rows, outputs);
            ASSERT_LE (tile.token + tile.tokens, tokens);
            for (int token = tile.token; token < tile.token + tile.tokens; ++token)
              for (int row = tile.row; row < tile.row + tile.rows; ++row)
                ++met[static_cast<size_t> (token * outputs + row)];
          }
          EXPECT_EQ (std::ranges::count (met, 1), std::ssize (met))
              << tokens << " tokens, " << outputs << " rows, steps of " << step << ", at most " << most;
        }
      }
    }
  }
}

// A last part of a few tokens would read all weights for them.
TEST (Units, parts_have_equal_numbers_of_tokens)
{
  for (const int most : {128, 256}) {
    for (const int tokens : kTokenCounts) {
      int fewest = tokens, largest = 0;
      for (const Tile &tile : tiles_of (Units (tokens, most), 48, 1)) {
        fewest = std::min (fewest, tile.tokens);
        largest = std::max (largest, tile.tokens);
      }
      EXPECT_LE (largest - fewest, tokens / most) << tokens << " tokens, at most " << most;
    }
  }
}

} // namespace
