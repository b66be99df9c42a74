// Matrices as other programs' quantizers store them, made from floats, with what they mean: each by its format's description,
// in double precision, a second time beside the engine's.
//
// Sources: those of engine/weights/fp8_matrix.hpp, mxfp4_matrix.hpp, integer_matrix.hpp.
#pragma once

#include "tests/raw_safetensors.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace millrace::testing
{

/// The tensors of a matrix, and its values row by row, rounded to float32 once.
struct CodedTensors {
  std::vector<RawTensor> tensors;
  std::vector<float> values;
};

inline double
e4m3_value (int code)
{
  const double sign = code & 128 ? -1 : 1;
  const int exponent = code >> 3 & 15, fraction = code & 7;
  if (exponent == 15 && fraction == 7)
    return std::nan ("");
  return sign * (exponent == 0 ? std::ldexp (fraction, -9) : std::ldexp (8 + fraction, exponent - 10));
}

/// The code that is nearest: values rise with the low 7 bits.
inline int
e4m3_code (double value)
{
  const double magnitude = std::abs (value);
  int low = 0, high = 126;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (e4m3_value (middle) <= magnitude ? low : high) = middle;
  }
  const int code = magnitude - e4m3_value (low) <= e4m3_value (high) - magnitude ? low : high;
  return value < 0 ? code | 128 : code;
}

/// Rounded to a type of scales, as its bytes.
inline float
rounded (const std::string &dtype, double value)
{
  const auto single = static_cast<float> (value);
  return dtype == "F16"    ? f16_to_f32 (f32_to_f16 (single))
         : dtype == "BF16" ? bf16_to_f32 (f32_to_bf16 (single))
                           : single;
}

inline std::string
float_bytes (const std::string &dtype, const std::vector<float> &values)
{
  SyntheticTensor tensor{"",
                         {},
                         dtype == "F16"    ? DType::kF16
                         : dtype == "BF16" ? DType::kBF16
                                           : DType::kF32,
                         values};
  return encode_values (tensor);
}

/// A matrix or a stack of them: `shape`'s last two are outputs and inputs. A scale for each block; blocks of 0: of all outputs,
/// or inputs.
inline CodedTensors
fp8_tensors (const std::string &name, const std::string &scale_name, const std::vector<int64_t> &shape,
             const std::vector<float> &values, int64_t block_rows, int64_t block_columns,
             const std::vector<int64_t> &scale_shape, const std::string &scale_dtype = "F32")
{
  const int64_t rows = shape[shape.size () - 2], columns = shape.back ();
  const int64_t height = block_rows > 0 ? block_rows : rows,
                width = block_columns > 0 ? block_columns : columns;
  const int64_t down = (rows + height - 1) / height, across = (columns + width - 1) / width;
  const auto stack = static_cast<int64_t> (values.size ()) / rows / columns;
  std::vector<uint8_t> codes (values.size ());
  std::vector<float> scales (static_cast<size_t> (stack * down * across)), meant (values.size ());
  const auto scale_at = [&] (int64_t matrix, int64_t row, int64_t column) -> float & {
    return scales[static_cast<size_t> ((matrix * down + row / height) * across + column / width)];
  };
  const auto each = [&] (const auto &action) {
    for (int64_t matrix = 0; matrix < stack; ++matrix)
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t column = 0; column < columns; ++column)
          action (static_cast<size_t> ((matrix * rows + row) * columns + column),
                  scale_at (matrix, row, column));
  };
  each ([&] (size_t at, float &scale) { scale = std::max (scale, std::abs (values[at])); });
  for (float &scale : scales)
    scale = rounded (scale_dtype, scale > 0 ? scale / 448.0 : 1);
  each ([&] (size_t at, float &scale) {
    codes[at] = static_cast<uint8_t> (e4m3_code (values[at] / scale));
    meant[at] = static_cast<float> (e4m3_value (codes[at]) * scale);
  });
  return {{{name, "F8_E4M3", shape, bytes_of (codes)},
           {scale_name, scale_dtype, scale_shape, float_bytes (scale_dtype, scales)}},
          meant};
}

inline double
fp4_value (int code)
{
  constexpr double kValues[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return code & 8 ? -kValues[code & 7] : kValues[code];
}

/// Codes and scales of rows of `columns`.
inline CodedTensors
mxfp4_tensors (RawTensor codes, RawTensor scales, const std::vector<float> &values)
{
  CodedTensors result;
  result.values.resize (values.size ());
  for (size_t begin = 0; begin < values.size (); begin += 32) {
    float largest = 0;
    for (size_t i = begin; i < begin + 32; ++i)
      largest = std::max (largest, std::abs (values[i]));
    const int exponent = largest > 0 ? std::ilogb (largest) - 2 : -5;
    scales.bytes += static_cast<char> (exponent + 127);
    for (size_t i = begin; i < begin + 32; ++i) {
      int best = 0;
      for (int code = 0; code < 16; ++code)
        if (std::abs (std::ldexp (fp4_value (code), exponent) - values[i]) <
            std::abs (std::ldexp (fp4_value (best), exponent) - values[i]))
          best = code;
      if (i % 2 == 0)
        codes.bytes += static_cast<char> (best);
      else
        codes.bytes.back () = static_cast<char> (codes.bytes.back () | best << 4);
      result.values[i] = static_cast<float> (std::ldexp (fp4_value (best), exponent));
    }
  }
  result.tensors = {std::move (codes), std::move (scales)};
  return result;
}

struct IntegerFormat {
  bool awq = false;
  int bits = 4;
  int64_t group = 128; ///< -1: all of a row
  bool version_2 = false;
  std::string scales = "F16";
  std::vector<int32_t> groups = {}; ///< of each input; empty: neighbours, and no g_idx
};

/// Puts `bits` bits into words, from bit `at` on of those of a row or column.
inline void
put_bits (std::vector<uint32_t> &words, int64_t first, int64_t step, int64_t at, int bits, uint32_t value)
{
  for (int bit = 0; bit < bits; ++bit)
    if (value >> bit & 1)
      words[static_cast<size_t> (first + (at + bit) / 32 * step)] |= 1u << ((at + bit) % 32);
}

/// `values` [outputs, inputs]; the smallest and the largest of a group get the first and the last code.
inline CodedTensors
integer_tensors (const std::string &module, int64_t outputs, int64_t inputs, const std::vector<float> &values,
                 const IntegerFormat &format)
{
  const int bits = format.bits, last = (1 << bits) - 1;
  const int64_t group = format.group < 0 ? inputs : format.group, groups = (inputs + group - 1) / group;
  const auto group_of = [&] (int64_t input) {
    return format.groups.empty () ? input / group : int64_t{format.groups[static_cast<size_t> (input)]};
  };
  std::vector<uint32_t> codes (static_cast<size_t> (inputs * outputs * bits / 32)),
      zeros (static_cast<size_t> (groups * outputs * bits / 32));
  std::vector<float> scales (static_cast<size_t> (groups * outputs)), meant (values.size ());
  const auto put = [&] (std::vector<uint32_t> &words, int64_t row, int64_t output, bool is_code,
                        uint32_t value) {
    constexpr int kOrder[] = {0, 2, 4, 6, 1, 3, 5, 7}; // the outputs of a word, from its lowest bits on
    if (format.awq)
      put_bits (words, row * (outputs / 8) + output / 8, 1,
                4 * (std::ranges::find (kOrder, static_cast<int> (output % 8)) - kOrder), 4, value);
    else if (is_code)
      put_bits (words, output, outputs, row * bits, bits, value);
    else
      put_bits (words, row * (outputs * bits / 32), 1, output * bits, bits, value);
  };
  for (int64_t output = 0; output < outputs; ++output) {
    for (int64_t g = 0; g < groups; ++g) {
      double least = 0, most = 0;
      for (int64_t i = 0; i < inputs; ++i) {
        const double value = group_of (i) == g ? values[static_cast<size_t> (output * inputs + i)] : 0;
        least = std::min (least, value);
        most = std::max (most, value);
      }
      const float scale = rounded (format.scales, std::max (1e-3, (most - least) / last));
      const int zero = std::clamp (static_cast<int> (std::lround (-least / scale)), 0, last);
      scales[static_cast<size_t> (g * outputs + output)] = scale;
      const bool less_one = !format.awq && !format.version_2;
      put (zeros, g, output, false, static_cast<uint32_t> (zero - less_one) & static_cast<uint32_t> (last));
      for (int64_t i = 0; i < inputs; ++i) {
        if (group_of (i) != g)
          continue;
        const auto at = static_cast<size_t> (output * inputs + i);
        const int code = std::clamp (static_cast<int> (std::lround (values[at] / scale)) + zero, 0, last);
        put (codes, i, output, true, static_cast<uint32_t> (code));
        meant[at] = static_cast<float> (static_cast<double> (scale) * (code - zero));
      }
    }
  }
  const std::vector<int64_t> code_shape = format.awq ? std::vector<int64_t>{inputs, outputs / 8}
                                                     : std::vector<int64_t>{inputs * bits / 32, outputs};
  CodedTensors result;
  result.tensors = {
      {module + ".qweight", "I32", code_shape, bytes_of (codes)},
      {module + ".qzeros", "I32", {groups, outputs * bits / 32}, bytes_of (zeros)},
      {module + ".scales", format.scales, {groups, outputs}, float_bytes (format.scales, scales)}};
  if (!format.groups.empty ())
    result.tensors.push_back ({module + ".g_idx", "I32", {inputs}, bytes_of (format.groups)});
  result.values = std::move (meant);
  return result;
}

struct PackedFormat {
  int bits = 4;
  int64_t group = 128; ///< -1: all of a row
  bool zeros = false;
  std::string scales = "BF16";
  std::vector<int32_t> groups = {}; ///< of each input; empty: neighbours, and no g_idx
  bool wide_shape = true;           ///< weight_shape of 64 bits
};

/// compressed-tensors' pack-quantized, of `values` [outputs, inputs].
inline CodedTensors
packed_tensors (const std::string &module, int64_t outputs, int64_t inputs, const std::vector<float> &values,
                const PackedFormat &format)
{
  const int bits = format.bits, last = (1 << bits) - 1, middle = 1 << (bits - 1);
  const int64_t group = format.group < 0 ? inputs : format.group, groups = inputs / group;
  const int64_t row_words = (inputs * bits + 31) / 32, zero_rows = (outputs * bits + 31) / 32;
  const auto group_of = [&] (int64_t input) {
    return format.groups.empty () ? input / group : int64_t{format.groups[static_cast<size_t> (input)]};
  };
  std::vector<uint32_t> codes (static_cast<size_t> (outputs * row_words)),
      zeros (static_cast<size_t> (zero_rows * groups));
  std::vector<float> scales (static_cast<size_t> (outputs * groups)), meant (values.size ());
  for (int64_t output = 0; output < outputs; ++output)
    for (int64_t g = 0; g < groups; ++g) {
      double least = 0, most = 0;
      for (int64_t i = 0; i < inputs; ++i) {
        const double value = group_of (i) == g ? values[static_cast<size_t> (output * inputs + i)] : 0;
        least = std::min (least, value);
        most = std::max (most, value);
      }
      const double span = format.zeros ? most - least : 2 * std::max (most, -least);
      const float scale = rounded (format.scales, std::max (1e-3, span / last));
      const int zero =
          format.zeros ? std::clamp (static_cast<int> (std::lround (-least / scale)), 0, last) : middle;
      scales[static_cast<size_t> (output * groups + g)] = scale;
      put_bits (zeros, g, groups, output * bits, bits, static_cast<uint32_t> (zero));
      for (int64_t i = 0; i < inputs; ++i) {
        if (group_of (i) != g)
          continue;
        const auto at = static_cast<size_t> (output * inputs + i);
        const int code = std::clamp (static_cast<int> (std::lround (values[at] / scale)) + zero, 0, last);
        put_bits (codes, output * row_words, 1, i * bits, bits, static_cast<uint32_t> (code));
        meant[at] = static_cast<float> (static_cast<double> (scale) * (code - zero));
      }
    }
  CodedTensors result;
  result.tensors.push_back ({module + ".weight_packed", "I32", {outputs, row_words}, bytes_of (codes)});
  if (format.zeros)
    result.tensors.push_back ({module + ".weight_zero_point", "I32", {zero_rows, groups}, bytes_of (zeros)});
  if (format.wide_shape)
    result.tensors.push_back (
        {module + ".weight_shape", "I64", {2}, bytes_of (std::vector<int64_t>{outputs, inputs})});
  else
    result.tensors.push_back (
        {module + ".weight_shape",
         "I32",
         {2},
         bytes_of (std::vector<int32_t>{static_cast<int32_t> (outputs), static_cast<int32_t> (inputs)})});
  if (!format.groups.empty ())
    result.tensors.push_back ({module + ".weight_g_idx", "I32", {inputs}, bytes_of (format.groups)});
  result.tensors.push_back (
      {module + ".weight_scale", format.scales, {outputs, groups}, float_bytes (format.scales, scales)});
  result.values = std::move (meant);
  return result;
}

} // namespace millrace::testing
