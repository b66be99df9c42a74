// Super-blocks of 256 elements whose sub-blocks have a scale and a minimum: Q2_K, Q4_K, Q5_K.
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

void
pack_6_bit_scales (const uint8_t *scales, const uint8_t *minima, std::byte *packed)
{
  for (int i = 0; i < 4; ++i) {
    packed[i] = static_cast<std::byte> (scales[i] | (scales[i + 4] >> 4) << 6);
    packed[i + 4] = static_cast<std::byte> (minima[i] | (minima[i + 4] >> 4) << 6);
    packed[i + 8] = static_cast<std::byte> ((scales[i + 4] & 15) | (minima[i + 4] & 15) << 4);
  }
}

// Each type: sub-blocks, ranges, and where the block has what. put_code () adds to zeros.

struct Q2K {
  static constexpr int kSub = 16, kMost = 3, kMostScale = 15, kD = 80, kCodes = 16, kBytes = 84;

  static void get_scales (const std::byte *block, uint8_t *scales, uint8_t *minima)
  {
    for (int i = 0; i < kCount / kSub; ++i) {
      scales[i] = byte_at (block, i) & 15;
      minima[i] = byte_at (block, i) >> 4;
    }
  }
  static void put_scales (const uint8_t *scales, const uint8_t *minima, std::byte *block)
  {
    for (int i = 0; i < kCount / kSub; ++i)
      block[i] = static_cast<std::byte> (scales[i] | minima[i] << 4);
  }
  static int code (const std::byte *block, int i)
  {
    return byte_at (block, kCodes + i / 128 * 32 + i % 32) >> i % 128 / 32 * 2 & 3;
  }
  static void put_code (std::byte *block, int i, int q)
  {
    block[kCodes + i / 128 * 32 + i % 32] |= static_cast<std::byte> (q << i % 128 / 32 * 2);
  }
};

struct Q4K {
  static constexpr int kSub = 32, kMost = 15, kMostScale = 63, kD = 0, kCodes = 16, kBytes = 144;

  static void get_scales (const std::byte *block, uint8_t *scales, uint8_t *minima)
  {
    unpack_q4k_scales (block + 4, scales, minima);
  }
  static void put_scales (const uint8_t *scales, const uint8_t *minima, std::byte *block)
  {
    pack_6_bit_scales (scales, minima, block + 4);
  }
  static int code (const std::byte *block, int i)
  {
    const int pair = byte_at (block, kCodes + i / 64 * 32 + i % 32);
    return i % 64 < 32 ? pair & 15 : pair >> 4;
  }
  static void put_code (std::byte *block, int i, int q)
  {
    block[kCodes + i / 64 * 32 + i % 32] |= static_cast<std::byte> (i % 64 < 32 ? q : q << 4);
  }
};

struct Q5K {
  static constexpr int kSub = 32, kMost = 31, kMostScale = 63, kD = 0, kTops = 16, kCodes = 48, kBytes = 176;

  static void get_scales (const std::byte *block, uint8_t *scales, uint8_t *minima)
  {
    unpack_q4k_scales (block + 4, scales, minima);
  }
  static void put_scales (const uint8_t *scales, const uint8_t *minima, std::byte *block)
  {
    pack_6_bit_scales (scales, minima, block + 4);
  }
  static int code (const std::byte *block, int i)
  {
    const int top = byte_at (block, kTops + i % 32) >> i / 32 & 1;
    return Q4K::code (block + kCodes - Q4K::kCodes, i) | top << 4;
  }
  static void put_code (std::byte *block, int i, int q)
  {
    block[kTops + i % 32] |= static_cast<std::byte> (q >> 4 << i / 32);
    Q4K::put_code (block + kCodes - Q4K::kCodes, i, q & 15);
  }
};

template <typename Type>
void
dequantize (const std::byte *block, float *out)
{
  constexpr int kSubs = kCount / Type::kSub;
  const float d = half_at (block + Type::kD), dmin = half_at (block + Type::kD + 2);
  uint8_t scales[kSubs], minima[kSubs];
  Type::get_scales (block, scales, minima);
  for (int i = 0; i < kCount; ++i) {
    const int sub = i / Type::kSub;
    out[i] = d * scales[sub] * static_cast<float> (Type::code (block, i)) - dmin * minima[sub];
  }
}

/// Of the stored scale and minimum and their neighbours, those of least error: rounding moves both.
template <typename Type>
void
choose_stored (const float *x, float d, float dmin, const Line &wished, uint8_t &scale, uint8_t &minimum)
{
  constexpr float kMost = Type::kMostScale;
  const float s = nearest_within (wished.scale * inverse_of (d), 0, kMost);
  const float m = nearest_within (wished.minimum * inverse_of (dmin), 0, kMost);
  float least = INFINITY;
  for (float i = std::max (s - 1, 0.0f); i <= std::min (s + 1, kMost); ++i) {
    for (float j = std::max (m - 1, 0.0f); j <= std::min (m + 1, kMost); ++j) {
      const float error = line_error<Type::kSub, Type::kMost> (x, d * i, dmin * j);
      if (error < least) {
        least = error;
        scale = static_cast<uint8_t> (i);
        minimum = static_cast<uint8_t> (j);
      }
    }
  }
}

template <typename Type>
void
quantize (const float *values, std::byte *block)
{
  constexpr int kSubs = kCount / Type::kSub;
  std::array<Line, kSubs> lines;
  float largest_scale = 0, largest_minimum = 0;
  for (int sub = 0; sub < kSubs; ++sub) {
    lines[sub] = fit_line<Type::kSub, Type::kMost, Minima::kNotNegative> (values + sub * Type::kSub);
    largest_scale = std::max (largest_scale, lines[sub].scale);
    largest_minimum = std::max (largest_minimum, lines[sub].minimum);
  }
  std::memset (block, 0, Type::kBytes);
  const float d = put_half_above (largest_scale / Type::kMostScale, block + Type::kD);
  const float dmin = put_half_above (largest_minimum / Type::kMostScale, block + Type::kD + 2);
  uint8_t scales[kSubs] = {}, minima[kSubs] = {};
  for (int sub = 0; sub < kSubs; ++sub) {
    const float *x = values + sub * Type::kSub;
    choose_stored<Type> (x, d, dmin, lines[sub], scales[sub], minima[sub]);
    const float minimum = dmin * minima[sub];
    const float inverse = inverse_of (d * scales[sub]);
    for (int i = 0; i < Type::kSub; ++i) {
      const int q = static_cast<int> (nearest_within ((x[i] + minimum) * inverse, 0, Type::kMost));
      Type::put_code (block, sub * Type::kSub + i, q);
    }
  }
  Type::put_scales (scales, minima, block);
}

} // namespace

BlockCode
line_block (DType dtype)
{
  switch (dtype) {
  case DType::kQ2K:
    return {dequantize<Q2K>, quantize<Q2K>};
  case DType::kQ4K:
    return {dequantize<Q4K>, quantize<Q4K>};
  case DType::kQ5K:
    return {dequantize<Q5K>, quantize<Q5K>};
  default:
    return {};
  }
}

} // namespace blocks

void
unpack_q4k_scales (const std::byte *packed, uint8_t scales[8], uint8_t minima[8])
{
  using blocks::byte_at;
  for (int i = 0; i < 4; ++i) {
    const int scale = byte_at (packed, i), minimum = byte_at (packed, i + 4), rest = byte_at (packed, i + 8);
    scales[i] = static_cast<uint8_t> (scale & 63);
    minima[i] = static_cast<uint8_t> (minimum & 63);
    scales[i + 4] = static_cast<uint8_t> ((rest & 15) | scale >> 6 << 4);
    minima[i + 4] = static_cast<uint8_t> (rest >> 4 | minimum >> 6 << 4);
  }
}

} // namespace millrace
