// Super-blocks of 256 elements whose sub-blocks of 16 have a scale with a sign, and no minimum: Q3_K, Q6_K.
#include "engine/weights/block_families.hpp"
#include "engine/weights/block_fitting.hpp"
#include "engine/weights/quantized_blocks.hpp"

#include <array>

namespace millrace
{

namespace blocks
{

namespace
{

constexpr int kCount = 256;
constexpr int kGroup = 16; ///< elements of a scale
constexpr int kGroups = 16;

// Each type: codes 0 … 2 · kBound - 1 that mean -kBound … kBound - 1, scales -kScaleBound … kScaleBound - 1, and where the
// block has what. put_code () and put_scale () add to zeros.

struct Q3K {
  static constexpr int kBound = 4, kScaleBound = 32, kD = 108, kBytes = 110;
  static constexpr int kTops = 0, kCodes = 32, kScales = 96;

  static int code (const std::byte *block, int i)
  {
    const int low = byte_at (block, kCodes + i / 128 * 32 + i % 32) >> i % 128 / 32 * 2 & 3;
    return low | (byte_at (block, kTops + i % 32) >> i / 32 & 1) << 2;
  }
  static void put_code (std::byte *block, int i, int q)
  {
    block[kCodes + i / 128 * 32 + i % 32] |= static_cast<std::byte> ((q & 3) << i % 128 / 32 * 2);
    block[kTops + i % 32] |= static_cast<std::byte> (q >> 2 << i / 32);
  }
  static void get_scales (const std::byte *block, int8_t *scales)
  {
    unpack_q3k_scales (block + kScales, scales);
  }
  static void put_scale (std::byte *block, int group, int scale)
  {
    const int bits = scale + 32;
    block[kScales + group % 8] |= static_cast<std::byte> ((bits & 15) << group / 8 * 4);
    block[kScales + 8 + group % 4] |= static_cast<std::byte> (bits >> 4 << group / 4 * 2);
  }
};

struct Q6K {
  static constexpr int kBound = 32, kScaleBound = 128, kD = 208, kBytes = 210;
  static constexpr int kTops = 128, kScales = 192;

  static int low_byte (int i) { return i / 128 * 64 + i % 64; }
  static int low_shift (int i) { return i % 128 / 64 * 4; }
  static int top_byte (int i) { return kTops + i / 128 * 32 + i % 32; }
  static int top_shift (int i) { return i % 128 / 32 * 2; }

  static int code (const std::byte *block, int i)
  {
    return (byte_at (block, low_byte (i)) >> low_shift (i) & 15) |
           (byte_at (block, top_byte (i)) >> top_shift (i) & 3) << 4;
  }
  static void put_code (std::byte *block, int i, int q)
  {
    block[low_byte (i)] |= static_cast<std::byte> ((q & 15) << low_shift (i));
    block[top_byte (i)] |= static_cast<std::byte> (q >> 4 << top_shift (i));
  }
  static void get_scales (const std::byte *block, int8_t *scales)
  {
    for (int group = 0; group < kGroups; ++group)
      scales[group] = static_cast<int8_t> (byte_at (block, kScales + group));
  }
  static void put_scale (std::byte *block, int group, int scale)
  {
    block[kScales + group] = static_cast<std::byte> (static_cast<int8_t> (scale));
  }
};

template <typename Type>
void
dequantize (const std::byte *block, float *out)
{
  const float d = half_at (block + Type::kD);
  int8_t scales[kGroups];
  Type::get_scales (block, scales);
  for (int i = 0; i < kCount; ++i)
    out[i] = d * scales[i / kGroup] * static_cast<float> (Type::code (block, i) - Type::kBound);
}

template <int kBound>
float
scale_error (const float *x, float scale)
{
  const float inverse = inverse_of (scale);
  Floats error{};
  for (int i = 0; i < kGroup; i += kLanes) {
    const Floats value = load (x + i);
    const Floats difference = scale * nearest_within (value * inverse, -kBound, kBound - 1) - value;
    error += difference * difference;
  }
  return total (error);
}

/// The scale of least squares for the elements that `scale` gives.
template <int kBound>
float
refit_scale (const float *x, float scale)
{
  const float inverse = inverse_of (scale);
  Floats lanes_qq{}, lanes_qx{};
  for (int i = 0; i < kGroup; i += kLanes) {
    const Floats value = load (x + i);
    const Floats q = nearest_within (value * inverse, -kBound, kBound - 1);
    lanes_qq += q * q;
    lanes_qx += q * value;
  }
  const float sum_qq = total (lanes_qq), sum_qx = total (lanes_qx);
  return sum_qq > 0 ? sum_qx / sum_qq : 0;
}

template <int kBound>
float
fit_scale (const float *x)
{
  constexpr int kStarts = 12;
  const float largest = extreme (x, kGroup);
  float best = 0, least = scale_error<kBound> (x, 0);
  for (int start = 0; start < kStarts && largest != 0; ++start) {
    // The extreme element at -30.5 … -33.25 of 32: clipping the range a little may pay.
    const float first = largest / -(kBound - 1.5f + 0.25f * static_cast<float> (start));
    for (const float scale : {first, refit_scale<kBound> (x, first)}) {
      const float error = scale_error<kBound> (x, scale);
      if (error < least) {
        least = error;
        best = scale;
      }
    }
  }
  return best;
}

/// Of the stored scale and its neighbours, that of least error.
template <typename Type>
int
stored_scale (const float *x, float d, float wished)
{
  constexpr int kLeast = -Type::kScaleBound, kMost = Type::kScaleBound - 1;
  const int nearest_one = static_cast<int> (nearest_within (wished * inverse_of (d), kLeast, kMost));
  int best = nearest_one;
  float least = INFINITY;
  for (int scale = std::max (nearest_one - 1, kLeast); scale <= std::min (nearest_one + 1, kMost); ++scale) {
    const float error = scale_error<Type::kBound> (x, d * static_cast<float> (scale));
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

template <typename Type>
void
quantize (const float *values, std::byte *block)
{
  std::memset (block, 0, Type::kBytes);
  std::array<float, kGroups> scales;
  for (int group = 0; group < kGroups; ++group)
    scales[group] = fit_scale<Type::kBound> (values + group * kGroup);
  const float d = put_half_above (extreme (scales.data (), kGroups) / -Type::kScaleBound, block + Type::kD);
  for (int group = 0; group < kGroups; ++group) {
    const float *x = values + group * kGroup;
    const int scale = stored_scale<Type> (x, d, scales[group]);
    Type::put_scale (block, group, scale);
    const float inverse = inverse_of (d * static_cast<float> (scale));
    for (int i = 0; i < kGroup; ++i) {
      const float q = nearest_within (x[i] * inverse, -Type::kBound, Type::kBound - 1);
      Type::put_code (block, group * kGroup + i, static_cast<int> (q) + Type::kBound);
    }
  }
}

} // namespace

BlockCode
scale_block (DType dtype)
{
  switch (dtype) {
  case DType::kQ3K:
    return {dequantize<Q3K>, quantize<Q3K>};
  case DType::kQ6K:
    return {dequantize<Q6K>, quantize<Q6K>};
  default:
    return {};
  }
}

} // namespace blocks

void
unpack_q3k_scales (const std::byte *packed, int8_t scales[16])
{
  using blocks::byte_at;
  for (int group = 0; group < 16; ++group) {
    const int low = byte_at (packed, group % 8) >> group / 8 * 4 & 15;
    const int high = byte_at (packed, 8 + group % 4) >> group / 4 * 2 & 3;
    scales[group] = static_cast<int8_t> ((low | high << 4) - 32);
  }
}

} // namespace millrace
