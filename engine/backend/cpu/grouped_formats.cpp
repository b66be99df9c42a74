// Rows → panels of kQ5, kIQ4NL, kMXFP4 and the affine formats.
#include "engine/backend/cpu/formats.hpp"
#include "engine/backend/cpu/panel_packing.hpp"
#include "engine/weights/quantized_blocks.hpp"

namespace millrace::cpu
{

namespace
{

constexpr uint32_t kOnes = 0x01010101u, kTwos = 0x03030303u, kNibbles = 0x0f0f0f0fu;

/// Steps of 32 nibbles as blocks of 32 elements have them: byte j has elements j and j + 16.
void
load_nibbles (const std::byte *nibbles, uint32_t *steps)
{
  for (int v = 0; v < kNibbleWords; ++v) {
    const uint32_t both = load_word (nibbles + v * kWord);
    steps[v] = both & kNibbles;
    steps[v + kNibbleWords] = both >> 4 & kNibbles;
  }
}

/// Adds bit i of `bits` to element i, as its fifth.
void
add_fifth_bits (uint32_t bits, uint32_t *steps)
{
  for (int i = 0; i < kSteps; ++i, bits >>= kStep)
    steps[i] |= ((bits & 1) | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21) << 4;
}

/// 4- or 5-bit codes of a block of 32.
void
load_block_codes (const std::byte *codes, int bits, uint32_t *steps)
{
  load_nibbles (bits == 5 ? codes + 4 : codes, steps);
  if (bits == 5)
    add_fifth_bits (load_word (codes), steps);
}

/// Words with the bits of `plane`, which `shift` has in the lowest bits of bytes: steps 4 u + i beside each other.
void
store_pairs (std::byte *vectors, int row, const uint32_t *steps, int shift)
{
  for (int u = 0; u < 2; ++u) {
    uint32_t word = 0;
    for (int i = 0; i < 4; ++i)
      word |= (steps[4 * u + i] >> shift & kTwos) << 2 * i;
    store_word (vectors + u * kVectorBytes + row * kWord, word);
  }
}

void
store_bits (std::byte *vector, int row, const uint32_t *steps, int shift)
{
  uint32_t word = 0;
  for (int i = 0; i < kSteps; ++i)
    word |= (steps[i] >> shift & kOnes) << i;
  store_word (vector + row * kWord, word);
}

/// Blocks with a float16 scale and nothing else beside their codes.
void
pack_scaled (DType dtype, int bits, const std::byte *blocks, int row, int columns, std::byte *panel)
{
  std::byte *vectors = panel + scale_bytes (columns);
  const DTypeBlock block = dtype_block (dtype);
  for (int group = 0; group < columns / kGroup; ++group, blocks += block.bytes) {
    std::memcpy (panel + 2 * (group * kPanelRows + row), blocks, 2);
    uint32_t steps[kSteps];
    load_block_codes (blocks + 2, bits, steps);
    store_codes (vectors, bits, row, steps);
    vectors += bits * kVectorBytes;
  }
}

/// Blocks with a float16 scale and minimum.
void
pack_affine_blocks (DType dtype, int bits, const std::byte *blocks, int row, int columns, std::byte *panel)
{
  const DTypeBlock block = dtype_block (dtype);
  for (int group = 0; group < columns / kGroup; ++group, blocks += block.bytes) {
    std::memcpy (panel + 2 * row, blocks, 2);
    std::memcpy (panel + 2 * (kPanelRows + row), blocks + 2, 2);
    panel += 2 * 2 * kPanelRows;
    uint32_t steps[kSteps];
    load_block_codes (blocks + 4, bits, steps);
    store_codes (panel, bits, row, steps);
    panel += bits * kVectorBytes;
  }
}

/// Codes of a step from 4 · `bits` bits, the first in the lowest.
uint32_t
spread (uint64_t packed, int bits)
{
  const uint64_t mask = (1u << bits) - 1;
  uint64_t word = 0;
  for (int i = 0; i < kStep; ++i)
    word |= (packed >> bits * i & mask) << 8 * i;
  return static_cast<uint32_t> (word);
}

/// 32 codes of `bits` bits, one after the other.
void
load_packed_codes (const std::byte *packed, int bits, uint32_t *steps)
{
  for (int pair = 0; pair < kSteps / 2; ++pair, packed += bits) {
    uint64_t word = 0;
    for (int i = 0; i < bits; ++i)
      word |= std::to_integer<uint64_t> (packed[i]) << 8 * i;
    steps[2 * pair] = spread (word, bits);
    steps[2 * pair + 1] = spread (word >> kStep * bits, bits);
  }
}

} // namespace

void
store_codes (std::byte *vectors, int bits, int row, const uint32_t *steps)
{
  if (bits == 8) {
    for (int i = 0; i < kSteps; ++i)
      store_word (vectors + i * kVectorBytes + row * kWord, steps[i]);
    return;
  }
  if (bits < 4) {
    store_pairs (vectors, row, steps, 0);
    if (bits == 3)
      store_bits (vectors + 2 * kVectorBytes, row, steps, 2);
    return;
  }
  uint32_t low[kSteps];
  for (int i = 0; i < kSteps; ++i)
    low[i] = steps[i] & kNibbles;
  store_nibbles (vectors, row, low);
  vectors += kNibbleWords * kVectorBytes;
  if (bits == 5)
    store_bits (vectors, row, steps, 4);
  else if (bits == 6)
    store_pairs (vectors, row, steps, 4);
}

size_t
affine_panel_bytes (const AffineFormat &affine, int columns)
{
  const int group_bytes =
      2 * kPanelRows * scale_size (affine.scales) + affine.group / kGroup * affine.bits * kVectorBytes;
  return round_up (static_cast<size_t> (columns / affine.group) * static_cast<size_t> (group_bytes), kLine);
}

void
pack_affine (Format format, const AffineRow *rows, int row_count, int columns, std::byte *out)
{
  const AffineFormat affine = affine_of (format);
  const int size = scale_size (affine.scales);
  for (int row = 0; row < row_count; ++row) {
    AffineRow from = rows[row];
    std::byte *panel = out;
    for (int begin = 0; begin < columns; begin += affine.group, from.scales += size, from.biases += size) {
      std::memcpy (panel + row * size, from.scales, static_cast<size_t> (size));
      std::memcpy (panel + (kPanelRows + row) * size, from.biases, static_cast<size_t> (size));
      panel += 2 * kPanelRows * size;
      for (int i = 0; i < affine.group; i += kGroup) {
        uint32_t steps[kSteps];
        load_packed_codes (from.codes, affine.bits, steps);
        from.codes += affine.bits * kGroup / 8;
        store_codes (panel, affine.bits, row, steps);
        panel += affine.bits * kVectorBytes;
      }
    }
  }
}

void
pack_q5 (const std::byte *blocks, int row, int columns, std::byte *panel)
{
  pack_scaled (DType::kQ5_0, 5, blocks, row, columns, panel);
}

void
pack_iq4nl (const std::byte *blocks, int row, int columns, std::byte *panel)
{
  pack_scaled (DType::kIQ4NL, 4, blocks, row, columns, panel);
}

void
pack_mxfp4 (const std::byte *blocks, int row, int columns, std::byte *panel)
{
  std::byte *vectors = panel + exponent_bytes (columns);
  const DTypeBlock block = dtype_block (DType::kMXFP4);
  for (int group = 0; group < columns / kGroup; ++group, blocks += block.bytes) {
    panel[group * kPanelRows + row] = blocks[0];
    uint32_t steps[kSteps];
    load_nibbles (blocks + 1, steps);
    store_nibbles (vectors, row, steps);
    vectors += kNibbleWords * kVectorBytes;
  }
}

void
pack_q41 (const std::byte *blocks, int row, int columns, std::byte *panel)
{
  pack_affine_blocks (DType::kQ4_1, 4, blocks, row, columns, panel);
}

void
pack_q51 (const std::byte *blocks, int row, int columns, std::byte *panel)
{
  pack_affine_blocks (DType::kQ5_1, 5, blocks, row, columns, panel);
}

} // namespace millrace::cpu
