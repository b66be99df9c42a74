// The reference products of panels whose scales are of 32 and more columns and whose codes are not integers of 4 or 8 bits
// alone: kQ5, kIQ4NL, kMXFP4 and the affine formats. See panels_portable.cpp.
#include "engine/backend/cpu/affine_format.hpp"
#include "engine/backend/cpu/panels_portable.hpp"
#include "engine/weights/quantized_blocks.hpp"

namespace millrace::cpu::portable
{

namespace
{

/// Parts of a token's activations.
struct Activation32 {
  Activation32 (const void *x, int columns)
      : values (static_cast<const int8_t *> (x))
      , scales (offset<float> (x, static_cast<size_t> (columns)))
      , eights (reinterpret_cast<const int32_t *> (scales + columns / kGroup))
  {
  }

  const int8_t *values;
  const float *scales;
  const int32_t *eights; ///< 8 · sum of a group's values
};

// Formats with one scale for 32 columns and a table of what codes stand for: kBits of a code, value () of one, scale ().

struct Q5 {
  static constexpr int kBits = 5;
  static int value (int code) { return code - 16; }
  static size_t scales_bytes (int columns) { return scale_bytes (columns); }
  static float scale (const void *panel, int group, int row)
  {
    return half (panel, static_cast<size_t> (group * kPanelRows + row));
  }
};

struct IQ4NL {
  static constexpr int kBits = 4;
  static int value (int code) { return kIq4NlValues[code]; }
  static size_t scales_bytes (int columns) { return scale_bytes (columns); }
  static float scale (const void *panel, int group, int row) { return Q5::scale (panel, group, row); }
};

struct MXFP4 {
  static constexpr int kBits = 4;
  static int value (int code) { return kMxfp4Values[code]; }
  static size_t scales_bytes (int columns)
  {
    return (static_cast<size_t> (columns / kGroup) * kPanelRows + kLine - 1) / kLine * kLine;
  }
  static float scale (const void *panel, int group, int row)
  {
    return mxfp4_half_scale (static_cast<const uint8_t *> (panel)[group * kPanelRows + row]);
  }
};

template <typename Type>
struct Scaled {
  static constexpr int kGroupBytes = Type::kBits * kVectorBytes;

  static void codes (const void *panel, int row, int columns, float *out)
  {
    const auto *vectors = offset<uint8_t> (panel, Type::scales_bytes (columns));
    for (int i = 0; i < columns; i += kGroup, vectors += kGroupBytes) {
      for (int j = 0; j < kGroup; ++j)
        out[i + j] = static_cast<float> (Type::value (code_at (vectors, Type::kBits, row, j)));
    }
  }

  static float product (const void *panel, int row, const float *codes, const void *x, int columns)
  {
    const Activation32 activation (x, columns);
    float sum = 0;
    for (int group = 0; group < columns / kGroup; ++group) {
      const int dot = dot_codes (codes + group * kGroup, activation.values + group * kGroup, kGroup);
      const float scale = Type::scale (panel, group, row) * activation.scales[group];
      sum = std::fma (static_cast<float> (dot), scale, sum);
    }
    return sum;
  }

  static void expand (const void *panel, int row, int columns, float *out)
  {
    codes (panel, row, columns, out);
    for (int i = 0; i < columns; ++i)
      out[i] *= Type::scale (panel, i / kGroup, row);
  }
};

/// Scale `index` of one or of many.
float
scale_at (ScaleType type, const uint8_t *scales, int index)
{
  if (type == ScaleType::kF32) {
    float value;
    std::memcpy (&value, scales + 4 * index, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy (&bits, scales + 2 * index, sizeof bits);
  return type == ScaleType::kF16 ? f16_to_f32 (bits) : bf16_to_f32 (bits);
}

/// Calls use (first column, codes, d, m) for each 32 columns of a row.
template <typename Use>
void
for_affine_groups (const AffineFormat &affine, const void *panel, int row, int columns, const Use &use)
{
  const auto *at = static_cast<const uint8_t *> (panel);
  for (int begin = 0; begin < columns; begin += affine.group) {
    const float d = scale_at (affine.scales, at, row), m = scale_at (affine.scales, at, kPanelRows + row);
    at += 2 * kPanelRows * scale_size (affine.scales);
    for (int i = begin; i < begin + affine.group; i += kGroup, at += affine.bits * kVectorBytes)
      use (i, at, d, m);
  }
}

} // namespace

void
linear_q5 (const LinearArgs &args)
{
  linear_of_codes<Scaled<Q5>> (args);
}

void
linear_iq4nl (const LinearArgs &args)
{
  linear_of_codes<Scaled<IQ4NL>> (args);
}

void
linear_mxfp4 (const LinearArgs &args)
{
  linear_of_codes<Scaled<MXFP4>> (args);
}

void
linear_affine (const LinearArgs &args)
{
  const AffineFormat affine = affine_of (args.format);
  for_products (
      args,
      [&] (const void *panel, int row) {
        for_affine_groups (
            affine, panel, row, args.columns, [&] (int first, const uint8_t *codes, float, float) {
              for (int i = 0; i < kGroup; ++i)
                args.scratch[first + i] = static_cast<float> (code_at (codes, affine.bits, row, i));
            });
      },
      [&] (const void *panel, int row, const void *x) {
        const Activation32 activation (x, args.columns);
        float sum = 0;
        for_affine_groups (
            affine, panel, row, args.columns, [&] (int first, const uint8_t *, float d, float m) {
              const int dot = dot_codes (args.scratch + first, activation.values + first, kGroup);
              const int group = first / kGroup;
              const float low = static_cast<float> (activation.eights[group]) * (m * 0.125f);
              sum = std::fma (std::fma (static_cast<float> (dot), d, low), activation.scales[group], sum);
            });
        return sum;
      });
}

void
expand_q5 (const void *panel, int row, int columns, float *out)
{
  Scaled<Q5>::expand (panel, row, columns, out);
}

void
expand_iq4nl (const void *panel, int row, int columns, float *out)
{
  Scaled<IQ4NL>::expand (panel, row, columns, out);
}

void
expand_mxfp4 (const void *panel, int row, int columns, float *out)
{
  Scaled<MXFP4>::expand (panel, row, columns, out);
}

void
expand_affine_row (Format format, const void *panel, int row, int columns, float *out)
{
  const AffineFormat affine = affine_of (format);
  for_affine_groups (affine, panel, row, columns, [&] (int first, const uint8_t *codes, float d, float m) {
    for (int i = 0; i < kGroup; ++i)
      out[first + i] = d * static_cast<float> (code_at (codes, affine.bits, row, i)) + m;
  });
}

} // namespace millrace::cpu::portable
