// labels: unit
//
// Affine codes: packed as the format says, and never worse than what MLX's own quantizer makes of the same numbers.
#include "engine/weights/affine_quantizer.hpp"
#include "engine/weights/affine_tensor.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

using namespace millrace;

namespace
{

constexpr int kBits[] = {2, 3, 4, 5, 6, 8};
constexpr int kGroups[] = {32, 64, 128};
constexpr DType kScaleTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

struct Row {
  AffineCodes codes;
  DType type;
  std::vector<std::byte> data, scales, biases;
};

Row
quantized (const AffineCodes &codes, DType type, const std::vector<float> &values)
{
  const size_t groups = values.size () / static_cast<size_t> (codes.group) * dtype_bytes (type);
  Row row{codes, type, std::vector<std::byte> (values.size () * static_cast<size_t> (codes.bits) / 8),
          std::vector<std::byte> (groups), std::vector<std::byte> (groups)};
  quantize_affine_row (codes, type, values.data (), static_cast<int64_t> (values.size ()), row.data.data (),
                       row.scales.data (), row.biases.data ());
  return row;
}

float
stored_float (DType type, const std::vector<std::byte> &bytes, size_t index)
{
  if (type == DType::kF32) {
    float value;
    std::memcpy (&value, bytes.data () + index * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy (&bits, bytes.data () + index * 2, 2);
  return type == DType::kF16 ? f16_to_f32 (bits) : bf16_to_f32 (bits);
}

/// From the format: bit k of the row's codes is bit k % 32 of 32-bit little-endian word k / 32.
std::vector<float>
meant (const Row &row, size_t count)
{
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) {
    unsigned code = 0;
    for (int bit = 0; bit < row.codes.bits; ++bit) {
      const size_t k = i * static_cast<size_t> (row.codes.bits) + static_cast<size_t> (bit);
      uint32_t word;
      std::memcpy (&word, row.data.data () + k / 32 * 4, 4);
      code |= (word >> k % 32 & 1) << bit;
    }
    const size_t group = i / static_cast<size_t> (row.codes.group);
    values.push_back (stored_float (row.type, row.scales, group) * static_cast<float> (code) +
                      stored_float (row.type, row.biases, group));
  }
  return values;
}

float
rounded (DType type, float value)
{
  return type == DType::kF32   ? value
         : type == DType::kF16 ? f16_to_f32 (f32_to_f16 (value))
                               : bf16_to_f32 (f32_to_bf16 (value));
}

/// What MLX makes of a group: mlx.core.quantize, its documentation and reference implementation.
std::vector<float>
mlx_values (const AffineCodes &codes, DType type, const float *x)
{
  const auto [low, high] = std::minmax_element (x, x + codes.group);
  const auto bins = static_cast<float> ((1 << codes.bits) - 1);
  const bool side = std::fabs (*low) > std::fabs (*high);
  float scale = std::max ((*high - *low) / bins, 1e-7f);
  scale = side ? scale : -scale;
  const float edge = side ? *low : *high;
  const float q0 = std::round (edge / scale);
  scale = q0 != 0 ? edge / q0 : scale;
  const float bias = q0 == 0 ? 0 : edge;
  std::vector<float> values;
  for (int i = 0; i < codes.group; ++i) {
    const float q = std::clamp (std::round ((x[i] - bias) / scale), 0.0f, bins);
    values.push_back (rounded (type, scale) * q + rounded (type, bias));
  }
  return values;
}

double
squared_error (const std::vector<float> &a, const float *b)
{
  double error = 0;
  for (size_t i = 0; i < a.size (); ++i)
    error += (a[i] - b[i]) * static_cast<double> (a[i] - b[i]);
  return error;
}

struct Distribution {
  const char *name;
  float (*draw) (std::mt19937 &random);
};

const Distribution kDistributions[] = {
    {"normal", [] (std::mt19937 &random) { return std::normal_distribution<float> (0, 0.02f) (random); }},
    {"heavy", [] (std::mt19937 &random) { return 0.02f * std::student_t_distribution<float> (4) (random); }},
    {"uniform",
     [] (std::mt19937 &random) { return std::uniform_real_distribution<float> (-0.1f, 0.3f) (random); }},
    {"positive", [] (std::mt19937 &random) { return std::exponential_distribution<float> (3) (random); }}};

TEST (AffineQuantizer, errors_are_at_most_those_of_mlx)
{
  std::mt19937 random (test_seed ());
  for (const Distribution &distribution : kDistributions) {
    for (const int bits : kBits) {
      double worst = 0;
      for (const int group : kGroups) {
        for (const DType type : kScaleTypes) {
          const AffineCodes codes{bits, group};
          std::vector<float> values (static_cast<size_t> (group) * 40);
          std::ranges::generate (values, [&] { return distribution.draw (random); });
          double theirs = 0;
          for (size_t at = 0; at < values.size (); at += static_cast<size_t> (group))
            theirs += squared_error (mlx_values (codes, type, values.data () + at), values.data () + at);
          const double ours =
              squared_error (meant (quantized (codes, type, values), values.size ()), values.data ());
          worst = std::max (worst, std::sqrt (ours / theirs));
          EXPECT_LE (ours, theirs) << distribution.name << ", " << bits << " bits in groups of " << group
                                   << ", scales " << dtype_name (type);
        }
      }
      std::printf ("%s, %d bits: error at most %.3f of MLX's\n", distribution.name, bits, worst);
    }
  }
}

TEST (AffineQuantizer, rows_are_read_as_they_are_meant)
{
  std::mt19937 random (test_seed ());
  for (const int bits : kBits) {
    for (const int group : kGroups) {
      for (const DType type : kScaleTypes) {
        std::vector<float> values (static_cast<size_t> (group) * 3);
        std::ranges::generate (values, [&] { return kDistributions[0].draw (random); });
        const Row row = quantized ({bits, group}, type, values);
        AffineTensor tensor;
        tensor.codes = row.codes;
        tensor.inputs = static_cast<int64_t> (values.size ());
        tensor.scale_type = type;
        tensor.data = row.data;
        tensor.scales = row.scales;
        tensor.biases = row.biases;
        std::vector<float> read (values.size ());
        dequantize_affine_row (tensor, 0, read.data ());
        EXPECT_EQ (read, meant (row, values.size ())) << bits << " bits, " << group;
      }
    }
  }
}

TEST (AffineQuantizer, what_can_be_exact_is_exact)
{
  for (const int bits : kBits) {
    const AffineCodes codes{bits, 32};
    for (const float value : {0.0f, 1.0f, -2.5f, 1e-30f, -1e30f}) {
      const std::vector<float> constant (32, value);
      EXPECT_EQ (meant (quantized (codes, DType::kF32, constant), 32), constant) << value;
    }
    std::vector<float> line (32);
    for (size_t i = 0; i < line.size (); ++i)
      line[i] = 0.5f * static_cast<float> (i % (size_t{1} << bits)) - 1;
    if (bits <= 5) { // all codes occur
      EXPECT_EQ (meant (quantized (codes, DType::kBF16, line), 32), line) << bits;
    }
  }
}

TEST (AffineQuantizer, elements_that_are_no_numbers_count_as_zero)
{
  std::vector<float> values (64, 0.25f), plain = values;
  values[3] = std::numeric_limits<float>::quiet_NaN ();
  values[40] = std::numeric_limits<float>::infinity ();
  values[41] = -std::numeric_limits<float>::infinity ();
  plain[3] = plain[40] = plain[41] = 0;
  for (const DType type : kScaleTypes) {
    EXPECT_EQ (quantized ({4, 32}, type, values).data, quantized ({4, 32}, type, plain).data);
    for (const float extreme : {3e38f, 1e-40f}) { // the ends of what floats are
      std::vector<float> wide (64, extreme);
      wide[0] = -extreme;
      for (const float value : meant (quantized ({4, 32}, type, wide), 64))
        EXPECT_TRUE (std::isfinite (value)) << extreme << ", scales " << dtype_name (type);
    }
  }
}

} // namespace
