// labels: unit
//
// Products and activations of every instruction set against arithmetic in double precision, and the promise that no tile
// shape changes a bit. Attention: engine_backend_attention.cpp; norms and the like: engine_backend_row_kernels.cpp.
#include "engine/backend/cpu/formats.hpp"
#include "engine/backend/cpu/kernels.hpp"
#include "engine/backend/cpu/memory.hpp"
#include "engine/backend/cpu/weights.hpp"
#include "engine/tensor/dtype.hpp"
#include "engine/weights/quantized_blocks.hpp"
#include "tests/kernel_tables.hpp"
#include "tests/quantized_rows.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
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

constexpr uint32_t kSeed = 21;

size_t
index_of (Format format)
{
  return static_cast<size_t> (format);
}

// What the activations of a product stand for.
std::vector<float>
decode (Activations kind, const std::byte *row, int columns)
{
  std::vector<float> values (static_cast<size_t> (columns));
  const int group = kind == Activations::kByte256 ? kSuperBlock : kGroup;
  const auto *words = reinterpret_cast<const int16_t *> (row);
  const auto *bytes = reinterpret_cast<const int8_t *> (row);
  const bool wide = kind == Activations::kWide32;
  const auto *scales = reinterpret_cast<const float *> (row + columns * (wide ? 2 : 1));
  constexpr int kPlace[4] = {0, 2, 1, 3};
  for (int i = 0; i < columns; ++i) {
    const int q = wide ? words[i - i % 4 + kPlace[i % 4]] : bytes[i];
    values[static_cast<size_t> (i)] = static_cast<float> (q) * scales[i / group];
  }
  return values;
}

// A random matrix in one format with its exact values, and activations for it as each table wants them.
struct Problem {
  struct Input {
    size_t row_bytes = 0;
    Memory rows;
  };

  Problem (Format format, int rows, int inputs, int tokens, uint32_t seed)
      : format (format)
      , rows (rows)
      , columns (padded_columns (format, inputs))
      , tokens (tokens)
  {
    std::mt19937 random (seed);
    panel_bytes = cpu::panel_bytes (format, columns);
    weights = Memory (panel_bytes * static_cast<size_t> ((rows + kPanelRows - 1) / kPanelRows));
    for (int first = 0; first < rows; first += kPanelRows) {
      std::vector<StoredRow> stored;
      std::byte *panel = weights.data () + static_cast<size_t> (first / kPanelRows) * panel_bytes;
      const int count = std::min (kPanelRows, rows - first);
      for (int i = 0; i < count; ++i) {
        auto values = random_floats (static_cast<size_t> (inputs), random);
        values.resize (static_cast<size_t> (columns));
        if (is_quantized (format))
          stored.push_back (stored_row (format, values));
        else
          pack_row (format, values.data (), inputs, i, panel);
      }
      if (is_quantized (format))
        pack_rows (format, stored, columns, panel);
      for (int i = 0; i < count; ++i) {
        auto &expanded = exact_weights.emplace_back (columns);
        kPortableKernels.expand[index_of (format)](panel, i, columns, expanded.data ());
        if (is_quantized (format)) {
          EXPECT_EQ (expanded, values_of (format, stored[static_cast<size_t> (i)], columns))
              << "row " << first + i << " of " << format_name (format);
        }
      }
    }
    std::vector<std::vector<float>> x;
    for (int token = 0; token < tokens; ++token)
      x.push_back (random_floats (static_cast<size_t> (inputs), random));
    for (const KernelTable *table : kernel_tables ())
      add_input (activations_of (*table, format), x);
    bias = random_floats (static_cast<size_t> (rows), random);
    before = random_floats (static_cast<size_t> (rows * tokens), random);
  }

  // Every kind stands for the same numbers.
  void add_input (Activations kind, std::vector<std::vector<float>> values)
  {
    Input &input = encoded[static_cast<size_t> (kind)];
    if (input.row_bytes > 0)
      return;
    input.row_bytes = kind == Activations::kFloat ? sizeof (float) * static_cast<size_t> (columns)
                                                  : activation_bytes (kind, columns);
    input.rows = Memory (input.row_bytes * values.size ());
    std::byte *out = input.rows.data ();
    for (auto &row : values) {
      if (kind == Activations::kFloat) {
        row.resize (static_cast<size_t> (columns));
        std::memcpy (out, row.data (), input.row_bytes);
      } else {
        kPortableKernels.quantize[static_cast<size_t> (kind)](row.data (), static_cast<int> (row.size ()),
                                                              columns, out);
        row = decode (kind, out, columns);
      }
      out += input.row_bytes;
    }
    if (exact_x.empty ())
      exact_x = values;
    EXPECT_EQ (values, exact_x) << format_name (format) << ", kind " << static_cast<int> (kind);
  }

  const Input &input_of (const KernelTable &table) const
  {
    return encoded[static_cast<size_t> (activations_of (table, format))];
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
    args.format = format;
    args.weights = weights.data ();
    args.panel_bytes = panel_bytes;
    args.rows = row_count;
    args.columns = columns;
    const Input &input = input_of (table);
    args.x = input.rows.data () + static_cast<size_t> (first) * input.row_bytes;
    args.x_row_bytes = input.row_bytes;
    args.tokens = count;
    args.bias = bias.data ();
    args.y = y_rows.data ();
    args.y_offset = 0;
    args.accumulate = accumulate;
    args.scratch = scratch.data ();
    args.is_intel = table.is_intel;
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
  size_t panel_bytes = 0;
  Memory weights;
  std::array<Input, kActivations> encoded; ///< x, by kind
  std::vector<std::vector<float>> exact_weights, exact_x;
  std::vector<float> bias, before;
};

const std::vector<Format> kAllFormats = representative_formats (); // all of them: random bytes, below
constexpr Activations kAllActivations[] = {Activations::kWide32, Activations::kByte32, Activations::kByte256};

// Also says which ones the others are about.
TEST (Kernels, portable_ones_come_first_and_the_best_last)
{
  std::cout << "instruction sets:";
  for (const KernelTable *table : kernel_tables ())
    std::cout << " " << table->name;
  std::cout << "\n";
  EXPECT_EQ (kernel_tables ().front (), &kPortableKernels);
  EXPECT_EQ (kernel_tables ().back (), kernels_of (CpuOptions::Isa::kAuto));
}

TEST (Kernels, products_are_those_of_double_precision)
{
  for (const KernelTable *table : kernel_tables ()) {
    for (const Format format : kAllFormats) {
      for (const int inputs : {1, 20, 32, 100, 515, 1024}) {
        const Problem problem (format, 29, inputs, 7, kSeed);
        for (const bool accumulate : {false, true}) {
          const auto y = problem.run (*table, 0, 7, 29, accumulate);
          for (int token = 0; token < 7; ++token) {
            for (int row = 0; row < 29; ++row) {
              const auto at = static_cast<size_t> (token * 29 + row);
              const double expected = problem.exact (token, row) + (accumulate ? problem.before[at] : 0.0f);
              ASSERT_NEAR (y[at], expected, 2e-6 * std::sqrt (inputs) * 4)
                  << table->name << ", format " << format_name (format) << ", " << inputs << " inputs, token "
                  << token << ", row " << row;
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
                  << table->name << ", format " << format_name (format) << ", token " << token << " of "
                  << count << " from " << first << ", " << row_count << " rows";
          }
        }
      }
    }
  }
}

TEST (Kernels, products_of_panels_have_the_same_bits_on_every_instruction_set)
{
  for (const Format format : kAllFormats) {
    if (!is_quantized (format))
      continue;
    // Few tokens, and so many that weights are unpacked first, in more than one go; a panel without a second one, and a
    // second one that has not all rows.
    for (const auto &[tokens, rows] : {std::pair{17, 21}, std::pair{150, 21}, std::pair{50, 29}}) {
      for (const int inputs : {32, 300, 1024, 3072}) {
        const Problem problem (format, rows, inputs, tokens, kSeed + 7);
        const auto expected = problem.run (kPortableKernels, 0, tokens, rows, true);
        for (const KernelTable *table : kernel_tables ())
          EXPECT_EQ (problem.run (*table, 0, tokens, rows, true), expected)
              << table->name << ", " << format_name (format) << ", " << inputs << " inputs, " << tokens
              << " tokens, " << rows << " rows";
      }
    }
  }
}

// More than any kernel takes at once: its sums wait in memory for so many only.
TEST (Kernels, products_of_hundreds_of_tokens_have_the_same_bits_on_every_instruction_set)
{
  constexpr int kRows = 2 * kPanelRows + 1, kInputs = 1024;
  for (const Format format : {Format::kQ8, Format::kQ4, Format::kQ4K, Format::kQ6K, Format::kQ5K}) {
    for (const int tokens : {257, 513}) {
      const Problem problem (format, kRows, kInputs, tokens, kSeed + 12);
      const auto expected = problem.run (kPortableKernels, 0, tokens, kRows, false);
      for (const KernelTable *table : kernel_tables ())
        EXPECT_EQ (problem.run (*table, 0, tokens, kRows, false), expected)
            << table->name << ", " << format_name (format) << ", " << tokens << " tokens";
    }
  }
}

// Equal bytes, but for scales, which are 1.
StoredRow
filled_row (Format format, int columns, int fill)
{
  const auto type = block_type (format);
  if (!type) {
    const AffineFormat affine = affine_of (format);
    const AffineParts parts (affine, columns);
    StoredRow row (parts.bytes, std::byte (fill));
    for (size_t at = parts.scales; at < row.size (); at += static_cast<size_t> (scale_size (affine.scales)))
      put_scale (affine.scales, 1, row.data () + at);
    return row;
  }
  const DTypeBlock block = dtype_block (*type);
  StoredRow row (static_cast<size_t> (columns) / block.elements * block.bytes, std::byte (fill));
  const uint16_t one = f32_to_f16 (1);
  for (size_t at = 0; at < row.size (); at += block.bytes) {
    const auto put_one = [&] (size_t offset) { std::memcpy (&row[at + offset], &one, sizeof one); };
    switch (*type) {
    case DType::kMXFP4:
      row[at] = std::byte (127);
      break;
    case DType::kQ3K:
    case DType::kQ6K:
      put_one (block.bytes - 2);
      break;
    case DType::kQ2K:
      put_one (80);
      put_one (82);
      break;
    case DType::kQ4K:
    case DType::kQ5K:
    case DType::kQ4_1:
    case DType::kQ5_1:
      put_one (2);
      [[fallthrough]];
    default:
      put_one (0);
    }
  }
  return row;
}

// The largest integers of weights and activations must not leave the instructions' range.
TEST (Kernels, products_of_the_largest_integers_are_exact)
{
  constexpr int kInputs = 512, kRows = 2 * kPanelRows, kTokens = 1 + 49;
  for (const Format format : kAllFormats) {
    if (!is_quantized (format))
      continue;
    for (const int fill : {0x00, 0x7f, 0x80, 0xff}) {
      const StoredRow row = filled_row (format, kInputs, fill);
      Memory panels (2 * panel_bytes (format, kInputs));
      for (int i = 0; i < 2; ++i)
        pack_rows (format, std::vector<StoredRow> (kPanelRows, row), kInputs,
                   panels.data () + static_cast<size_t> (i) * panel_bytes (format, kInputs));
      const std::vector<float> weights = values_of (format, row, kInputs);
      for (const float value : {127.0f, -127.0f}) {
        const std::vector<float> x (kInputs, value);
        double expected = 0;
        for (const float weight : weights)
          expected += static_cast<double> (weight) * value;
        for (const KernelTable *table : kernel_tables ()) {
          const Activations kind = activations_of (*table, format);
          Memory input (activation_bytes (kind, kInputs));
          kPortableKernels.quantize[static_cast<size_t> (kind)](x.data (), kInputs, kInputs, input.data ());
          float out[kTokens * kRows] = {}, scratch[kInputs];
          float *y[kTokens];
          for (int token = 0; token < kTokens; ++token)
            y[token] = out + token * kRows;
          LinearArgs args{};
          args.scratch = scratch;
          args.is_intel = table->is_intel;
          args.format = format;
          args.weights = panels.data ();
          args.panel_bytes = panel_bytes (format, kInputs);
          args.rows = kRows;
          args.columns = kInputs;
          args.x = input.data ();
          args.x_row_bytes = 0; // all tokens are the same
          args.y = y;
          args.tokens = 1;
          table->linear[index_of (format)](args);
          args.tokens = kTokens - 1;
          args.y = y + 1;
          table->linear[index_of (format)](args);
          for (const float sum : out)
            EXPECT_NEAR (sum, expected, std::fabs (expected) * 1e-6)
                << table->name << ", " << format_name (format) << ", bytes of " << fill;
        }
      }
    }
  }
}

// Scales of a file may be anything: zeros, subnormal, infinite, no numbers.
TEST (Kernels, panels_of_random_bytes_have_the_same_bits_on_every_instruction_set)
{
  constexpr int kInputs = 512, kTokens = 50, kRows = 2 * kPanelRows;
  std::mt19937 random (kSeed + 10);
  for (const Format format : quantized_formats ()) {
    Problem problem (format, kRows, kInputs, kTokens, kSeed + 11);
    const size_t row_bytes = stored_row (format, std::vector<float> (kInputs)).size ();
    for (int round = 0; round < 5; ++round) {
      std::vector<StoredRow> rows (kRows, StoredRow (row_bytes));
      for (StoredRow &row : rows)
        std::ranges::generate (row, [&] { return static_cast<std::byte> (random ()); });
      std::memset (problem.weights.data (), 0, 2 * problem.panel_bytes);
      for (int i = 0; i < 2; ++i)
        pack_rows (format, {rows.begin () + i * kPanelRows, rows.begin () + (i + 1) * kPanelRows}, kInputs,
                   problem.weights.data () + static_cast<size_t> (i) * problem.panel_bytes);
      const auto bits_of = [] (std::vector<float> values) {
        std::vector<uint32_t> bits;
        for (const float value : values)
          bits.push_back (std::isnan (value) ? 0x7fc00000u : std::bit_cast<uint32_t> (value));
        return bits;
      };
      for (int row = 0; row < kRows; ++row) {
        std::vector<float> found (kInputs);
        const std::byte *panel =
            problem.weights.data () + static_cast<size_t> (row / kPanelRows) * problem.panel_bytes;
        kPortableKernels.expand[index_of (format)](panel, row % kPanelRows, kInputs, found.data ());
        for (float &value : found)
          value += 0.0f; // of zeros the sign is not kept
        auto expected = values_of (format, rows[static_cast<size_t> (row)], kInputs);
        for (float &value : expected)
          value += 0.0f;
        ASSERT_EQ (bits_of (found), bits_of (expected)) << format_name (format) << ", row " << row;
      }
      const auto expected = bits_of (problem.run (kPortableKernels, 0, kTokens, kRows, false));
      for (const KernelTable *table : kernel_tables ())
        for (const int count : {1, 5, 30, kTokens}) {
          const auto found = bits_of (problem.run (*table, 0, count, kRows, false));
          ASSERT_TRUE (std::equal (found.begin (), found.end (), expected.begin ()))
              << table->name << ", " << format_name (format) << ", " << count << " tokens";
        }
    }
  }
}

TEST (Kernels, expanded_rows_are_the_stored_values)
{
  std::mt19937 random (kSeed + 2);
  const auto values = random_floats (77, random);
  for (const KernelTable *table : kernel_tables ()) {
    for (const Format format : {Format::kF32, Format::kF16, Format::kBF16}) {
      const int columns = padded_columns (format, 77);
      Memory panel (panel_bytes (format, columns));
      pack_row (format, values.data (), 77, 5, panel.data ());
      std::vector<float> out (static_cast<size_t> (columns), 5.0f);
      table->expand[index_of (format)](panel.data (), 5, columns, out.data ());
      for (int i = 0; i < columns; ++i) {
        const float value = i < 77 ? values[static_cast<size_t> (i)] : 0.0f;
        switch (format) {
        case Format::kF16:
          EXPECT_EQ (out[static_cast<size_t> (i)], f16_to_f32 (f32_to_f16 (value)));
          break;
        case Format::kBF16:
          EXPECT_EQ (out[static_cast<size_t> (i)], bf16_to_f32 (f32_to_bf16 (value)));
          break;
        default:
          EXPECT_EQ (out[static_cast<size_t> (i)], value);
          break;
        }
      }
    }
  }
}

TEST (Kernels, activations_round_to_the_nearest_step_and_zeros_stay_zero)
{
  std::mt19937 random (kSeed + 3);
  for (const KernelTable *table : kernel_tables ()) {
    for (const Activations kind : kAllActivations) {
      const int group = kind == Activations::kByte256 ? kSuperBlock : kGroup;
      for (const int count : {1, 31, 32, 33, 64, 91, 300}) {
        auto values = random_floats (static_cast<size_t> (count), random);
        if (count == 64)
          std::fill (values.begin () + 32, values.end (), 1e-38f); // its inverse would be infinite
        const int columns =
            static_cast<int> (round_up (static_cast<size_t> (count), static_cast<size_t> (group)));
        const size_t bytes = activation_bytes (kind, columns);
        Memory row (bytes), expected (bytes);
        table->quantize[static_cast<size_t> (kind)](values.data (), count, columns, row.data ());
        kPortableKernels.quantize[static_cast<size_t> (kind)](values.data (), count, columns,
                                                              expected.data ());
        EXPECT_EQ (std::memcmp (row.data (), expected.data (), bytes), 0)
            << table->name << ", kind " << static_cast<int> (kind) << ", " << count << " values";
        const auto decoded = decode (kind, row.data (), columns);
        for (int begin = 0; begin < columns; begin += group) {
          float largest = 0;
          for (int i = begin; i < std::min (count, begin + group); ++i)
            largest = std::max (largest, std::fabs (values[static_cast<size_t> (i)]));
          for (int i = begin; i < begin + group; ++i)
            EXPECT_NEAR (decoded[static_cast<size_t> (i)], i < count ? values[static_cast<size_t> (i)] : 0.0f,
                         largest / 127 * 0.5001f + 1e-37f)
                << table->name << ", kind " << static_cast<int> (kind) << ", element " << i << " of "
                << count;
        }
      }
    }
  }
}

// A number that is none must not turn into one on its way.
TEST (Kernels, activations_that_are_not_finite_stay_so)
{
  for (const KernelTable *table : kernel_tables ()) {
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      for (const Format format : kAllFormats) {
        if (!is_quantized (format))
          continue;
        Problem problem (format, 8, 512, 1, kSeed + 8);
        std::vector<float> values (512, 0.5f);
        values[300] = bad;
        table->quantize[static_cast<size_t> (activations_of (*table, format))](
            values.data (), 512, 512, problem.input_of (*table).rows.data ());
        for (const float y : problem.run (*table, 0, 1, 8, false))
          EXPECT_TRUE (std::isnan (y)) << table->name << ", " << format_name (format) << ", " << bad;
      }
    }
  }
}

TEST (Kernels, what_is_stored_as_kv_has_the_same_bits_on_every_instruction_set)
{
  std::mt19937 random (kSeed + 9);
  for (const int count : {1, 7, 8, 20, 64, 129}) {
    auto x = random_floats (static_cast<size_t> (count), random);
    for (const float other : {1.0f, 1e-38f, 70000.0f, 1e-7f, NAN, INFINITY}) {
      x[static_cast<size_t> (count / 2)] = other;
      if (other == 1e-38f)
        std::fill (x.begin (), x.end (), other); // its inverse would be infinite
      std::vector<uint16_t> halves (x.size ()), expected_halves (x.size ());
      std::vector<int8_t> steps (x.size ()), expected_steps (x.size ());
      kPortableKernels.halves (x.data (), count, expected_halves.data ());
      const float expected = kPortableKernels.steps (x.data (), count, expected_steps.data ());
      EXPECT_EQ (std::isnan (expected), !std::isfinite (other));
      for (int i = 0; i < count && std::isfinite (other); ++i)
        EXPECT_NEAR (expected_steps[static_cast<size_t> (i)] * expected, x[static_cast<size_t> (i)],
                     expected * 0.5001f + 1e-37f);
      for (const KernelTable *table : kernel_tables ()) {
        table->halves (x.data (), count, halves.data ());
        EXPECT_EQ (halves, expected_halves) << table->name << ", " << count << " elements, one is " << other;
        const float step = table->steps (x.data (), count, steps.data ());
        EXPECT_EQ (std::memcmp (&step, &expected, sizeof step) == 0 ||
                       (std::isnan (step) && std::isnan (expected)),
                   true)
            << table->name << ", " << step << " for " << expected;
        EXPECT_EQ (steps, expected_steps) << table->name << ", " << count << " elements, one is " << other;
      }
    }
  }
}

} // namespace
