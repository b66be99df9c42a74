// Blocks of quantized elements: what they mean, as plainly as it can be written, and quantizers.
//
// The quantizers know of each element only its value: no importance of weights. They minimize the sum of squared
// differences, block by block. Quantized values are always chosen for the scales as stored (float16, 6 or 8 bits), not
// for those that were wished for, so that an element is as near as its block's scales allow.
#include "engine/weights/quantized_blocks.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace millrace
{

namespace
{

constexpr float kMaxHalf = 65504;
constexpr float kNearestShift = 12582912.0f; // 1.5 · 2^23: no fraction fits beside it

uint8_t
byte_at (const std::byte *bytes, int i)
{
  return std::to_integer<uint8_t> (bytes[i]);
}

float
half_at (const std::byte *bytes)
{
  return f16_to_f32 (static_cast<uint16_t> (byte_at (bytes, 0) | byte_at (bytes, 1) << 8));
}

/// Stores `value` as float16 and gives what was stored.
float
put_half (float value, std::byte *bytes)
{
  const uint16_t bits = f32_to_f16 (std::clamp (value, -kMaxHalf, kMaxHalf));
  bytes[0] = static_cast<std::byte> (bits & 0xff);
  bytes[1] = static_cast<std::byte> (bits >> 8);
  return f16_to_f32 (bits);
}

/// Stores `value` or the float16 after it, away from 0: the scale of scales, by which the largest of them must still be
/// had in its range. Such scales are so small that float16 has few bits for them.
float
put_half_above (float value, std::byte *bytes)
{
  float stored = put_half (value, bytes);
  if (std::fabs (stored) < std::fabs (value) && std::fabs (stored) < kMaxHalf) {
    const uint16_t bits = f32_to_f16 (stored) + 1;
    stored = put_half (std::copysign (f16_to_f32 (bits & 0x7fff), value), bytes);
  }
  return stored;
}

/// Nearest integer, ties to even, for |value| < 2^22; unlike nearbyint () it is two instructions everywhere.
inline float
nearest (float value)
{
  return (value + kNearestShift) - kNearestShift;
}

inline float
nearest_within (float value, float least, float most)
{
  return nearest (std::min (std::max (least, value), most));
}

/// 1 / scale, or 0 where there is none or it is beyond float32: all elements are 0 then.
float
inverse_of (float scale)
{
  const float inverse = scale != 0 ? 1 / scale : 0;
  return std::isfinite (inverse) ? inverse : 0;
}

/// The element of largest magnitude, with its sign.
float
extreme (const float *values, int count)
{
  float result = 0;
  for (int i = 0; i < count; ++i)
    if (std::fabs (values[i]) > std::fabs (result))
      result = values[i];
  return result;
}

// The searches for scales work on four elements at a time, with the compilers' vector extension (GCC and Clang): sums of
// floats are not reordered by the compiler itself.
constexpr int kLanes = 4;
using Floats = float __attribute__ ((vector_size (16)));

inline Floats
load (const float *from)
{
  Floats floats;
  std::memcpy (&floats, from, sizeof floats);
  return floats;
}

inline Floats
broadcast (float value)
{
  return Floats{value, value, value, value};
}

inline float
total (Floats lanes)
{
  return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

inline Floats
nearest_within (Floats value, float least, float most)
{
  value = value > least ? value : broadcast (least);
  value = value < most ? value : broadcast (most);
  return (value + kNearestShift) - kNearestShift;
}

// Q8_0 ------------------------------------------------------------------------------------------------------------

void
dequantize_q8_0 (const std::byte *block, float *out)
{
  const float d = half_at (block);
  for (int i = 0; i < 32; ++i)
    out[i] = d * static_cast<float> (static_cast<int8_t> (byte_at (block, 2 + i)));
}

void
quantize_q8_0 (const float *values, std::byte *block)
{
  const float inverse = inverse_of (put_half (std::fabs (extreme (values, 32)) / 127, block));
  for (int i = 0; i < 32; ++i)
    block[2 + i] =
        static_cast<std::byte> (static_cast<int8_t> (nearest_within (values[i] * inverse, -127, 127)));
}

// Q4_0 ------------------------------------------------------------------------------------------------------------

void
dequantize_q4_0 (const std::byte *block, float *out)
{
  const float d = half_at (block);
  for (int j = 0; j < 16; ++j) {
    const int pair = byte_at (block, 2 + j);
    out[j] = d * static_cast<float> ((pair & 15) - 8);
    out[j + 16] = d * static_cast<float> ((pair >> 4) - 8);
  }
}

void
quantize_q4_0 (const float *values, std::byte *block)
{
  // The range is -8 … 7: the extreme element gets the end that has one more.
  const float inverse = inverse_of (put_half (extreme (values, 32) / -8, block));
  const auto quantized = [&] (int i) {
    return static_cast<int> (nearest_within (values[i] * inverse, -8, 7)) + 8;
  };
  for (int j = 0; j < 16; ++j)
    block[2 + j] = static_cast<std::byte> (quantized (j) | quantized (j + 16) << 4);
}

// Q4_K ------------------------------------------------------------------------------------------------------------

constexpr int kSub = 32; ///< elements of a sub-block
constexpr int kSubs = 8;

void
dequantize_q4k (const std::byte *block, float *out)
{
  const float d = half_at (block), dmin = half_at (block + 2);
  uint8_t scales[kSubs], minima[kSubs];
  unpack_q4k_scales (block + 4, scales, minima);
  for (int i = 0; i < 256; ++i) {
    const int sub = i / kSub;
    const int pair = byte_at (block, 16 + sub / 2 * kSub + i % kSub);
    const int nibble = sub % 2 ? pair >> 4 : pair & 15;
    out[i] = d * scales[sub] * static_cast<float> (nibble) - dmin * minima[sub];
  }
}

/// value = scale · q - minimum, minimum ≥ 0 as it is stored without a sign.
struct Line {
  float scale = 0;
  float minimum = 0;
  float error = 0; ///< sum of squares over the sub-block
};

float
line_error (const float *x, float scale, float minimum)
{
  const float inverse = inverse_of (scale);
  Floats error{};
  for (int i = 0; i < kSub; i += kLanes) {
    const Floats value = load (x + i);
    const Floats q = nearest_within ((value + minimum) * inverse, 0, 15);
    const Floats difference = scale * q - minimum - value;
    error += difference * difference;
  }
  return total (error);
}

/// The line of least squares through (q, x) for the q that `line` gives.
Line
refit (const float *x, const Line &line)
{
  const float inverse = inverse_of (line.scale);
  Floats lanes_x{}, lanes_q{}, lanes_qq{}, lanes_qx{};
  for (int i = 0; i < kSub; i += kLanes) {
    const Floats value = load (x + i);
    const Floats q = nearest_within ((value + line.minimum) * inverse, 0, 15);
    lanes_x += value;
    lanes_q += q;
    lanes_qq += q * q;
    lanes_qx += q * value;
  }
  const float sum_x = total (lanes_x), sum_q = total (lanes_q);
  const float sum_qq = total (lanes_qq), sum_qx = total (lanes_qx);
  const float determinant = kSub * sum_qq - sum_q * sum_q;
  Line fitted;
  if (determinant > 0) {
    fitted.scale = (kSub * sum_qx - sum_q * sum_x) / determinant;
    fitted.minimum = (sum_q * sum_qx - sum_qq * sum_x) / determinant;
  }
  if (fitted.minimum <= 0) { // through the origin instead
    fitted.minimum = 0;
    fitted.scale = sum_qq > 0 ? sum_qx / sum_qq : 0;
  }
  fitted.scale = std::max (fitted.scale, 0.0f);
  fitted.error = line_error (x, fitted.scale, fitted.minimum);
  return fitted;
}

/// Starts from a range of scales around the one that spans the elements, which is best only when the ends are no
/// outliers; each is refitted until that does not help.
Line
fit_line (const float *x)
{
  constexpr int kStarts = 12;
  constexpr int kRefits = 4;
  const float least = std::min (0.0f, *std::min_element (x, x + kSub));
  const float most = *std::max_element (x, x + kSub);
  Line best{0, -least, 0};
  best.error = line_error (x, 0, best.minimum);
  if (most <= least)
    return best;
  for (int start = 0; start < kStarts; ++start) {
    const float steps = 14.0f + 0.25f * static_cast<float> (start); // 14 … 16.75 steps from end to end
    Line line{(most - least) / steps, -least, 0};
    line.error = line_error (x, line.scale, line.minimum);
    for (int round = 0; round < kRefits; ++round) {
      const Line fitted = refit (x, line);
      if (fitted.error >= line.error)
        break;
      line = fitted;
    }
    if (line.error < best.error)
      best = line;
  }
  return best;
}

/// Of the stored scale and minimum and their neighbours, those of least error: rounding moves both.
void
choose_stored (const float *x, float d, float dmin, const Line &wished, uint8_t &scale, uint8_t &minimum)
{
  const float s = nearest_within (wished.scale * inverse_of (d), 0, 63);
  const float m = nearest_within (wished.minimum * inverse_of (dmin), 0, 63);
  float least = INFINITY;
  for (float i = std::max (s - 1, 0.0f); i <= std::min (s + 1, 63.0f); ++i) {
    for (float j = std::max (m - 1, 0.0f); j <= std::min (m + 1, 63.0f); ++j) {
      const float error = line_error (x, d * i, dmin * j);
      if (error < least) {
        least = error;
        scale = static_cast<uint8_t> (i);
        minimum = static_cast<uint8_t> (j);
      }
    }
  }
}

void
pack_q4k_scales (const uint8_t *scales, const uint8_t *minima, std::byte *packed)
{
  for (int i = 0; i < 4; ++i) {
    packed[i] = static_cast<std::byte> (scales[i] | (scales[i + 4] >> 4) << 6);
    packed[i + 4] = static_cast<std::byte> (minima[i] | (minima[i + 4] >> 4) << 6);
    packed[i + 8] = static_cast<std::byte> ((scales[i + 4] & 15) | (minima[i + 4] & 15) << 4);
  }
}

void
quantize_q4k (const float *values, std::byte *block)
{
  std::array<Line, kSubs> lines;
  float largest_scale = 0, largest_minimum = 0;
  for (int sub = 0; sub < kSubs; ++sub) {
    lines[sub] = fit_line (values + sub * kSub);
    largest_scale = std::max (largest_scale, lines[sub].scale);
    largest_minimum = std::max (largest_minimum, lines[sub].minimum);
  }
  const float d = put_half_above (largest_scale / 63, block);
  const float dmin = put_half_above (largest_minimum / 63, block + 2);
  uint8_t scales[kSubs] = {}, minima[kSubs] = {};
  std::memset (block + 16, 0, 128);
  for (int sub = 0; sub < kSubs; ++sub) {
    const float *x = values + sub * kSub;
    choose_stored (x, d, dmin, lines[sub], scales[sub], minima[sub]);
    const float minimum = dmin * minima[sub];
    const float inverse = inverse_of (d * scales[sub]);
    for (int i = 0; i < kSub; ++i) {
      const int q = static_cast<int> (nearest_within ((x[i] + minimum) * inverse, 0, 15));
      block[16 + sub / 2 * kSub + i] |= static_cast<std::byte> (sub % 2 ? q << 4 : q);
    }
  }
  pack_q4k_scales (scales, minima, block + 4);
}

// Q6_K ------------------------------------------------------------------------------------------------------------

constexpr int kGroup = 16; ///< elements of a scale
constexpr int kGroups = 16;

/// Where element i of a block lies: its low 4 bits and its top 2.
struct Q6Place {
  int low_byte, low_shift;
  int high_byte, high_shift;
};

Q6Place
q6k_place (int i)
{
  const int half = i / 128, j = i % 128;
  return {half * 64 + j % 64, j / 64 * 4, 128 + half * 32 + j % 32, j / 32 * 2};
}

void
dequantize_q6k (const std::byte *block, float *out)
{
  const float d = half_at (block + 208);
  for (int i = 0; i < 256; ++i) {
    const Q6Place place = q6k_place (i);
    const int low = byte_at (block, place.low_byte) >> place.low_shift & 15;
    const int high = byte_at (block, place.high_byte) >> place.high_shift & 3;
    const auto scale = static_cast<int8_t> (byte_at (block, 192 + i / kGroup));
    out[i] = d * scale * static_cast<float> ((low | high << 4) - 32);
  }
}

float
scale_error (const float *x, float scale)
{
  const float inverse = inverse_of (scale);
  Floats error{};
  for (int i = 0; i < kGroup; i += kLanes) {
    const Floats value = load (x + i);
    const Floats difference = scale * nearest_within (value * inverse, -32, 31) - value;
    error += difference * difference;
  }
  return total (error);
}

/// The scale of least squares for the elements that `scale` gives.
float
refit_scale (const float *x, float scale)
{
  const float inverse = inverse_of (scale);
  Floats lanes_qq{}, lanes_qx{};
  for (int i = 0; i < kGroup; i += kLanes) {
    const Floats value = load (x + i);
    const Floats q = nearest_within (value * inverse, -32, 31);
    lanes_qq += q * q;
    lanes_qx += q * value;
  }
  const float sum_qq = total (lanes_qq), sum_qx = total (lanes_qx);
  return sum_qq > 0 ? sum_qx / sum_qq : 0;
}

float
fit_scale (const float *x)
{
  constexpr int kStarts = 12;
  const float largest = extreme (x, kGroup);
  float best = 0, least = scale_error (x, 0);
  for (int start = 0; start < kStarts && largest != 0; ++start) {
    // The extreme element at -30.5 … -33.25: the range is -32 … 31, and clipping it a little may pay.
    const float first = largest / -(30.5f + 0.25f * static_cast<float> (start));
    for (const float scale : {first, refit_scale (x, first)}) {
      const float error = scale_error (x, scale);
      if (error < least) {
        least = error;
        best = scale;
      }
    }
  }
  return best;
}

/// Of the stored scale and its neighbours, that of least error.
int
stored_scale (const float *x, float d, float wished)
{
  const int nearest_one = static_cast<int> (nearest_within (wished * inverse_of (d), -128, 127));
  int best = nearest_one;
  float least = INFINITY;
  for (int scale = std::max (nearest_one - 1, -128); scale <= std::min (nearest_one + 1, 127); ++scale) {
    const float error = scale_error (x, d * static_cast<float> (scale));
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

void
quantize_q6k (const float *values, std::byte *block)
{
  std::array<float, kGroups> scales;
  for (int group = 0; group < kGroups; ++group)
    scales[group] = fit_scale (values + group * kGroup);
  const float d = put_half_above (extreme (scales.data (), kGroups) / -128, block + 208);
  std::memset (block, 0, 192);
  for (int group = 0; group < kGroups; ++group) {
    const float *x = values + group * kGroup;
    const int scale = stored_scale (x, d, scales[group]);
    block[192 + group] = static_cast<std::byte> (static_cast<int8_t> (scale));
    const float inverse = inverse_of (d * static_cast<float> (scale));
    for (int i = 0; i < kGroup; ++i) {
      const int q = static_cast<int> (nearest_within (x[i] * inverse, -32, 31)) + 32;
      const Q6Place place = q6k_place (group * kGroup + i);
      block[place.low_byte] |= static_cast<std::byte> ((q & 15) << place.low_shift);
      block[place.high_byte] |= static_cast<std::byte> (q >> 4 << place.high_shift);
    }
  }
}

// All -------------------------------------------------------------------------------------------------------------

struct BlockCode {
  void (*dequantize) (const std::byte *block, float *out);
  void (*quantize) (const float *values, std::byte *block);
};

BlockCode
block_code (DType dtype)
{
  switch (dtype) {
  case DType::kQ8_0:
    return {dequantize_q8_0, quantize_q8_0};
  case DType::kQ4_0:
    return {dequantize_q4_0, quantize_q4_0};
  case DType::kQ4K:
    return {dequantize_q4k, quantize_q4k};
  default:
    return {dequantize_q6k, quantize_q6k};
  }
}

} // namespace

void
unpack_q4k_scales (const std::byte *packed, uint8_t scales[8], uint8_t minima[8])
{
  for (int i = 0; i < 4; ++i) {
    const int scale = byte_at (packed, i), minimum = byte_at (packed, i + 4), rest = byte_at (packed, i + 8);
    scales[i] = static_cast<uint8_t> (scale & 63);
    minima[i] = static_cast<uint8_t> (minimum & 63);
    scales[i + 4] = static_cast<uint8_t> ((rest & 15) | scale >> 6 << 4);
    minima[i + 4] = static_cast<uint8_t> (rest >> 4 | minimum >> 6 << 4);
  }
}

void
dequantize_row (DType dtype, const std::byte *row, int64_t count, float *out)
{
  const DTypeBlock block = dtype_block (dtype);
  const BlockCode code = block_code (dtype);
  for (int64_t i = 0; i < count; i += static_cast<int64_t> (block.elements)) {
    code.dequantize (row, out + i);
    row += block.bytes;
  }
}

void
quantize_row (DType dtype, const float *values, int64_t count, std::byte *out)
{
  const DTypeBlock block = dtype_block (dtype);
  const BlockCode code = block_code (dtype);
  std::array<float, 256> finite;
  for (int64_t i = 0; i < count; i += static_cast<int64_t> (block.elements)) {
    std::transform (values + i, values + i + block.elements, finite.begin (),
                    [] (float value) { return std::isfinite (value) ? value : 0; });
    code.quantize (finite.data (), out);
    out += block.bytes;
  }
}

} // namespace millrace
