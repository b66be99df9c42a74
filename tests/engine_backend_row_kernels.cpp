// labels: unit
//
// What every instruction set does with a row of numbers, against arithmetic in double precision: norms, functions of gates, rotation.
#include "tests/kernel_tables.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

using namespace millrace;
using namespace millrace::cpu;
using namespace millrace::testing;

namespace
{

constexpr uint32_t kSeed = 25;

TEST (RowKernels, norms_are_those_of_double_precision)
{
  std::mt19937 random (kSeed);
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

TEST (RowKernels, activations_are_those_of_double_precision)
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

TEST (RowKernels, activations_let_not_a_number_through)
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

TEST (RowKernels, rotation_turns_pairs_half_a_head_apart)
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
