// Philox against the published known answers, and the uniform numbers made of it.
//
// labels: unit
#include "engine/sampling/philox.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

using namespace millrace;

TEST (Philox, gives_the_known_answers_of_random123)
{
  // tests/kat_vectors of Random123, "philox4x32 10".
  using Block = std::array<uint32_t, 4>;
  EXPECT_EQ (philox4x32 ({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ (philox4x32 ({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
             (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ (philox4x32 ({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
             (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST (Philox, uniform_is_the_upper_53_bits_of_the_first_two_words)
{
  EXPECT_EQ (uniform (0, 0, 0), std::ldexp (static_cast<double> (0x6627e8d5e169c58dull >> 11), -53));
  // Counter (position low, position high, draw, 0), key (seed low, seed high).
  const auto block = philox4x32 ({0x55667788, 0x11223344, 7, 0}, {0xddeeff00, 0x99aabbcc});
  const uint64_t bits = uint64_t{block[0]} << 32 | block[1];
  EXPECT_EQ (uniform (0x99aabbccddeeff00, 0x1122334455667788, 7),
             std::ldexp (static_cast<double> (bits >> 11), -53));
}

TEST (Philox, uniform_differs_by_seed_position_and_draw_and_is_even)
{
  std::set<double> seen;
  double sum = 0, sum_of_squares = 0;
  constexpr int kSide = 40;
  for (uint64_t seed = 0; seed < kSide; ++seed) {
    for (uint64_t position = 0; position < kSide; ++position) {
      for (uint32_t draw = 0; draw < kSide; ++draw) {
        const double u = uniform (seed, position, draw);
        ASSERT_GE (u, 0);
        ASSERT_LT (u, 1);
        seen.insert (u);
        sum += u;
        sum_of_squares += u * u;
      }
    }
  }
  constexpr double kCount = kSide * kSide * kSide;
  EXPECT_EQ (seen.size (), static_cast<size_t> (kCount));
  // Standard errors: 0.289 and 0.298 over the root of the count.
  EXPECT_NEAR (sum / kCount, 0.5, 5 * 0.289 / std::sqrt (kCount));
  EXPECT_NEAR (sum_of_squares / kCount, 1.0 / 3, 5 * 0.298 / std::sqrt (kCount));
}
