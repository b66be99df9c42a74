// The reference products of panels, their expansion to floats, and the activations they take: plain C++.
//
// The order of every product is the one that kernels.hpp gives; std::fma rounds once on every machine (in software where
// there is no instruction), so that the other instruction sets must give the same bits.
#include "engine/backend/cpu/panels_portable.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace millrace::cpu::portable
{

namespace
{

// Each format: the product of one row of a panel and one token's activations, and the row as floats.

struct Q8 {
  static int element (const int8_t *quants, int row, int column)
  {
    return quants[column / kStep * kVectorBytes + row * kStep + column % kStep];
  }

  static float product (const void *panel, int row, const void *x, int columns)
  {
    const auto *quants = offset<int8_t> (panel, scale_bytes (columns));
    const auto *values = static_cast<const int16_t *> (x);
    const auto *scales = offset<float> (x, 2 * static_cast<size_t> (columns));
    constexpr int kPlace[kStep] = {0, 2, 1, 3};
    float sum = 0;
    for (int group = 0; group < columns / kGroup; ++group) {
      int dot = 0;
      for (int i = group * kGroup; i < (group + 1) * kGroup; ++i)
        dot += element (quants, row, i) * values[i - i % kStep + kPlace[i % kStep]];
      const float scale = half (panel, static_cast<size_t> (group * kPanelRows + row)) * scales[group];
      sum = std::fma (static_cast<float> (dot), scale, sum);
    }
    return sum;
  }

  static void expand (const void *panel, int row, int columns, float *out)
  {
    const auto *quants = offset<int8_t> (panel, scale_bytes (columns));
    for (int i = 0; i < columns; ++i)
      out[i] = half (panel, static_cast<size_t> (i / kGroup * kPanelRows + row)) *
               static_cast<float> (element (quants, row, i));
  }
};

struct Q4 {
  static float product (const void *panel, int row, const void *x, int columns)
  {
    const auto *quants = offset<uint8_t> (panel, scale_bytes (columns));
    const auto *values = static_cast<const int8_t *> (x);
    const auto *scales = offset<float> (x, static_cast<size_t> (columns));
    const auto *sums = reinterpret_cast<const int32_t *> (scales + columns / kGroup);
    float sum = 0;
    for (int group = 0; group < columns / kGroup; ++group, quants += kNibbleBytes, values += kGroup) {
      int dot = -sums[group];
      for (int i = 0; i < kGroup; ++i)
        dot += nibble (quants, row, i / kStep, i % kStep) * values[i];
      const float scale = half (panel, static_cast<size_t> (group * kPanelRows + row)) * scales[group];
      sum = std::fma (static_cast<float> (dot), scale, sum);
    }
    return sum;
  }

  static void expand (const void *panel, int row, int columns, float *out)
  {
    const auto *quants = offset<uint8_t> (panel, scale_bytes (columns));
    for (int i = 0; i < columns; ++i) {
      const int group = i / kGroup, in_group = i % kGroup;
      const int value = nibble (quants + group * kNibbleBytes, row, in_group / kStep, in_group % kStep) - 8;
      out[i] = half (panel, static_cast<size_t> (group * kPanelRows + row)) * static_cast<float> (value);
    }
  }
};

struct Q4K {
  static int entry (int row, int group) { return (group / 2 * kPanelRows + row) * 2 + group % 2; }
  static int scale (const uint8_t *block, int row, int group) { return block[32 + entry (row, group)] & 63; }
  static int minimum (const uint8_t *block, int row, int group)
  {
    const int at = entry (row, group);
    const int low = block[96 + at % 32] >> (at < 32 ? 0 : 4) & 15;
    return low | block[32 + at] >> 6 << 4;
  }

  static float product (const void *panel, int row, const void *x, int columns)
  {
    const auto *block = static_cast<const uint8_t *> (panel);
    const auto *values = static_cast<const int8_t *> (x);
    const auto *scales = offset<float> (x, static_cast<size_t> (columns));
    const auto *sums = reinterpret_cast<const int16_t *> (scales + columns / kSuperBlock) + columns / 16;
    float sum = 0;
    for (int b = 0; b < columns / kSuperBlock; ++b, block += kQ4KBytes) {
      int dots = 0, minima = 0;
      for (int group = 0; group < kGroups; ++group, values += kGroup) {
        int dot = 0;
        for (int i = 0; i < kGroup; ++i)
          dot += nibble (block + 128 + group * kNibbleBytes, row, i / kStep, i % kStep) * values[i];
        dots += scale (block, row, group) * dot;
        minima += minimum (block, row, group) * sums[b * kGroups + group];
      }
      sum = std::fma (-static_cast<float> (minima),
                      half (block, static_cast<size_t> (kPanelRows + row)) * scales[b], sum);
      sum = std::fma (static_cast<float> (dots), half (block, static_cast<size_t> (row)) * scales[b], sum);
    }
    return sum;
  }

  static void expand (const void *panel, int row, int columns, float *out)
  {
    const auto *block = static_cast<const uint8_t *> (panel);
    for (int i = 0; i < columns; ++i) {
      const int group = i % kSuperBlock / kGroup, in_group = i % kGroup;
      if (i > 0 && i % kSuperBlock == 0)
        block += kQ4KBytes;
      const float scaled =
          half (block, static_cast<size_t> (row)) * static_cast<float> (scale (block, row, group));
      const float low = half (block, static_cast<size_t> (kPanelRows + row)) *
                        static_cast<float> (minimum (block, row, group));
      const int value = nibble (block + 128 + group * kNibbleBytes, row, in_group / kStep, in_group % kStep);
      out[i] = scaled * static_cast<float> (value) - low;
    }
  }
};

struct Q6K {
  static constexpr int kGroupBytes = kNibbleBytes + 2 * kVectorBytes;

  static int scale (const uint8_t *block, int row, int sub_block)
  {
    return static_cast<int8_t> (block[(sub_block / 2 * kPanelRows + row) * 2 + sub_block % 2]);
  }
  /// 0 … 63
  static int element (const uint8_t *block, int row, int column)
  {
    const uint8_t *vectors = block + 160 + column / kGroup * kGroupBytes;
    const int step = column % kGroup / kStep, i = column % kStep;
    const int top = vectors[kNibbleBytes + step / 4 * kVectorBytes + row * kStep + i] >> 2 * (step % 4) & 3;
    return nibble (vectors, row, step, i) | top << 4;
  }

  static float product (const void *panel, int row, const void *x, int columns)
  {
    const auto *block = static_cast<const uint8_t *> (panel);
    const auto *values = static_cast<const int8_t *> (x);
    const auto *scales = offset<float> (x, static_cast<size_t> (columns));
    const auto *sums = reinterpret_cast<const int16_t *> (scales + columns / kSuperBlock);
    float sum = 0;
    for (int b = 0; b < columns / kSuperBlock; ++b, block += kQ6KBytes, values += kSuperBlock) {
      int total = 0;
      for (int s = 0; s < 16; ++s) {
        int dot = -32 * sums[b * 16 + s];
        for (int i = 16 * s; i < 16 * (s + 1); ++i)
          dot += element (block, row, i) * values[i];
        total += scale (block, row, s) * dot;
      }
      sum = std::fma (static_cast<float> (total), half (block + 128, static_cast<size_t> (row)) * scales[b],
                      sum);
    }
    return sum;
  }

  static void expand (const void *panel, int row, int columns, float *out)
  {
    const auto *block = static_cast<const uint8_t *> (panel);
    for (int i = 0; i < columns; ++i) {
      if (i > 0 && i % kSuperBlock == 0)
        block += kQ6KBytes;
      const int column = i % kSuperBlock;
      out[i] = half (block + 128, static_cast<size_t> (row)) *
               static_cast<float> (scale (block, row, column / 16)) *
               static_cast<float> (element (block, row, column) - 32);
    }
  }
};

/// Integers of one group and its scale: `group` elements from `begin`, of which those from `count` on are zeros. The scale
/// is NaN when an element is not finite, so that this is not lost.
float
quantize_group (const float *x, int begin, int group, int count, int *q)
{
  const int size = std::clamp (count - begin, 0, group);
  float largest = 0, poison = 0;
  for (int i = 0; i < size; ++i) {
    largest = std::max (largest, std::fabs (x[begin + i]));
    poison += x[begin + i] * 0.0f;
  }
  // Smaller than that, the inverse would overflow; such a group counts as zero.
  const bool zero = !(largest > 1e-30f);
  const float inverse = zero ? 0.0f : 127.0f / largest;
  for (int i = 0; i < group; ++i) {
    const float value = i < size ? x[begin + i] * inverse : 0.0f;
    q[i] = value == value ? static_cast<int> (std::lrint (value)) : 0;
  }
  return (zero ? 0.0f : largest / 127.0f) + poison;
}

} // namespace

void
linear_q8 (const LinearArgs &args)
{
  linear<Q8> (args);
}

void
linear_q4 (const LinearArgs &args)
{
  linear<Q4> (args);
}

void
linear_q4k (const LinearArgs &args)
{
  linear<Q4K> (args);
}

void
linear_q6k (const LinearArgs &args)
{
  linear<Q6K> (args);
}

void
expand_q8 (const void *panel, int row, int columns, float *out)
{
  Q8::expand (panel, row, columns, out);
}

void
expand_q4 (const void *panel, int row, int columns, float *out)
{
  Q4::expand (panel, row, columns, out);
}

void
expand_q4k (const void *panel, int row, int columns, float *out)
{
  Q4K::expand (panel, row, columns, out);
}

void
expand_q6k (const void *panel, int row, int columns, float *out)
{
  Q6K::expand (panel, row, columns, out);
}

void
quantize_wide32 (const float *x, int count, int columns, void *out)
{
  auto *values = static_cast<int16_t *> (out);
  auto *scales = reinterpret_cast<float *> (values + columns);
  int q[kGroup];
  for (int begin = 0; begin < columns; begin += kGroup) {
    scales[begin / kGroup] = quantize_group (x, begin, kGroup, count, q);
    for (int i = 0; i < kGroup; i += kStep) {
      for (int j = 0; j < kStep; ++j)
        values[begin + i + j] = static_cast<int16_t> (q[i + (j == 1 ? 2 : j == 2 ? 1 : j)]);
    }
  }
}

void
quantize_byte32 (const float *x, int count, int columns, void *out)
{
  auto *values = static_cast<int8_t *> (out);
  auto *scales = reinterpret_cast<float *> (values + columns);
  auto *sums = reinterpret_cast<int32_t *> (scales + columns / kGroup);
  int q[kGroup];
  for (int begin = 0; begin < columns; begin += kGroup) {
    scales[begin / kGroup] = quantize_group (x, begin, kGroup, count, q);
    int sum = 0;
    for (int i = 0; i < kGroup; ++i) {
      values[begin + i] = static_cast<int8_t> (q[i]);
      sum += q[i];
    }
    sums[begin / kGroup] = 8 * sum;
  }
}

void
quantize_byte256 (const float *x, int count, int columns, void *out)
{
  auto *values = static_cast<int8_t *> (out);
  auto *scales = reinterpret_cast<float *> (values + columns);
  auto *sums16 = reinterpret_cast<int16_t *> (scales + columns / kSuperBlock);
  auto *sums32 = sums16 + columns / 16;
  int q[kSuperBlock];
  for (int begin = 0; begin < columns; begin += kSuperBlock) {
    scales[begin / kSuperBlock] = quantize_group (x, begin, kSuperBlock, count, q);
    for (int i = 0; i < kSuperBlock; i += 16) {
      int sum = 0;
      for (int j = i; j < i + 16; ++j) {
        values[begin + j] = static_cast<int8_t> (q[j]);
        sum += q[j];
      }
      sums16[(begin + i) / 16] = static_cast<int16_t> (sum);
    }
    for (int i = begin / kGroup; i < (begin + kSuperBlock) / kGroup; ++i)
      sums32[i] = static_cast<int16_t> (sums16[2 * i] + sums16[2 * i + 1]);
  }
}

} // namespace millrace::cpu::portable
