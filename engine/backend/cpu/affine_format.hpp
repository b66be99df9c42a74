// What the formats from Format::kAffine on stand for, one after the other: each bits, group and type of scales.
//
// Everything is static: kernels.hpp says why.
#pragma once

#include "engine/backend/cpu/kernels.hpp"

namespace millrace::cpu
{

/// How an affine format stores scales and biases: as its file has them.
enum class ScaleType : uint8_t { kF16, kBF16, kF32 };

struct AffineFormat {
  int bits;  ///< 2, 3, 4, 5, 6 or 8
  int group; ///< columns that share a scale and a bias: 32, 64 or 128
  ScaleType scales;
};

constexpr int kAffineBits[] = {2, 3, 4, 5, 6, 8};
constexpr int kAffineGroups[] = {32, 64, 128};
constexpr int kScaleTypes = 3;
static_assert (sizeof kAffineBits / sizeof (int) * sizeof kAffineGroups / sizeof (int) * kScaleTypes ==
               kAffineFormats);

[[maybe_unused]] static constexpr bool
is_affine (Format format)
{
  return format >= Format::kAffine;
}

/// Of a format that is affine.
[[maybe_unused]] static constexpr AffineFormat
affine_of (Format format)
{
  const int index = static_cast<int> (format) - static_cast<int> (Format::kAffine);
  return {kAffineBits[index / kScaleTypes / 3], kAffineGroups[index / kScaleTypes % 3],
          static_cast<ScaleType> (index % kScaleTypes)};
}

/// kF32, which is none, when there is no such format.
[[maybe_unused]] static constexpr Format
affine_format (const AffineFormat &affine)
{
  for (int i = 0; i < kAffineFormats; ++i) {
    const auto format = static_cast<Format> (static_cast<int> (Format::kAffine) + i);
    const AffineFormat found = affine_of (format);
    if (found.bits == affine.bits && found.group == affine.group && found.scales == affine.scales)
      return format;
  }
  return Format::kF32;
}

/// Bytes of a scale.
[[maybe_unused]] static constexpr int
scale_size (ScaleType type)
{
  return type == ScaleType::kF32 ? 4 : 2;
}

} // namespace millrace::cpu
