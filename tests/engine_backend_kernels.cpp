// labels: unit
//
// Every kernel of every instruction set against arithmetic in double precision, and the promise that no tile
// shape changes a bit. Attention: engine_backend_attention.cpp.
#include "engine/backend/cpu/kernels.hpp"
#include "engine/backend/cpu/memory.hpp"
#include "engine/backend/cpu/weights.hpp"
#include "engine/tensor/dtype.hpp"
#include "tests/kernel_tables.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

using namespace millrace;
using namespace millrace::cpu;
using namespace millrace::testing;

namespace
{

constexpr uint32_t kSeed = 21;

int
padded (int count)
{
  return static_cast<int> (round_up (static_cast<size_t> (count), kPad));
}

// A random matrix in one format with its exact values, and activations for it.
struct Problem {
  Problem (Format format, int rows, int inputs, int tokens, uint32_t seed)
      : format (format)
      , rows (rows)
      , columns (padded (inputs))
      , tokens (tokens)
  {
    std::mt19937 random (seed);
    row_bytes = cpu::row_bytes (format, columns);
    weights = Memory (row_bytes * static_cast<size_t> (rows) + 64);
    x_row_bytes = format == Format::kInt8 ? cpu::row_bytes (format, columns)
                                          : sizeof (float) * static_cast<size_t> (columns);
    x = Memory (x_row_bytes * static_cast<size_t> (tokens));
    for (int row = 0; row < rows; ++row) {
      const auto values = random_floats (static_cast<size_t> (inputs), random);
      std::byte *packed = weights.data () + static_cast<size_t> (row) * row_bytes;
      pack_row (format, values.data (), inputs, columns, packed);
      auto &expanded = exact_weights.emplace_back (columns);
      kPortableKernels.expand[static_cast<int> (format)](packed, columns, expanded.data ());
    }
    for (int token = 0; token < tokens; ++token) {
      auto values = random_floats (static_cast<size_t> (inputs), random);
      values.resize (static_cast<size_t> (columns));
      std::byte *out = x.data () + static_cast<size_t> (token) * x_row_bytes;
      if (format == Format::kInt8) {
        kPortableKernels.quantize_row (values.data (), inputs, columns, out);
        kPortableKernels.expand[static_cast<int> (format)](out, columns, values.data ());
      } else {
        std::memcpy (out, values.data (), x_row_bytes);
      }
      exact_x.push_back (std::move (values));
    }
    bias = random_floats (static_cast<size_t> (rows), random);
    before = random_floats (static_cast<size_t> (rows * tokens), random);
  }

  // Tokens [first, first + count) of rows [0, row_count).
  std::vector<float> run (const KernelTable &table, int first, int count, int row_count,
                          bool accumulate) const
  {
    std::vector<float> y (before.begin () + first * rows, before.begin () + (first + count) * rows);
    std::vector<float *> y_rows;
    for (int token = 0; token < count; ++token)
      y_rows.push_back (y.data () + token * rows);
    std::vector<float> scratch (static_cast<size_t> (columns));
    LinearArgs args;
    args.weights = weights.data ();
    args.row_bytes = row_bytes;
    args.rows = row_count;
    args.columns = columns;
    args.x = x.data () + static_cast<size_t> (first) * x_row_bytes;
    args.x_row_bytes = x_row_bytes;
    args.tokens = count;
    args.bias = bias.data ();
    args.y = y_rows.data ();
    args.y_offset = 0;
    args.accumulate = accumulate;
    args.scratch = scratch.data ();
    table.linear[static_cast<int> (format)](args);
    return y;
  }

  double exact (int token, int row) const
  {
    double sum = bias[static_cast<size_t> (row)];
    for (int i = 0; i < columns; ++i)
      sum += static_cast<double> (exact_weights[row][i]) * exact_x[token][i];
    return sum;
  }

  Format format;
  int rows, columns, tokens;
  size_t row_bytes = 0, x_row_bytes = 0;
  Memory weights, x;
  std::vector<std::vector<float>> exact_weights, exact_x;
  std::vector<float> bias, before;
};

constexpr Format kAllFormats[] = {Format::kF32, Format::kF16, Format::kBF16, Format::kInt8};

TEST (Kernels, products_are_those_of_double_precision)
{
  for (const KernelTable *table : kernel_tables ()) {
    for (const Format format : kAllFormats) {
      for (const int inputs : {1, 20, 32, 100, 515}) {
        const Problem problem (format, 29, inputs, 7, kSeed);
        for (const bool accumulate : {false, true}) {
          const auto y = problem.run (*table, 0, 7, 29, accumulate);
          for (int token = 0; token < 7; ++token) {
            for (int row = 0; row < 29; ++row) {
              const auto at = static_cast<size_t> (token * 29 + row);
              const double expected = problem.exact (token, row) + (accumulate ? problem.before[at] : 0.0f);
              ASSERT_NEAR (y[at], expected, 2e-6 * std::sqrt (inputs) * 4)
                  << table->name << ", format " << static_cast<int> (format) << ", " << inputs
                  << " inputs, token " << token << ", row " << row;
            }
          }
        }
      }
    }
  }
}

TEST (Kernels, a_product_has_the_same_bits_in_every_tile)
{
  constexpr int kRows = 48, kTokens = 13;
  for (const KernelTable *table : kernel_tables ()) {
    for (const Format format : kAllFormats) {
      const Problem problem (format, kRows, 300, kTokens, kSeed + 1);
      const auto all = problem.run (*table, 0, kTokens, kRows, true);
      for (int first = 0; first < kTokens; ++first) {
        for (int count = 1; first + count <= kTokens; ++count) {
          for (const int row_count : {1, 2, 5, 23, kRows}) {
            const auto some = problem.run (*table, first, count, row_count, true);
            for (int token = 0; token < count; ++token)
              ASSERT_EQ (std::memcmp (&some[static_cast<size_t> (token * kRows)],
                                      &all[static_cast<size_t> ((first + token) * kRows)],
                                      sizeof (float) * static_cast<size_t> (row_count)),
                         0)
                  << table->name << ", format " << static_cast<int> (format) << ", token " << token << " of "
                  << count << " from " << first << ", " << row_count << " rows";
          }
        }
      }
    }
  }
}

TEST (Kernels, expanded_rows_are_the_stored_values)
{
  std::mt19937 random (kSeed + 2);
  const auto values = random_floats (77, random);
  const int columns = padded (77);
  for (const KernelTable *table : kernel_tables ()) {
    for (const Format format : kAllFormats) {
      Memory row (row_bytes (format, columns));
      pack_row (format, values.data (), 77, columns, row.data ());
      std::vector<float> out (static_cast<size_t> (columns), 5.0f);
      table->expand[static_cast<int> (format)](row.data (), columns, out.data ());
      for (int i = 0; i < columns; ++i) {
        const float value = i < 77 ? values[i] : 0.0f;
        switch (format) {
        case Format::kF32:
          EXPECT_EQ (out[i], value);
          break;
        case Format::kF16:
          EXPECT_EQ (out[i], f16_to_f32 (f32_to_f16 (value)));
          break;
        case Format::kBF16:
          EXPECT_EQ (out[i], bf16_to_f32 (f32_to_bf16 (value)));
          break;
        case Format::kInt8:
          EXPECT_NEAR (out[i], value, 4.0 / 127 / 2) << "half a step of the largest of its group";
          break;
        }
      }
    }
  }
}

TEST (Kernels, quantization_rounds_to_the_nearest_step_and_zeros_stay_zero)
{
  std::mt19937 random (kSeed + 3);
  for (const KernelTable *table : kernel_tables ()) {
    for (const int count : {1, 31, 32, 33, 64, 91}) {
      auto values = random_floats (static_cast<size_t> (count), random);
      if (count == 64)
        std::fill (values.begin () + 32, values.end (), 1e-38f); // its inverse would be infinite
      const int columns = padded (count);
      Memory row (row_bytes (Format::kInt8, columns));
      table->quantize_row (values.data (), count, columns, row.data ());
      const auto *steps = reinterpret_cast<const int8_t *> (row.data ());
      const auto *scales = reinterpret_cast<const float *> (row.data () + columns);
      for (int i = 0; i < columns; ++i) {
        const float value = i < count ? values[static_cast<size_t> (i)] : 0.0f;
        EXPECT_GE (steps[i], -127);
        EXPECT_NEAR (steps[i] * scales[i / kGroup], value, scales[i / kGroup] * 0.5001f + 1e-37f)
            << table->name << ", element " << i << " of " << count;
      }
    }
  }
}

TEST (Kernels, norms_are_those_of_double_precision)
{
  std::mt19937 random (kSeed + 4);
  for (const KernelTable *table : kernel_tables ()) {
    for (const int count : {1, 7, 8, 20, 64, 513}) {
      const auto x = random_floats (static_cast<size_t> (count), random),
                 weight = random_floats (static_cast<size_t> (count), random);
      std::vector<float> out (static_cast<size_t> (count));
      table->rms_norm (x.data (), weight.data (), count, 1e-5f, out.data ());
      double squares = 0;
      for (const float v : x)
        squares += static_cast<double> (v) * v;
      const double scale = 1 / std::sqrt (squares / count + 1e-5);
      for (int i = 0; i < count; ++i)
        EXPECT_NEAR (out[i], x[i] * scale * weight[i], 1e-6 * (1 + std::fabs (out[i])))
            << table->name << " " << count;
    }
  }
}

TEST (Kernels, activations_are_those_of_double_precision)
{
  std::vector<float> gate, up;
  for (float x = -120; x <= 120; x += 0.173f) {
    gate.push_back (x);
    up.push_back (1.5f);
  }
  const int count = static_cast<int> (gate.size ());
  std::vector<float> out (gate.size ());
  const auto check = [&] (const char *name, auto exact) {
    for (size_t i = 0; i < gate.size (); ++i) {
      const double expected = exact (static_cast<double> (gate[i])) * up[i];
      ASSERT_NEAR (out[i], expected, 1e-6 * (1 + std::fabs (expected))) << name << " of " << gate[i];
    }
  };
  for (const KernelTable *table : kernel_tables ()) {
    table->silu (gate.data (), up.data (), count, out.data ());
    check ("silu", [] (double x) { return x / (1 + std::exp (-x)); });
    table->gelu_tanh (gate.data (), up.data (), count, out.data ());
    check ("gelu_tanh", [] (double x) {
      return 0.5 * x * (1 + std::tanh (std::sqrt (2 / M_PI) * (x + 0.044715 * x * x * x)));
    });
    table->gelu (gate.data (), up.data (), count, out.data ());
    check ("gelu", [] (double x) { return 0.5 * x * (1 + std::erf (x / std::sqrt (2.0))); });
  }
}

TEST (Kernels, activations_let_not_a_number_through)
{
  const float gate[3] = {1, std::numeric_limits<float>::quiet_NaN (), 2};
  const float up[3] = {1, 1, 1};
  for (const KernelTable *table : kernel_tables ()) {
    float out[3];
    table->silu (gate, up, 3, out);
    EXPECT_TRUE (std::isfinite (out[0]) && std::isnan (out[1]) && std::isfinite (out[2])) << table->name;
    table->gelu_tanh (gate, up, 3, out);
    EXPECT_TRUE (std::isfinite (out[0]) && std::isnan (out[1]) && std::isfinite (out[2])) << table->name;
  }
}

TEST (Kernels, rotation_turns_pairs_half_a_head_apart)
{
  for (const KernelTable *table : kernel_tables ()) {
    float x[6] = {1, 2, 3, 4, 5, 6};
    const float cosines[3] = {1, 0, 0.6f}, sines[3] = {0, 1, 0.8f};
    table->rotate (x, cosines, sines, 3);
    const float expected[6] = {1, -5, 3 * 0.6f - 6 * 0.8f, 4, 2, 6 * 0.6f + 3 * 0.8f};
    for (int i = 0; i < 6; ++i)
      EXPECT_NEAR (x[i], expected[i], 1e-6) << table->name << ", element " << i;
  }
}

} // namespace
