// What the files that make panels of rows share. Layouts: kernels.hpp. Private to the files of formats.hpp; pure functions.
#pragma once

#include "engine/backend/cpu/affine_format.hpp"
#include "engine/backend/cpu/memory.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace millrace::cpu
{

constexpr size_t kLine = 64;
constexpr int kStep = 4; ///< columns of a step
constexpr int kSteps = kGroup / kStep;
constexpr int kWord = 4; ///< bytes of a row in a vector
constexpr int kVectorBytes = kPanelRows * kWord;
constexpr int kNibbleWords = 4; ///< words of 32 nibbles

inline uint32_t
load_word (const std::byte *data)
{
  uint32_t word;
  std::memcpy (&word, data, sizeof word); // blocks in files need not be aligned
  return word;
}

inline void
store_word (std::byte *out, uint32_t word)
{
  std::memcpy (out, &word, sizeof word);
}

/// Of float16 scales of 32 columns each.
inline size_t
scale_bytes (int columns)
{
  return round_up (static_cast<size_t> (columns / kGroup) * kPanelRows * sizeof (uint16_t), kLine);
}

/// Of kMXFP4's scales.
inline size_t
exponent_bytes (int columns)
{
  return round_up (static_cast<size_t> (columns / kGroup) * kPanelRows, kLine);
}

/// The nibbles of 32 elements, given as words of steps 0 … 7 in the low 4 bits of each byte.
inline void
store_nibbles (std::byte *vectors, int row, const uint32_t *steps)
{
  for (int v = 0; v < kNibbleWords; ++v)
    store_word (vectors + v * kVectorBytes + row * kWord, steps[v] | steps[v + kNibbleWords] << 4);
}

/// A row's codes of 32 columns, given as words of steps 0 … 7, a byte each.
void store_codes (std::byte *vectors, int bits, int row, const uint32_t *steps);

/// What comes before the codes of a super-block: scales and minima of a block of Q4_K or Q5_K. Adds to zeros.
void pack_q4k_scales (const std::byte *block, int row, std::byte *panel);

size_t affine_panel_bytes (const AffineFormat &affine, int columns);

// A row of blocks of a type → row `row` of a panel; of kAffine's: Q4_1 and Q5_1.
void pack_q5 (const std::byte *blocks, int row, int columns, std::byte *panel);
void pack_iq4nl (const std::byte *blocks, int row, int columns, std::byte *panel);
void pack_mxfp4 (const std::byte *blocks, int row, int columns, std::byte *panel);
void pack_q41 (const std::byte *blocks, int row, int columns, std::byte *panel);
void pack_q51 (const std::byte *blocks, int row, int columns, std::byte *panel);
void pack_q2k (const std::byte *blocks, int row, int columns, std::byte *panel);
void pack_q3k (const std::byte *blocks, int row, int columns, std::byte *panel);
void pack_q5k (const std::byte *blocks, int row, int columns, std::byte *panel);

} // namespace millrace::cpu
