// Rows → panels of kQ2K, kQ3K and kQ5K. What the blocks have where: quantized_blocks.hpp.
#include "engine/backend/cpu/panel_packing.hpp"
#include "engine/tensor/dtype.hpp"
#include "engine/weights/quantized_blocks.hpp"

namespace millrace::cpu
{

namespace
{

constexpr int kGroups = kSuperBlock / kGroup;
constexpr uint32_t kOnes = 0x01010101u, kTwos = 0x03030303u, kNibbles = 0x0f0f0f0fu;

/// Where sub-block `sub` of a row stands in bytes [p][r][2].
int
entry (int row, int sub)
{
  return (sub / 2 * kPanelRows + row) * 2 + sub % 2;
}

/// Steps of group `group` of 32: pairs of bits as Q2_K and Q3_K have them.
void
load_pairs (const std::byte *codes, int group, uint32_t *steps)
{
  for (int i = 0; i < kSteps; ++i)
    steps[i] = load_word (codes + group / 4 * 32 + i * kWord) >> group % 4 * 2 & kTwos;
}

/// Adds the bits that 32 bytes have for group `group`, at `shift` of each code.
void
add_bits (const std::byte *bytes, int group, int shift, uint32_t *steps)
{
  for (int i = 0; i < kSteps; ++i)
    steps[i] |= (load_word (bytes + i * kWord) >> group & kOnes) << shift;
}

} // namespace

void
pack_q2k (const std::byte *blocks, int row, int columns, std::byte *panel)
{
  const DTypeBlock block = dtype_block (DType::kQ2K);
  for (int b = 0; b < columns / kSuperBlock; ++b, blocks += block.bytes, panel += kQ2KBytes) {
    std::memcpy (panel + 2 * row, blocks + 80, 2);
    std::memcpy (panel + 2 * (kPanelRows + row), blocks + 82, 2);
    for (int sub = 0; sub < 16; ++sub)
      panel[32 + entry (row, sub)] = blocks[sub];
    for (int group = 0; group < kGroups; ++group) {
      uint32_t steps[kSteps];
      load_pairs (blocks + 16, group, steps);
      store_codes (panel + 160 + group * 2 * kVectorBytes, 2, row, steps);
    }
  }
}

void
pack_q3k (const std::byte *blocks, int row, int columns, std::byte *panel)
{
  const DTypeBlock block = dtype_block (DType::kQ3K);
  for (int b = 0; b < columns / kSuperBlock; ++b, blocks += block.bytes, panel += kQ3KBytes) {
    int8_t scales[16];
    unpack_q3k_scales (blocks + 96, scales);
    for (int sub = 0; sub < 16; ++sub)
      panel[entry (row, sub)] = static_cast<std::byte> (scales[sub]);
    std::memcpy (panel + 128 + 2 * row, blocks + 108, 2);
    for (int group = 0; group < kGroups; ++group) {
      uint32_t steps[kSteps];
      load_pairs (blocks + 32, group, steps);
      add_bits (blocks, group, 2, steps);
      store_codes (panel + 160 + group * 3 * kVectorBytes, 3, row, steps);
    }
  }
}

void
pack_q5k (const std::byte *blocks, int row, int columns, std::byte *panel)
{
  const DTypeBlock block = dtype_block (DType::kQ5K);
  for (int b = 0; b < columns / kSuperBlock; ++b, blocks += block.bytes, panel += kQ5KBytes) {
    pack_q4k_scales (blocks, row, panel);
    for (int group = 0; group < kGroups; ++group) {
      uint32_t steps[kSteps];
      for (int i = 0; i < kSteps; ++i)
        steps[i] = load_word (blocks + 48 + group / 2 * 32 + i * kWord) >> group % 2 * 4 & kNibbles;
      add_bits (blocks + 16, group, 4, steps);
      store_codes (panel + 128 + group * 5 * kVectorBytes, 5, row, steps);
    }
  }
}

} // namespace millrace::cpu
