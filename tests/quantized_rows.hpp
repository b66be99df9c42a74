// Rows of every quantized format as files store them, for tests of panels: blocks, or the codes, scales and biases of an affine
// row one after the other. What affine rows mean is written here a second time, bit by bit.
#pragma once

#include "engine/backend/cpu/affine_format.hpp"
#include "engine/backend/cpu/formats.hpp"
#include "engine/weights/quantized_blocks.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace millrace::testing
{

using StoredRow = std::vector<std::byte>;

inline std::vector<cpu::Format>
all_formats ()
{
  std::vector<cpu::Format> formats;
  for (int i = 0; i < cpu::kFormats; ++i)
    formats.push_back (static_cast<cpu::Format> (i));
  return formats;
}

/// All that are not affine, and affine ones of every bits, group and type of scales.
inline std::vector<cpu::Format>
representative_formats ()
{
  std::vector<cpu::Format> formats = all_formats ();
  std::erase_if (formats, [] (cpu::Format format) {
    if (!cpu::is_affine (format) || cpu::block_type (format))
      return false;
    const cpu::AffineFormat affine = cpu::affine_of (format);
    return !(affine.group == 64 && affine.scales == cpu::ScaleType::kBF16) &&
           !(affine.group == 128 && affine.scales == cpu::ScaleType::kF32 && affine.bits == 4);
  });
  return formats;
}

inline std::vector<cpu::Format>
quantized_formats ()
{
  std::vector<cpu::Format> formats = all_formats ();
  std::erase_if (formats, [] (cpu::Format format) { return !cpu::is_quantized (format); });
  return formats;
}

/// Where the parts of an affine row are.
struct AffineParts {
  AffineParts (const cpu::AffineFormat &affine, int columns)
      : scales (static_cast<size_t> (columns) * static_cast<size_t> (affine.bits) / 8)
      , biases (scales + static_cast<size_t> (columns / affine.group * cpu::scale_size (affine.scales)))
      , bytes (2 * biases - scales)
  {
  }
  size_t scales, biases, bytes;
};

inline void
put_scale (cpu::ScaleType type, float value, std::byte *out)
{
  const uint16_t bits = type == cpu::ScaleType::kF16 ? f32_to_f16 (value) : f32_to_bf16 (value);
  if (type == cpu::ScaleType::kF32)
    std::memcpy (out, &value, sizeof value);
  else
    std::memcpy (out, &bits, sizeof bits);
}

inline float
get_scale (cpu::ScaleType type, const std::byte *bytes)
{
  float value;
  uint16_t bits;
  if (type == cpu::ScaleType::kF32) {
    std::memcpy (&value, bytes, sizeof value);
    return value;
  }
  std::memcpy (&bits, bytes, sizeof bits);
  return type == cpu::ScaleType::kF16 ? f16_to_f32 (bits) : bf16_to_f32 (bits);
}

inline StoredRow
affine_row (const cpu::AffineFormat &affine, const std::vector<float> &values)
{
  const auto columns = static_cast<int> (values.size ());
  const AffineParts parts (affine, columns);
  StoredRow row (parts.bytes);
  const int size = cpu::scale_size (affine.scales), most = (1 << affine.bits) - 1;
  for (int begin = 0; begin < columns; begin += affine.group) {
    const auto group = values.begin () + begin;
    const auto [least, largest] = std::minmax_element (group, group + affine.group);
    std::byte *scale = row.data () + parts.scales + begin / affine.group * size;
    std::byte *bias = row.data () + parts.biases + begin / affine.group * size;
    put_scale (affine.scales, (*largest - *least) / static_cast<float> (most), scale);
    put_scale (affine.scales, *least, bias);
    const float d = get_scale (affine.scales, scale), m = get_scale (affine.scales, bias);
    for (int i = begin; i < begin + affine.group; ++i) {
      const float wished = d != 0 ? (values[static_cast<size_t> (i)] - m) / d : 0;
      const int code = std::clamp (static_cast<int> (std::lround (wished)), 0, most);
      for (int bit = 0; bit < affine.bits; ++bit) {
        const int at = i * affine.bits + bit;
        row[static_cast<size_t> (at / 8)] |= static_cast<std::byte> ((code >> bit & 1) << at % 8);
      }
    }
  }
  return row;
}

inline std::vector<float>
affine_values (const cpu::AffineFormat &affine, const StoredRow &row, int columns)
{
  const AffineParts parts (affine, columns);
  std::vector<float> values;
  for (int i = 0; i < columns; ++i) {
    int code = 0;
    for (int bit = 0; bit < affine.bits; ++bit) {
      const int at = i * affine.bits + bit;
      code |= (std::to_integer<int> (row[static_cast<size_t> (at / 8)]) >> at % 8 & 1) << bit;
    }
    const int scale = i / affine.group * cpu::scale_size (affine.scales);
    values.push_back (get_scale (affine.scales, row.data () + parts.scales + scale) *
                          static_cast<float> (code) +
                      get_scale (affine.scales, row.data () + parts.biases + scale));
  }
  return values;
}

/// A row in a quantized format; whole groups.
inline StoredRow
stored_row (cpu::Format format, const std::vector<float> &values)
{
  const auto type = cpu::block_type (format);
  if (!type)
    return affine_row (cpu::affine_of (format), values);
  const DTypeBlock block = dtype_block (*type);
  StoredRow row (values.size () / block.elements * block.bytes);
  quantize_row (*type, values.data (), static_cast<int64_t> (values.size ()), row.data ());
  return row;
}

inline std::vector<float>
values_of (cpu::Format format, const StoredRow &row, int columns)
{
  const auto type = cpu::block_type (format);
  if (!type)
    return affine_values (cpu::affine_of (format), row, columns);
  std::vector<float> values (static_cast<size_t> (columns));
  dequantize_row (*type, row.data (), columns, values.data ());
  return values;
}

/// 1 … kPanelRows rows → a panel, which is zeros.
inline void
pack_rows (cpu::Format format, const std::vector<StoredRow> &rows, int columns, std::byte *panel)
{
  const auto count = static_cast<int> (rows.size ());
  if (cpu::block_type (format)) {
    const std::byte *pointers[cpu::kPanelRows];
    for (size_t i = 0; i < rows.size (); ++i)
      pointers[i] = rows[i].data ();
    cpu::pack_panel (format, pointers, count, columns, panel);
    return;
  }
  const AffineParts parts (cpu::affine_of (format), columns);
  cpu::AffineRow affine[cpu::kPanelRows];
  for (size_t i = 0; i < rows.size (); ++i)
    affine[i] = {rows[i].data (), rows[i].data () + parts.scales, rows[i].data () + parts.biases};
  cpu::pack_affine (format, affine, count, columns, panel);
}

} // namespace millrace::testing
