// Counter-based random numbers: a pure function of (seed, position, draw).
//
// Philox4x32-10. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <array>
#include <cstdint>

namespace millrace
{

/// One Philox4x32-10 block.
std::array<uint32_t, 4> philox4x32 (std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// Uniform in [0, 1) with 53 bits: the upper ones of (word 0, word 1) of the block with key = seed and
/// counter = (position low, position high, draw, 0).
double uniform (uint64_t seed, uint64_t position, uint32_t draw);

} // namespace millrace
