#include "engine/weights/affine_quantizer.hpp"

#include "engine/weights/block_fitting.hpp"

#include <array>
#include <cmath>
#include <cstring>

namespace millrace
{

namespace
{

constexpr int kMostGroup = 128;

using blocks::Line;
using blocks::Minima;

/// A float of a type that scales are stored in, and its neighbours.
class Scales
{
public:
  explicit Scales (DType type)
      : type_ (type)
  {
  }

  /// Of the stored values around `value`: the nearest, the one below and the one above it.
  std::array<float, 3> around (float value) const
  {
    if (type_ == DType::kF32)
      return {value, value, value};
    const uint16_t bits = to_bits (value);
    return {to_float (bits), to_float (next (bits, -1)), to_float (next (bits, 1))};
  }

  void put (float value, std::byte *out, int64_t index) const
  {
    if (type_ == DType::kF32) {
      std::memcpy (out + index * 4, &value, sizeof value);
      return;
    }
    const uint16_t bits = to_bits (value);
    std::memcpy (out + index * 2, &bits, sizeof bits);
  }

private:
  uint16_t to_bits (float value) const
  {
    return type_ == DType::kF16 ? f32_to_f16 (std::clamp (value, -blocks::kMaxHalf, blocks::kMaxHalf))
                                : f32_to_bf16 (value);
  }
  float to_float (uint16_t bits) const
  {
    return type_ == DType::kF16 ? f16_to_f32 (bits) : bf16_to_f32 (bits);
  }

  /// The neighbour in the order of values; the same where that would not be finite.
  uint16_t next (uint16_t bits, int step) const
  {
    const int ordered = (bits & 0x8000) ? -(bits & 0x7fff) : bits;
    const int moved = ordered + step;
    const auto result = static_cast<uint16_t> (moved < 0 ? 0x8000 | -moved : moved);
    return std::isfinite (to_float (result)) ? result : bits;
  }

  DType type_;
};

/// What MLX itself takes: the end of larger magnitude is a multiple of the scale, and so is 0 nearly.
template <int kCount, int kMost>
Line
anchored_line (const float *x)
{
  const auto [least, most] = std::minmax_element (x, x + kCount);
  const bool low = std::fabs (*least) > std::fabs (*most);
  const float range = (*most - *least) / kMost, edge = low ? *least : *most;
  const float steps = range > 0 ? blocks::nearest (edge / range) : 0;
  Line line{range, -*least, 0};
  if (steps != 0) {
    line.scale = std::fabs (edge / steps);
    line.minimum = low ? -edge : line.scale * kMost - edge;
  }
  line.error = blocks::line_error<kCount, kMost> (x, line.scale, line.minimum);
  return line;
}

/// Of the stored scales and biases around the wished ones, those of least error.
template <int kCount, int kMost>
Line
stored_line (const float *x, const Scales &scales, const Line &wished)
{
  Line best;
  best.error = INFINITY;
  for (const float scale : scales.around (wished.scale)) {
    for (const float bias : scales.around (-wished.minimum)) {
      const float error = blocks::line_error<kCount, kMost> (x, scale, -bias);
      if (error < best.error)
        best = {scale, -bias, error};
    }
  }
  return best;
}

template <int kCount, int kBits>
void
quantize_row (const Scales &types, const float *values, int64_t count, std::byte *codes, std::byte *scales,
              std::byte *biases)
{
  constexpr int kMost = (1 << kBits) - 1;
  std::array<float, kCount> x;
  uint32_t held = 0; // codes that are not stored yet, and how many bits of them
  int held_bits = 0;
  for (int64_t group = 0; group < count / kCount; ++group) {
    std::transform (values + group * kCount, values + (group + 1) * kCount, x.begin (),
                    [] (float value) { return std::isfinite (value) ? value : 0; });
    Line line = stored_line<kCount, kMost> (x.data (), types,
                                            blocks::fit_line<kCount, kMost, Minima::kAny> (x.data ()));
    const Line other =
        stored_line<kCount, kMost> (x.data (), types, anchored_line<kCount, kMost> (x.data ()));
    if (other.error < line.error)
      line = other;
    types.put (line.scale, scales, group);
    types.put (-line.minimum, biases, group);
    const float inverse = blocks::inverse_of (line.scale);
    for (const float value : x) {
      const float q = blocks::nearest_within ((value + line.minimum) * inverse, 0, kMost);
      held |= static_cast<uint32_t> (q) << held_bits;
      for (held_bits += kBits; held_bits >= 8; held_bits -= 8, held >>= 8)
        *codes++ = static_cast<std::byte> (held & 0xff);
    }
  }
}

using RowQuantizer = void (*) (const Scales &, const float *, int64_t, std::byte *, std::byte *, std::byte *);

template <int kCount>
RowQuantizer
row_quantizer (int bits)
{
  switch (bits) {
  case 2:
    return quantize_row<kCount, 2>;
  case 3:
    return quantize_row<kCount, 3>;
  case 4:
    return quantize_row<kCount, 4>;
  case 5:
    return quantize_row<kCount, 5>;
  case 6:
    return quantize_row<kCount, 6>;
  default:
    return quantize_row<kCount, 8>;
  }
}

} // namespace

void
quantize_affine_row (const AffineCodes &codes, DType scale_type, const float *values, int64_t count,
                     std::byte *codes_out, std::byte *scales, std::byte *biases)
{
  const RowQuantizer quantize = codes.group == 32   ? row_quantizer<32> (codes.bits)
                                : codes.group == 64 ? row_quantizer<64> (codes.bits)
                                                    : row_quantizer<kMostGroup> (codes.bits);
  quantize (Scales (scale_type), values, count, codes_out, scales, biases);
}

} // namespace millrace
