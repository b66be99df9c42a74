// labels: unit
//
// Every kernel of every instruction set against arithmetic in double precision, and the promise that no tile
// shape changes a bit.
#include "engine/backend/cpu/kernels.hpp"
#include "engine/backend/cpu/memory.hpp"
#include "engine/backend/cpu/weights.hpp"
#include "engine/tensor/dtype.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

using namespace millrace;
using namespace millrace::cpu;

namespace
{

constexpr uint32_t kSeed = 21;

bool
host_runs_avx2 ()
{
  try {
    create_cpu_backend ({.threads = 1, .isa = CpuOptions::Isa::kAvx2});
    return true;
  } catch (const std::invalid_argument &) {
    return false;
  }
}

std::vector<const KernelTable *>
tables ()
{
  std::vector<const KernelTable *> tables = {&kPortableKernels};
#if defined(__x86_64__) || defined(__i386__)
  if (host_runs_avx2 ())
    tables.push_back (&kAvx2Kernels);
#endif
  return tables;
}

int
padded (int count)
{
  return static_cast<int> (round_up (static_cast<size_t> (count), kPad));
}

std::vector<float>
random_floats (size_t count, std::mt19937 &random, float deviation = 1)
{
  std::normal_distribution<float> normal (0, deviation);
  std::vector<float> values (count);
  std::ranges::generate (values, [&] { return normal (random); });
  return values;
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
  for (const KernelTable *table : tables ()) {
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
  for (const KernelTable *table : tables ()) {
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
  for (const KernelTable *table : tables ()) {
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
  for (const KernelTable *table : tables ()) {
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
  for (const KernelTable *table : tables ()) {
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
  for (const KernelTable *table : tables ()) {
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
  for (const KernelTable *table : tables ()) {
    float out[3];
    table->silu (gate, up, 3, out);
    EXPECT_TRUE (std::isfinite (out[0]) && std::isnan (out[1]) && std::isfinite (out[2])) << table->name;
    table->gelu_tanh (gate, up, 3, out);
    EXPECT_TRUE (std::isfinite (out[0]) && std::isnan (out[1]) && std::isfinite (out[2])) << table->name;
  }
}

// Keys and values of one KV head in blocks in any order, as AttentionArgs describes them.
struct KvProblem {
  KvProblem (int positions, int head_dim, uint32_t seed)
      : head_dim (head_dim)
      , value_width (static_cast<int> (round_up (static_cast<size_t> (head_dim), kValuePad)))
  {
    std::mt19937 random (seed);
    const int count = (positions + kKvTokens - 1) / kKvTokens;
    for (int i = 0; i < count; ++i)
      blocks.push_back (count - 1 - i);
    key_bytes = sizeof (float) * static_cast<size_t> (head_dim * kKvTokens);
    block_bytes = key_bytes + sizeof (float) * static_cast<size_t> (value_width * kKvTokens);
    kv = Memory (block_bytes * static_cast<size_t> (count));
    for (int position = 0; position < positions; ++position) {
      keys.push_back (random_floats (static_cast<size_t> (head_dim), random));
      values.push_back (random_floats (static_cast<size_t> (head_dim), random));
      std::byte *block =
          kv.data () + static_cast<size_t> (blocks[static_cast<size_t> (position / kKvTokens)]) * block_bytes;
      for (int i = 0; i < head_dim; ++i) {
        reinterpret_cast<float *> (block)[i * kKvTokens + position % kKvTokens] = keys.back ()[i];
        reinterpret_cast<float *> (block + key_bytes)[position % kKvTokens * value_width + i] =
            values.back ()[i];
      }
    }
    queries = random_floats (static_cast<size_t> (kQueryTile * head_dim), random, 2);
  }

  // Queries [first, first + limits.size ()), each with its own limit.
  std::vector<float> run (const KernelTable &table, int first, const std::vector<int> &limits) const
  {
    std::vector<float> out (limits.size () * static_cast<size_t> (head_dim));
    const size_t stride = round_up (keys.size (), kKvTokens) + kKvTokens;
    std::vector<float> scores (kQueryTile * stride), sums (static_cast<size_t> (kQueryTile * value_width));
    AttentionArgs args{};
    args.queries = static_cast<int> (limits.size ());
    for (int i = 0; i < args.queries; ++i) {
      args.q[i] = queries.data () + (first + i) * head_dim;
      args.out[i] = out.data () + i * head_dim;
      args.positions[i] = limits[static_cast<size_t> (i)];
    }
    args.head_dim = head_dim;
    args.value_width = value_width;
    args.scale = 0.3f;
    args.kv = kv.data ();
    args.block_bytes = block_bytes;
    args.key_offset = 0;
    args.value_offset = key_bytes;
    args.blocks = blocks.data ();
    args.scores = scores.data ();
    args.score_stride = stride;
    args.values = sums.data ();
    table.attention (args);
    return out;
  }

  std::vector<double> exact (int query, int limit) const
  {
    std::vector<double> weights;
    double largest = -INFINITY, sum = 0;
    for (int position = 0; position < limit; ++position) {
      double score = 0;
      for (int i = 0; i < head_dim; ++i)
        score += static_cast<double> (queries[query * head_dim + i]) * keys[position][i];
      weights.push_back (score * 0.3f);
      largest = std::max (largest, weights.back ());
    }
    for (double &weight : weights)
      sum += weight = std::exp (weight - largest);
    std::vector<double> out (static_cast<size_t> (head_dim));
    for (int position = 0; position < limit; ++position) {
      for (int i = 0; i < head_dim; ++i)
        out[i] += weights[position] / sum * values[position][i];
    }
    return out;
  }

  int head_dim, value_width;
  size_t key_bytes = 0, block_bytes = 0;
  Memory kv;
  std::vector<int32_t> blocks;
  std::vector<std::vector<float>> keys, values;
  std::vector<float> queries;
};

TEST (Kernels, attention_is_that_of_double_precision)
{
  for (const KernelTable *table : tables ()) {
    for (const int head_dim : {6, 16, 64, 80}) {
      const KvProblem problem (70, head_dim, kSeed + 5);
      const std::vector<int> limits = {33, 33, 34, 70};
      const auto out = problem.run (*table, 0, limits);
      for (size_t query = 0; query < limits.size (); ++query) {
        const auto expected = problem.exact (static_cast<int> (query), limits[query]);
        for (int i = 0; i < head_dim; ++i)
          ASSERT_NEAR (out[query * static_cast<size_t> (head_dim) + static_cast<size_t> (i)], expected[i],
                       3e-6)
              << table->name << ", head of " << head_dim << ", query " << query;
      }
    }
  }
}

TEST (Kernels, attention_has_the_same_bits_for_one_query_and_for_a_tile)
{
  for (const KernelTable *table : tables ()) {
    const KvProblem problem (70, 48, kSeed + 6);
    for (const std::vector<int> &limits :
         std::vector<std::vector<int>>{{1, 1, 2, 2}, {15, 16, 17, 18}, {40, 70, 70, 70}}) {
      const auto tile = problem.run (*table, 0, limits);
      for (int query = 0; query < kQueryTile; ++query) {
        const auto alone = problem.run (*table, query, {limits[static_cast<size_t> (query)]});
        EXPECT_EQ (std::memcmp (alone.data (), tile.data () + query * 48, sizeof (float) * 48), 0)
            << table->name << ", query " << query << " of limits from " << limits[0];
      }
    }
  }
}

TEST (Kernels, rotation_turns_pairs_half_a_head_apart)
{
  for (const KernelTable *table : tables ()) {
    float x[6] = {1, 2, 3, 4, 5, 6};
    const float cosines[3] = {1, 0, 0.6f}, sines[3] = {0, 1, 0.8f};
    table->rotate (x, cosines, sines, 3);
    const float expected[6] = {1, -5, 3 * 0.6f - 6 * 0.8f, 4, 2, 6 * 0.6f + 3 * 0.8f};
    for (int i = 0; i < 6; ++i)
      EXPECT_NEAR (x[i], expected[i], 1e-6) << table->name << ", element " << i;
  }
}

} // namespace
