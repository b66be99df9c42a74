// What the files of quantized blocks share: access to their fields, and searches for scales of least squared error.
//
// The quantizers know of each element only its value: no importance of weights. They minimize the sum of squared
// differences, block by block. Quantized values are always chosen for the scales as stored (float16, 6 or 8 bits), not
// for those that were wished for, so that an element is as near as its block's scales allow.
// Private to engine/weights; everything is inline and pure.
#pragma once

#include "engine/tensor/dtype.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace millrace::blocks
{

constexpr float kMaxHalf = 65504;
constexpr float kNearestShift = 12582912.0f; // 1.5 · 2^23: no fraction fits beside it

inline uint8_t
byte_at (const std::byte *bytes, int i)
{
  return std::to_integer<uint8_t> (bytes[i]);
}

inline float
half_at (const std::byte *bytes)
{
  return f16_to_f32 (static_cast<uint16_t> (byte_at (bytes, 0) | byte_at (bytes, 1) << 8));
}

/// Stores `value` as float16 and gives what was stored.
inline float
put_half (float value, std::byte *bytes)
{
  const uint16_t bits = f32_to_f16 (std::clamp (value, -kMaxHalf, kMaxHalf));
  bytes[0] = static_cast<std::byte> (bits & 0xff);
  bytes[1] = static_cast<std::byte> (bits >> 8);
  return f16_to_f32 (bits);
}

/// Stores `value` or the float16 after it, away from 0: the scale of scales, by which the largest of them must still be
/// had in its range. Such scales are so small that float16 has few bits for them.
inline float
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
inline float
inverse_of (float scale)
{
  const float inverse = scale != 0 ? 1 / scale : 0;
  return std::isfinite (inverse) ? inverse : 0;
}

/// The element of largest magnitude, with its sign.
inline float
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

/// value = scale · q - minimum, q = 0 … kMost.
struct Line {
  float scale = 0;
  float minimum = 0;
  float error = 0; ///< sum of squares over the elements
};

/// Which minima a line may have: those of a type without a sign are ≥ 0.
enum class Minima : uint8_t { kNotNegative, kAny };

template <int kCount, int kMost>
float
line_error (const float *x, float scale, float minimum)
{
  const float inverse = inverse_of (scale);
  Floats error{};
  for (int i = 0; i < kCount; i += kLanes) {
    const Floats value = load (x + i);
    const Floats q = nearest_within ((value + minimum) * inverse, 0, kMost);
    const Floats difference = scale * q - minimum - value;
    error += difference * difference;
  }
  return total (error);
}

/// The line of least squares through (q, x) for the q that `line` gives.
template <int kCount, int kMost, Minima kMinima>
Line
refit (const float *x, const Line &line)
{
  const float inverse = inverse_of (line.scale);
  Floats lanes_x{}, lanes_q{}, lanes_qq{}, lanes_qx{};
  for (int i = 0; i < kCount; i += kLanes) {
    const Floats value = load (x + i);
    const Floats q = nearest_within ((value + line.minimum) * inverse, 0, kMost);
    lanes_x += value;
    lanes_q += q;
    lanes_qq += q * q;
    lanes_qx += q * value;
  }
  const float sum_x = total (lanes_x), sum_q = total (lanes_q);
  const float sum_qq = total (lanes_qq), sum_qx = total (lanes_qx);
  const float determinant = kCount * sum_qq - sum_q * sum_q;
  Line fitted;
  if (determinant > 0) {
    fitted.scale = (kCount * sum_qx - sum_q * sum_x) / determinant;
    fitted.minimum = (sum_q * sum_qx - sum_qq * sum_x) / determinant;
  }
  if (kMinima == Minima::kNotNegative && fitted.minimum <= 0) { // through the origin instead
    fitted.minimum = 0;
    fitted.scale = sum_qq > 0 ? sum_qx / sum_qq : 0;
  }
  fitted.scale = std::max (fitted.scale, 0.0f);
  fitted.error = line_error<kCount, kMost> (x, fitted.scale, fitted.minimum);
  return fitted;
}

/// Starts from a range of scales around the one that spans the elements, which is best only when the ends are no
/// outliers; each is refitted until that does not help.
template <int kCount, int kMost, Minima kMinima>
Line
fit_line (const float *x)
{
  constexpr bool kFine = kMost > 31; // clipping the ends does not pay
  constexpr int kStarts = kFine ? 4 : 12;
  constexpr float kFirst = kFine ? kMost - 0.5f : kMost - 1.0f;
  constexpr int kRefits = 4;
  float least = *std::min_element (x, x + kCount);
  if (kMinima == Minima::kNotNegative)
    least = std::min (0.0f, least);
  const float most = *std::max_element (x, x + kCount);
  Line best{0, -least, 0};
  best.error = line_error<kCount, kMost> (x, 0, best.minimum);
  if (most <= least)
    return best;
  for (int start = 0; start < kStarts; ++start) {
    const float steps = kFirst + 0.25f * static_cast<float> (start); // from end to end
    Line line{(most - least) / steps, -least, 0};
    line.error = line_error<kCount, kMost> (x, line.scale, line.minimum);
    for (int round = 0; round < kRefits; ++round) {
      const Line fitted = refit<kCount, kMost, kMinima> (x, line);
      if (fitted.error >= line.error)
        break;
      line = fitted;
    }
    if (line.error < best.error)
      best = line;
  }
  return best;
}

} // namespace millrace::blocks
