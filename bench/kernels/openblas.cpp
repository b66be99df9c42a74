// The yardstick for float products: OpenBLAS's sgemm (sgemv for one token) with weights as float32 that no cache holds.
#include "bench/kernels/kernels.hpp"

#include "engine/backend/cpu/memory.hpp"

#include <algorithm>
#include <cblas.h>

namespace millrace::bench
{

namespace
{

constexpr int kRows = 1024, kColumns = 2048;
constexpr size_t kPartFloats = size_t{kRows} * kColumns;
constexpr size_t kParts = 12; // of 8 MiB each

void
measure (benchmark::State &state, int tokens, const Roofs &roofs)
{
  openblas_set_num_threads (1);
  const cpu::Memory weights (kParts * kPartFloats * sizeof (float), cpu::Memory::Pages::kHuge);
  const auto values = random_floats (kPartFloats);
  for (size_t part = 0; part < kParts; ++part)
    std::copy (values.begin (), values.end (), weights.floats () + part * kPartFloats);
  const auto x = random_floats (static_cast<size_t> (tokens) * kColumns);
  std::vector<float> y (static_cast<size_t> (tokens) * kRows);
  size_t part = 0;
  for (auto _ : state) {
    const float *matrix = weights.floats () + part * kPartFloats;
    if (tokens == 1)
      cblas_sgemv (CblasRowMajor, CblasNoTrans, kRows, kColumns, 1, matrix, kColumns, x.data (), 1, 0,
                   y.data (), 1);
    else
      cblas_sgemm (CblasRowMajor, CblasNoTrans, CblasTrans, tokens, kRows, kColumns, 1, x.data (), kColumns,
                   matrix, kColumns, 0, y.data (), kRows);
    benchmark::ClobberMemory ();
    part = part + 1 < kParts ? part + 1 : 0;
  }
  count_work (state,
              {.bytes = double (kPartFloats * sizeof (float)),
               .macs = double (tokens) * kPartFloats,
               .mac_roof = roofs.float32_gmac_per_s},
              roofs);
}

} // namespace

void
register_openblas (const Roofs &roofs)
{
  for (const int tokens : kTokenCounts) {
    const std::string name = "openblas/f32/tokens:" + std::to_string (tokens);
    benchmark::RegisterBenchmark (
        name.c_str (), [roofs, tokens] (benchmark::State &state) { measure (state, tokens, roofs); });
  }
}

} // namespace millrace::bench
