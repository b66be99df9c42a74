// What the reference products of panels share: access to what a panel holds, and the loop over rows and tokens.
//
// Layouts and formulas: kernels.hpp.
#pragma once

#include "engine/backend/cpu/kernels_portable.hpp"
#include "engine/tensor/dtype.hpp"

#include <cmath>
#include <cstring>

namespace millrace::cpu::portable
{

constexpr int kVectorBytes = 32, kStep = 4, kGroupSteps = kGroup / kStep;
constexpr int kNibbleBytes = kGroupSteps / 2 * kVectorBytes; ///< of 32 columns of a panel
constexpr int kGroups = kSuperBlock / kGroup;                ///< of a super-block
constexpr size_t kLine = 64;

template <typename T>
const T *
offset (const void *base, size_t bytes)
{
  return reinterpret_cast<const T *> (static_cast<const std::byte *> (base) + bytes);
}

inline size_t
scale_bytes (int columns)
{
  const size_t bytes = static_cast<size_t> (columns / kGroup) * kPanelRows * sizeof (uint16_t);
  return (bytes + kLine - 1) / kLine * kLine;
}

inline float
half (const void *base, size_t index)
{
  uint16_t bits;
  std::memcpy (&bits, offset<uint16_t> (base, 2 * index), sizeof bits);
  return f16_to_f32 (bits);
}

/// Element `step` · 4 + `i` of 32 nibbles of a row.
inline int
nibble (const uint8_t *vectors, int row, int step, int i)
{
  const int byte = vectors[step % 4 * kVectorBytes + row * kStep + i];
  return step < 4 ? byte & 15 : byte >> 4;
}

inline void
store (const LinearArgs &args, int token, int row, float value)
{
  float &y = args.y[token][args.y_offset + static_cast<size_t> (row)];
  if (args.bias)
    value += args.bias[row];
  y = args.accumulate ? y + value : value;
}

/// Code `column` (0 … 31) of a row, of 32 columns' codes of `bits` bits.
inline int
code_at (const uint8_t *vectors, int bits, int row, int column)
{
  const int step = column / kStep, at = row * kStep + column % kStep;
  const auto pair_at = [&] (const uint8_t *plane) {
    return plane[step / 4 * kVectorBytes + at] >> 2 * (step % 4) & 3;
  };
  switch (bits) {
  case 2:
    return pair_at (vectors);
  case 3:
    return pair_at (vectors) | (vectors[2 * kVectorBytes + at] >> step & 1) << 2;
  case 4:
    return nibble (vectors, row, step, column % kStep);
  case 5:
    return nibble (vectors, row, step, column % kStep) | (vectors[kNibbleBytes + at] >> step & 1) << 4;
  case 6:
    return nibble (vectors, row, step, column % kStep) | pair_at (vectors + kNibbleBytes) << 4;
  default:
    return vectors[step * kVectorBytes + at];
  }
}

/// The sum of `count` codes, integers, times x.
inline int
dot_codes (const float *codes, const int8_t *x, int count)
{
  int sum = 0;
  for (int i = 0; i < count; ++i)
    sum += static_cast<int> (codes[i]) * x[i];
  return sum;
}

/// For all rows and tokens y = product (panel, row of it, token's x), after begin (panel, row) for each row.
template <typename Begin, typename Product>
void
for_products (const LinearArgs &args, const Begin &begin, const Product &product)
{
  for (int row = 0; row < args.rows; ++row) {
    const void *panel =
        offset<std::byte> (args.weights, static_cast<size_t> (row / kPanelRows) * args.panel_bytes);
    begin (panel, row % kPanelRows);
    for (int token = 0; token < args.tokens; ++token)
      store (args, token, row,
             product (panel, row % kPanelRows,
                      offset<std::byte> (args.x, static_cast<size_t> (token) * args.x_row_bytes)));
  }
}

/// Of a format whose row is taken apart once for all tokens: Format::codes () as floats, which are exact.
template <typename Format>
void
linear_of_codes (const LinearArgs &args)
{
  for_products (
      args, [&] (const void *panel, int row) { Format::codes (panel, row, args.columns, args.scratch); },
      [&] (const void *panel, int row, const void *x) {
        return Format::product (panel, row, args.scratch, x, args.columns);
      });
}

template <typename Format>
void
linear (const LinearArgs &args)
{
  for_products (
      args, [] (const void *, int) {},
      [&] (const void *panel, int row, const void *x) {
        return Format::product (panel, row, x, args.columns);
      });
}

} // namespace millrace::cpu::portable
