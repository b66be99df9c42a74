#include "engine/sampling/philox.hpp"

namespace millrace
{

namespace
{

// Multipliers and Weyl increments of the paper, §3.3 and table 2.
constexpr uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kIncrement0 = 0x9E3779B9, kIncrement1 = 0xBB67AE85;
constexpr int kRounds = 10;

} // namespace

std::array<uint32_t, 4>
philox4x32 (std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key)
{
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = uint64_t{kMultiplier0} * counter[0];
    const uint64_t product1 = uint64_t{kMultiplier1} * counter[2];
    counter = {static_cast<uint32_t> (product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t> (product1),
               static_cast<uint32_t> (product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t> (product0)};
    key[0] += kIncrement0;
    key[1] += kIncrement1;
  }
  return counter;
}

double
uniform (uint64_t seed, uint64_t position, uint32_t draw)
{
  const auto block =
      philox4x32 ({static_cast<uint32_t> (position), static_cast<uint32_t> (position >> 32), draw, 0},
                  {static_cast<uint32_t> (seed), static_cast<uint32_t> (seed >> 32)});
  const uint64_t bits = uint64_t{block[0]} << 32 | block[1];
  return static_cast<double> (bits >> 11) * 0x1p-53;
}

} // namespace millrace
