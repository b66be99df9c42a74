// Blocks of 32 elements whose 4-bit codes stand for values of a table: IQ4_NL, MXFP4.
#include "engine/weights/block_families.hpp"
#include "engine/weights/block_fitting.hpp"
#include "engine/weights/quantized_blocks.hpp"

#include <bit>

namespace millrace
{

namespace blocks
{

namespace
{

constexpr int kCount = 32, kCodes = 16;

int
code_at (const std::byte *codes, int i)
{
  const int pair = byte_at (codes, i % 16);
  return i < 16 ? pair & 15 : pair >> 4;
}

/// The code whose value, of those of a table, is nearest.
int
nearest_code (const int8_t (&values)[kCodes], float value)
{
  int best = 0;
  for (int code = 1; code < kCodes; ++code)
    if (std::fabs (value - static_cast<float> (values[code])) <
        std::fabs (value - static_cast<float> (values[best])))
      best = code;
  return best;
}

struct Trial {
  float error = 0;
  float sum_qq = 0, sum_qx = 0; ///< the scale of least squares for the codes chosen is sum_qx / sum_qq
};

/// What comes of `scale`.
Trial
tried (const int8_t (&values)[kCodes], const float *x, float scale)
{
  const float inverse = inverse_of (scale);
  Trial trial;
  for (int i = 0; i < kCount; ++i) {
    const auto q = static_cast<float> (values[nearest_code (values, x[i] * inverse)]);
    const float difference = scale * q - x[i];
    trial.error += difference * difference;
    trial.sum_qq += q * q;
    trial.sum_qx += q * x[i];
  }
  return trial;
}

void
put_codes (const int8_t (&values)[kCodes], const float *x, float scale, std::byte *codes)
{
  const float inverse = inverse_of (scale);
  for (int j = 0; j < 16; ++j)
    codes[j] = static_cast<std::byte> (nearest_code (values, x[j] * inverse) |
                                       nearest_code (values, x[j + 16] * inverse) << 4);
}

void
dequantize_iq4_nl (const std::byte *block, float *out)
{
  const float d = half_at (block);
  for (int i = 0; i < kCount; ++i)
    out[i] = d * static_cast<float> (kIq4NlValues[code_at (block + 2, i)]);
}

/// Starts with the extreme element around either end of the table, refitted once.
void
quantize_iq4_nl (const float *values, std::byte *block)
{
  constexpr int kStarts = 9;
  const float largest = extreme (values, kCount);
  float best = 0, least = tried (kIq4NlValues, values, 0).error;
  for (const float end : {-127.0f, 113.0f}) {
    for (int start = 0; start < kStarts && largest != 0; ++start) {
      const float first = largest / (end * (0.84f + 0.04f * static_cast<float> (start)));
      const Trial trial = tried (kIq4NlValues, values, first);
      const float second = trial.sum_qq > 0 ? trial.sum_qx / trial.sum_qq : 0;
      const float error = tried (kIq4NlValues, values, second).error;
      if (trial.error < least) {
        least = trial.error;
        best = first;
      }
      if (error < least) {
        least = error;
        best = second;
      }
    }
  }
  put_codes (kIq4NlValues, values, put_half (best, block), block + 2);
}

void
dequantize_mxfp4 (const std::byte *block, float *out)
{
  const float half_scale = mxfp4_half_scale (byte_at (block, 0));
  for (int i = 0; i < kCount; ++i)
    out[i] = half_scale * static_cast<float> (kMxfp4Values[code_at (block + 1, i)]);
}

/// Of the exponents around the one by which the extreme element is in the range, that of least error.
void
quantize_mxfp4 (const float *values, std::byte *block)
{
  constexpr int kMostExponent = 254, kBias = 127, kLargestExponent = 2; // of 6 = 1.5 · 2^2
  const float largest = std::fabs (extreme (values, kCount));
  const int exponent = largest > 0 ? std::ilogb (largest) - kLargestExponent + kBias : kBias;
  int best = std::clamp (exponent, 0, kMostExponent);
  float least = INFINITY;
  for (int e = std::max (exponent - 1, 0); e <= std::min (exponent + 1, kMostExponent); ++e) {
    const float error = tried (kMxfp4Values, values, mxfp4_half_scale (static_cast<uint8_t> (e))).error;
    if (error < least) {
      least = error;
      best = e;
    }
  }
  block[0] = static_cast<std::byte> (best);
  put_codes (kMxfp4Values, values, mxfp4_half_scale (static_cast<uint8_t> (best)), block + 1);
}

} // namespace

BlockCode
table_block (DType dtype)
{
  switch (dtype) {
  case DType::kIQ4NL:
    return {dequantize_iq4_nl, quantize_iq4_nl};
  case DType::kMXFP4:
    return {dequantize_mxfp4, quantize_mxfp4};
  default:
    return {};
  }
}

} // namespace blocks

float
mxfp4_half_scale (uint8_t exponent)
{
  if (exponent == 255)
    return std::bit_cast<float> (0x7fc00000u);
  // 2^-128 and 2^-127 are subnormal.
  return std::bit_cast<float> (exponent < 2 ? 0x00200000u << exponent : (exponent - 1u) << 23);
}

} // namespace millrace
