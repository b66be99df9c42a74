#include "engine/backend/cpu/formats.hpp"

#include "engine/backend/cpu/affine_format.hpp"
#include "engine/backend/cpu/memory.hpp"
#include "engine/backend/cpu/panel_packing.hpp"
#include "engine/weights/quantized_blocks.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

namespace millrace::cpu
{

namespace
{

/// Of a format that is not affine.
struct FormatFacts {
  const char *name;
  std::optional<DType> blocks; ///< the block type that has its elements
  void (*pack) (const std::byte *blocks, int row, int columns, std::byte *panel);
  int super_bytes; ///< of a super-block, or 0
};

size_t
float_bytes (Format format)
{
  return format == Format::kF32 ? sizeof (float) : sizeof (uint16_t);
}

/// `count` (1 … kRun) stored floats → a row's run; what is missing of it stays or becomes 0. BF16: element i beside i + 8, see Format.
inline void
store_run (Format format, const void *elements, int count, std::byte *out)
{
  if (format != Format::kBF16) {
    std::memcpy (out, elements, static_cast<size_t> (count) * float_bytes (format));
    return;
  }
  uint16_t halves[kRun] = {};
  std::memcpy (halves, elements, static_cast<size_t> (count) * sizeof (uint16_t));
  uint32_t words[kRun / 2];
  for (int i = 0; i < kRun / 2; ++i)
    words[i] = halves[i] | static_cast<uint32_t> (halves[i + kRun / 2]) << 16;
  std::memcpy (out, words, sizeof words);
}

void
pack_q8 (const std::byte *blocks, int row, int columns, std::byte *panel)
{
  std::byte *quants = panel + scale_bytes (columns);
  const DTypeBlock block = dtype_block (DType::kQ8_0);
  for (int group = 0; group < columns / kGroup; ++group, blocks += block.bytes) {
    std::memcpy (panel + 2 * (group * kPanelRows + row), blocks, 2);
    for (int step = 0; step < kGroup / kStep; ++step, quants += kVectorBytes)
      std::memcpy (quants + row * kWord, blocks + 2 + step * kStep, kWord);
  }
}

// A block's bytes hold elements i and i + 16, as a row's word of a vector does.
void
pack_q4 (const std::byte *blocks, int row, int columns, std::byte *panel)
{
  std::byte *quants = panel + scale_bytes (columns);
  const DTypeBlock block = dtype_block (DType::kQ4_0);
  for (int group = 0; group < columns / kGroup; ++group, blocks += block.bytes) {
    std::memcpy (panel + 2 * (group * kPanelRows + row), blocks, 2);
    for (int v = 0; v < kNibbleWords; ++v, quants += kVectorBytes)
      std::memcpy (quants + row * kWord, blocks + 2 + v * kWord, kWord);
  }
}

void
pack_q4k (const std::byte *blocks, int row, int columns, std::byte *panel)
{
  const DTypeBlock block = dtype_block (DType::kQ4K);
  for (int b = 0; b < columns / kSuperBlock; ++b, blocks += block.bytes, panel += kQ4KBytes) {
    pack_q4k_scales (blocks, row, panel);

    // 32 bytes hold two sub-blocks: one in their low, one in their high nibbles.
    const std::byte *q = blocks + 16;
    std::byte *vectors = panel + 128;
    for (int pair = 0; pair < 4; ++pair, q += 32) {
      for (const int shift : {0, 4}) {
        uint32_t steps[8];
        for (int i = 0; i < 8; ++i)
          steps[i] = load_word (q + i * kWord) >> shift & 0x0f0f0f0fu;
        store_nibbles (vectors, row, steps);
        vectors += kNibbleWords * kVectorBytes;
      }
    }
  }
}

void
pack_q6k (const std::byte *blocks, int row, int columns, std::byte *panel)
{
  constexpr int kGroupVectors = kNibbleWords + 2;
  const DTypeBlock block = dtype_block (DType::kQ6K);
  for (int b = 0; b < columns / kSuperBlock; ++b, blocks += block.bytes, panel += kQ6KBytes) {
    const std::byte *high = blocks + 128, *scales = blocks + 192;
    for (int s = 0; s < 16; ++s)
      panel[(s / 2 * kPanelRows + row) * 2 + s % 2] = scales[s];
    std::memcpy (panel + 128 + 2 * row, blocks + 208, 2);

    std::byte *vectors = panel + 160;
    for (int group = 0; group < 8; ++group, vectors += kGroupVectors * kVectorBytes) {
      // Quarter of a half: which nibble, and which two bits (quantized_blocks.hpp).
      const int half = group / 4, quarter = group % 4;
      const std::byte *low = blocks + half * 64 + quarter % 2 * 32;
      const std::byte *bits = high + half * 32;
      uint32_t steps[8], tops[2] = {};
      for (int i = 0; i < 8; ++i) {
        steps[i] = load_word (low + i * kWord) >> (quarter < 2 ? 0 : 4) & 0x0f0f0f0fu;
        tops[i / 4] |= (load_word (bits + i * kWord) >> 2 * quarter & 0x03030303u) << 2 * (i % 4);
      }
      store_nibbles (vectors, row, steps);
      for (int u = 0; u < 2; ++u)
        store_word (vectors + (kNibbleWords + u) * kVectorBytes + row * kWord, tops[u]);
    }
  }
}

constexpr FormatFacts kFacts[] = {{"f32", {}, nullptr, 0},
                                  {"f16", {}, nullptr, 0},
                                  {"bf16", {}, nullptr, 0},
                                  {"int8", DType::kQ8_0, pack_q8, 0},
                                  {"q4_0", DType::kQ4_0, pack_q4, 0},
                                  {"q4_k", DType::kQ4K, pack_q4k, kQ4KBytes},
                                  {"q6_k", DType::kQ6K, pack_q6k, kQ6KBytes},
                                  {"q5_0", DType::kQ5_0, pack_q5, 0},
                                  {"iq4_nl", DType::kIQ4NL, pack_iq4nl, 0},
                                  {"mxfp4", DType::kMXFP4, pack_mxfp4, 0},
                                  {"q2_k", DType::kQ2K, pack_q2k, kQ2KBytes},
                                  {"q3_k", DType::kQ3K, pack_q3k, kQ3KBytes},
                                  {"q5_k", DType::kQ5K, pack_q5k, kQ5KBytes}};
static_assert (std::size (kFacts) == static_cast<size_t> (Format::kAffine));

/// Affine formats whose rows block types have, too.
constexpr Format kQ41Format = affine_format ({4, kGroup, ScaleType::kF16});
constexpr Format kQ51Format = affine_format ({5, kGroup, ScaleType::kF16});

/// Null for affine formats.
const FormatFacts *
facts (Format format)
{
  return is_affine (format) ? nullptr : &kFacts[static_cast<size_t> (format)];
}

/// "affine4/64 bf16"
std::vector<std::string>
affine_names ()
{
  static constexpr const char *kScales[kScaleTypes] = {"f16", "bf16", "f32"};
  std::vector<std::string> names;
  for (int i = 0; i < kAffineFormats; ++i) {
    const AffineFormat affine = affine_of (static_cast<Format> (static_cast<int> (Format::kAffine) + i));
    names.push_back ("affine" + std::to_string (affine.bits) + "/" + std::to_string (affine.group) + " " +
                     kScales[static_cast<int> (affine.scales)]);
  }
  return names;
}

} // namespace

void
pack_q4k_scales (const std::byte *blocks, int row, std::byte *panel)
{
  std::memcpy (panel + 2 * row, blocks, 2);
  std::memcpy (panel + 2 * (kPanelRows + row), blocks + 2, 2);

  uint8_t scales[8], minima[8];
  unpack_q4k_scales (blocks + 4, scales, minima);
  std::byte *packed = panel + 4 * kPanelRows, *low_minima = packed + 64;
  for (int s = 0; s < 8; ++s) {
    const int entry = (s / 2 * kPanelRows + row) * 2 + s % 2;
    packed[entry] = std::byte (scales[s] | (minima[s] >> 4) << 6);
    low_minima[entry % 32] |= std::byte ((minima[s] & 15) << (entry < 32 ? 0 : 4));
  }
}

bool
is_quantized (Format format)
{
  return is_affine (format) || facts (format)->blocks;
}

Activations
activations_of (const KernelTable &kernels, Format format)
{
  return kernels.activations[static_cast<size_t> (format)];
}

const char *
format_name (Format format)
{
  static const std::vector<std::string> affine = affine_names ();
  return is_affine (format)
             ? affine[static_cast<size_t> (format) - static_cast<size_t> (Format::kAffine)].c_str ()
             : facts (format)->name;
}

int
padded_columns (Format format, int inputs)
{
  int multiple = kPad;
  if (is_affine (format))
    multiple = affine_of (format).group;
  else if (facts (format)->super_bytes > 0)
    multiple = kSuperBlock;
  return static_cast<int> (round_up (static_cast<size_t> (inputs), static_cast<size_t> (multiple)));
}

size_t
panel_bytes (Format format, int columns)
{
  const auto count = static_cast<size_t> (columns);
  if (is_affine (format))
    return affine_panel_bytes (affine_of (format), columns);
  if (const int super_bytes = facts (format)->super_bytes)
    return count / kSuperBlock * static_cast<size_t> (super_bytes);
  switch (format) {
  case Format::kF16:
  case Format::kBF16:
    return 2 * count * kPanelRows;
  case Format::kQ8:
    return scale_bytes (columns) + count * kPanelRows;
  case Format::kQ4:
  case Format::kIQ4NL:
    return scale_bytes (columns) + count * kPanelRows / 2;
  case Format::kQ5:
    return round_up (scale_bytes (columns) + count * kPanelRows * 5 / 8, kLine);
  case Format::kMXFP4:
    return exponent_bytes (columns) + count * kPanelRows / 2;
  default:
    return sizeof (float) * count * kPanelRows;
  }
}

size_t
activation_bytes (Activations kind, int columns)
{
  const auto count = static_cast<size_t> (columns);
  switch (kind) {
  case Activations::kFloat:
    break;
  case Activations::kWide32:
    return round_up (2 * count + count / kGroup * sizeof (float), kLine);
  case Activations::kByte32:
    return round_up (count + count / kGroup * (sizeof (float) + sizeof (int32_t)), kLine);
  case Activations::kByte256:
    return round_up (
        count + count / kSuperBlock * sizeof (float) + (count / 16 + count / 32) * sizeof (int16_t), kLine);
  }
  return 0;
}

void
pack_row (Format format, const float *values, int count, int row, std::byte *panel)
{
  const size_t run_bytes = float_bytes (format) * kRun;
  std::byte *out = panel + static_cast<size_t> (row) * run_bytes;
  for (int begin = 0; begin < count; begin += kRun, out += kPanelRows * run_bytes) {
    const int size = std::min (kRun, count - begin);
    if (format == Format::kF32) {
      store_run (format, values + begin, size, out);
      continue;
    }
    uint16_t halves[kRun];
    for (int i = 0; i < size; ++i)
      halves[i] = format == Format::kF16 ? f32_to_f16 (values[begin + i]) : f32_to_bf16 (values[begin + i]);
    store_run (format, halves, size, out);
  }
}

bool
same_floats (Format format, DType dtype)
{
  return (format == Format::kF32 && dtype == DType::kF32) ||
         (format == Format::kF16 && dtype == DType::kF16) ||
         (format == Format::kBF16 && dtype == DType::kBF16);
}

void
pack_floats (Format format, const std::byte *const *rows, int row_count, int count, std::byte *panel)
{
  const size_t element = float_bytes (format), run_bytes = element * kRun;
  for (int begin = 0; begin < count; begin += kRun, panel += kPanelRows * run_bytes) {
    const size_t at = static_cast<size_t> (begin) * element;
    for (int row = 0; row < row_count; ++row) {
      std::byte *out = panel + static_cast<size_t> (row) * run_bytes;
      if (count - begin >= kRun)
        store_run (format, rows[row] + at, kRun, out);
      else
        store_run (format, rows[row] + at, count - begin, out);
    }
  }
}

std::optional<DType>
block_type (Format format)
{
  if (format == kQ41Format)
    return DType::kQ4_1;
  if (format == kQ51Format)
    return DType::kQ5_1;
  return is_affine (format) ? std::nullopt : facts (format)->blocks;
}

std::optional<Format>
format_of_blocks (DType dtype)
{
  for (int i = 0; i < kFormats; ++i)
    if (block_type (static_cast<Format> (i)) == dtype)
      return static_cast<Format> (i);
  return std::nullopt;
}

void
pack_panel (Format format, const std::byte *const *rows, int row_count, int columns, std::byte *out)
{
  const auto pack = format == kQ41Format ? pack_q41 : format == kQ51Format ? pack_q51 : facts (format)->pack;
  for (int row = 0; row < row_count; ++row)
    pack (rows[row], row, columns, out);
}

} // namespace millrace::cpu
