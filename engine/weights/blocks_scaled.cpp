// Blocks of 32 elements with one float16 scale: Q8_0, Q4_0, Q5_0; and with a minimum as well: Q4_1, Q5_1.
#include "engine/weights/block_families.hpp"
#include "engine/weights/block_fitting.hpp"

namespace millrace::blocks
{

namespace
{

constexpr int kCount = 32;

void
dequantize_q8_0 (const std::byte *block, float *out)
{
  const float d = half_at (block);
  for (int i = 0; i < kCount; ++i)
    out[i] = d * static_cast<float> (static_cast<int8_t> (byte_at (block, 2 + i)));
}

void
quantize_q8_0 (const float *values, std::byte *block)
{
  const float inverse = inverse_of (put_half (std::fabs (extreme (values, kCount)) / 127, block));
  for (int i = 0; i < kCount; ++i)
    block[2 + i] =
        static_cast<std::byte> (static_cast<int8_t> (nearest_within (values[i] * inverse, -127, 127)));
}

// Codes of 4 bits, or 5 with the fifth in 4 bytes before the nibbles, bit i of them that of element i.

template <int kBits>
constexpr int kCodeBytes = kBits == 5 ? 20 : 16;

template <int kBits>
int
code_at (const std::byte *codes, int i)
{
  const int pair = byte_at (codes, kCodeBytes<kBits> - 16 + i % 16);
  const int nibble = i < 16 ? pair & 15 : pair >> 4;
  if constexpr (kBits == 4)
    return nibble;
  return nibble | (byte_at (codes, i / 8) >> i % 8 & 1) << 4;
}

/// `code (i)` for each element.
template <int kBits, typename Code>
void
put_codes (std::byte *codes, const Code &code)
{
  std::memset (codes, 0, kCodeBytes<kBits>);
  for (int i = 0; i < kCount; ++i) {
    const int value = code (i);
    codes[kCodeBytes<kBits> - 16 + i % 16] |= static_cast<std::byte> ((value & 15) << (i < 16 ? 0 : 4));
    if constexpr (kBits == 5)
      codes[i / 8] |= static_cast<std::byte> (value >> 4 << i % 8);
  }
}

template <int kBits>
void
dequantize_scaled (const std::byte *block, float *out)
{
  constexpr int kOffset = 1 << (kBits - 1);
  const float d = half_at (block);
  for (int i = 0; i < kCount; ++i)
    out[i] = d * static_cast<float> (code_at<kBits> (block + 2, i) - kOffset);
}

template <int kBits>
void
quantize_scaled (const float *values, std::byte *block)
{
  // The range is -8 … 7: the extreme element gets the end that has one more.
  constexpr int kOffset = 1 << (kBits - 1);
  const float inverse = inverse_of (put_half (extreme (values, kCount) / -kOffset, block));
  put_codes<kBits> (block + 2, [&] (int i) {
    return static_cast<int> (nearest_within (values[i] * inverse, -kOffset, kOffset - 1)) + kOffset;
  });
}

template <int kBits>
void
dequantize_affine (const std::byte *block, float *out)
{
  const float d = half_at (block), m = half_at (block + 2);
  for (int i = 0; i < kCount; ++i)
    out[i] = d * static_cast<float> (code_at<kBits> (block + 4, i)) + m;
}

template <int kBits>
void
quantize_affine (const float *values, std::byte *block)
{
  constexpr int kMost = (1 << kBits) - 1;
  const Line line = fit_line<kCount, kMost, Minima::kAny> (values);
  const float inverse = inverse_of (put_half (line.scale, block));
  const float m = put_half (-line.minimum, block + 2);
  put_codes<kBits> (block + 4, [&] (int i) {
    return static_cast<int> (nearest_within ((values[i] - m) * inverse, 0, kMost));
  });
}

} // namespace

BlockCode
scaled_block (DType dtype)
{
  switch (dtype) {
  case DType::kQ8_0:
    return {dequantize_q8_0, quantize_q8_0};
  case DType::kQ4_0:
    return {dequantize_scaled<4>, quantize_scaled<4>};
  case DType::kQ5_0:
    return {dequantize_scaled<5>, quantize_scaled<5>};
  default:
    return {};
  }
}

BlockCode
affine_block (DType dtype)
{
  switch (dtype) {
  case DType::kQ4_1:
    return {dequantize_affine<4>, quantize_affine<4>};
  case DType::kQ5_1:
    return {dequantize_affine<5>, quantize_affine<5>};
  default:
    return {};
  }
}

} // namespace millrace::blocks
