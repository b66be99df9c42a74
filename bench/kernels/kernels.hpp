// Benchmarks of single kernels on one thread, for every instruction set of the host, through the dispatch table.
#pragma once

#include "bench/roofs.hpp"
#include "engine/backend/cpu/kernels.hpp"

#include <benchmark/benchmark.h>

#include <random>
#include <string>
#include <vector>

namespace millrace::bench
{

void register_linear (const cpu::KernelTable &kernels, const Roofs &roofs);
void register_attention (const cpu::KernelTable &kernels, const Roofs &roofs);
void register_rows (const cpu::KernelTable &kernels, const Roofs &roofs);
void register_openblas (const Roofs &roofs);

constexpr int kTokenCounts[] = {1, 2, 4, 5, 8, 16, 128, 256}; ///< that products are measured with

/// What an iteration costs at least; what is 0 is not reported.
struct Work {
  double bytes = 0, macs = 0;
  double mac_roof = 0; ///< GMAC/s
};

/// Counters GB/s and GMAC/s, and both in per cent of the roofs.
inline void
count_work (benchmark::State &state, const Work &work, const Roofs &roofs)
{
  const auto rate = [&] (double amount) {
    return benchmark::Counter (amount, benchmark::Counter::kIsIterationInvariantRate);
  };
  if (work.bytes > 0) {
    state.counters["GB/s"] = rate (work.bytes / 1e9);
    state.counters["%read"] = rate (100 * work.bytes / 1e9 / roofs.read_gb_per_s);
  }
  if (work.macs > 0)
    state.counters["GMAC/s"] = rate (work.macs / 1e9);
  if (work.macs > 0 && work.mac_roof > 0)
    state.counters["%mac"] = rate (100 * work.macs / 1e9 / work.mac_roof);
}

inline std::vector<float>
random_floats (size_t count)
{
  std::mt19937 random (1);
  std::vector<float> values (count);
  for (float &value : values)
    value = (static_cast<float> (random () >> 8) / (1 << 24) - 0.5f) * 2;
  return values;
}

} // namespace millrace::bench
