// labels: unit
//
// How far a product is from the one that its weights mean: each layout on every instruction set, rounding of activations
// included, against double precision on the stored weights and the activations as they were. What rounding the weights
// costs is another question: engine_weights_quantized_blocks.cpp, engine_model_accuracy.cpp.
#include "engine/backend/cpu/formats.hpp"
#include "engine/backend/cpu/memory.hpp"
#include "engine/weights/quantized_blocks.hpp"
#include "tests/kernel_tables.hpp"
#include "tests/quantized_rows.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <iostream>
#include <random>
#include <vector>

using namespace millrace;
using namespace millrace::cpu;
using namespace millrace::testing;

namespace
{

constexpr int kRows = 64, kTokens = 24;
constexpr uint32_t kSeed = 7;

// Weights of deviation 0.02 and activations of deviation 1, in which one column of 128 is 20 times as large if
// `outliers`, as models have them.
struct Problem {
  Problem (Format format, int columns, bool outliers)
      : format (format)
      , columns (columns)
      , panel_bytes (cpu::panel_bytes (format, columns))
      , weights (panel_bytes * (kRows / kPanelRows))
      , exact (kTokens * kRows)
  {
    const auto width = static_cast<size_t> (columns);
    std::mt19937 random (kSeed);
    std::vector<std::vector<float>> values;
    for (int first = 0; first < kRows; first += kPanelRows)
      pack (weights.data () + static_cast<size_t> (first / kPanelRows) * panel_bytes, random, values);
    x = random_floats (width * kTokens, random);
    for (size_t i = 0; outliers && i < width / 128; ++i) {
      const size_t column = random () % width;
      for (size_t token = 0; token < kTokens; ++token)
        x[token * width + column] *= 20;
    }
    for (size_t token = 0; token < kTokens; ++token)
      for (size_t row = 0; row < kRows; ++row)
        for (size_t i = 0; i < width; ++i)
          exact[token * kRows + row] += static_cast<double> (values[row][i]) * x[token * width + i];
  }

  // The next rows, and what they are when read again.
  void pack (std::byte *panel, std::mt19937 &random, std::vector<std::vector<float>> &values)
  {
    std::vector<StoredRow> rows;
    for (int i = 0; i < kPanelRows; ++i) {
      const auto row = random_floats (static_cast<size_t> (columns), random, 0.02f);
      if (is_quantized (format))
        rows.push_back (stored_row (format, row));
      else
        pack_row (format, row.data (), columns, i, panel);
    }
    if (is_quantized (format))
      pack_rows (format, rows, columns, panel);
    for (int i = 0; i < kPanelRows; ++i)
      kPortableKernels.expand[static_cast<size_t> (format)](panel, i, columns,
                                                            values.emplace_back (columns).data ());
  }

  /// Root of the mean square of what is wrong, in those of the products.
  double relative_error (const KernelTable &table) const
  {
    const Activations kind = activations_of (table, format);
    const size_t row_bytes = kind == Activations::kFloat ? sizeof (float) * static_cast<size_t> (columns)
                                                         : activation_bytes (kind, columns);
    const Memory input (row_bytes * kTokens);
    std::vector<float> y (exact.size ()), scratch (static_cast<size_t> (columns));
    std::vector<float *> y_rows;
    for (size_t token = 0; token < kTokens; ++token) {
      const float *from = x.data () + token * static_cast<size_t> (columns);
      std::byte *to = input.data () + token * row_bytes;
      if (kind == Activations::kFloat)
        std::memcpy (to, from, row_bytes);
      else
        table.quantize[static_cast<size_t> (kind)](from, columns, columns, to);
      y_rows.push_back (y.data () + token * kRows);
    }
    LinearArgs args{};
    args.format = format;
    args.weights = weights.data ();
    args.panel_bytes = panel_bytes;
    args.rows = kRows;
    args.columns = columns;
    args.x = input.data ();
    args.x_row_bytes = row_bytes;
    args.tokens = kTokens;
    args.y = y_rows.data ();
    args.scratch = scratch.data ();
    table.linear[static_cast<size_t> (format)](args);
    double wrong = 0, all = 0;
    for (size_t i = 0; i < y.size (); ++i) {
      wrong += (y[i] - exact[i]) * (y[i] - exact[i]);
      all += exact[i] * exact[i];
    }
    return std::sqrt (wrong / all);
  }

  Format format;
  int columns;
  size_t panel_bytes;
  Memory weights;
  std::vector<float> x;
  std::vector<double> exact;
};

// The others round activations just as Q4_0 or Q4_K does, in groups of 32 or of 256, and nothing else; where a bias or a minimum
// is taken off, what remains is smaller than what it is the difference of.
TEST (ProductAccuracy, other_formats_err_by_their_activations_only)
{
  for (const Format format : quantized_formats ()) {
    for (const bool outliers : {false, true}) {
      const Problem problem (format, 1024, outliers);
      for (const KernelTable *table : kernel_tables ()) {
        const bool wide = activations_of (*table, format) == Activations::kByte256;
        EXPECT_LE (problem.relative_error (*table), (outliers ? wide ? 300 : 130
                                                     : wide   ? 80
                                                              : 60) *
                                                        1e-4)
            << table->name << ", " << format_name (format) << (outliers ? ", outliers" : "");
      }
    }
  }
}

// Bounds are what ggml_mul_mat () of llama.cpp (of llama-cpp-python 0.3.36, AVX2) gives for the same blocks and the same
// activations, one token or 24 at a time, rounded up in the third digit, in 1e-4. It rounds activations to 8 bits too:
// for Q8_0 and Q4_0 in groups of 32 with a float16 scale, ours being float32; for Q4_K and Q6_K as kByte256 has it. For F16
// and BF16 it rounds activations to the weights' type (errors of 2.1 and 17), ours stay float32; there the bound is that of
// F32. ik_llama.cpp (8337e4cd3, AVX2) takes activations in groups of 32 for Q4_K and Q6_K as well, and has 54 for all
// four, with outliers 121.
TEST (ProductAccuracy, errors_are_at_most_those_of_llama_cpp)
{
  struct Bound {
    Format format;
    double normal[2], outliers[2]; ///< of 1,024 columns, of 3,072
  };
  constexpr Bound kBounds[] = {
      {Format::kF32, {0.005, 0.005}, {0.005, 0.005}},  {Format::kF16, {0.005, 0.005}, {0.005, 0.005}},
      {Format::kBF16, {0.005, 0.005}, {0.005, 0.005}}, {Format::kQ8, {54.6, 53.5}, {120, 112}},
      {Format::kQ4, {54.5, 53.4}, {121, 112}},         {Format::kQ4K, {72.8, 69.6}, {289, 274}},
      {Format::kQ6K, {72.7, 70.0}, {289, 275}}};
  for (const Bound &bound : kBounds) {
    for (const bool outliers : {false, true}) {
      for (const int wide : {0, 1}) {
        const Problem problem (bound.format, wide ? 3072 : 1024, outliers);
        const double most = (outliers ? bound.outliers : bound.normal)[wide] * 1e-4;
        for (const KernelTable *table : kernel_tables ()) {
          const double error = problem.relative_error (*table);
          std::cout << table->name << ", " << format_name (bound.format) << ", " << problem.columns
                    << " columns" << (outliers ? " with outliers: " : ": ") << error << "\n";
          EXPECT_LE (error, most) << table->name << ", " << format_name (bound.format) << ", "
                                  << problem.columns << " columns" << (outliers ? ", outliers" : "");
        }
      }
    }
  }
}

} // namespace
