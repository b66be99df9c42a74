// What tests of kernels share: the tables this host can run, and random numbers.
#pragma once

#include "engine/backend/backend.hpp"
#include "engine/backend/cpu/kernels.hpp"

#include <algorithm>
#include <random>
#include <stdexcept>
#include <vector>

namespace millrace::testing
{

inline std::vector<const cpu::KernelTable *>
kernel_tables ()
{
  std::vector<const cpu::KernelTable *> tables = {&cpu::kPortableKernels};
#if defined(__x86_64__) || defined(__i386__)
  try {
    create_cpu_backend ({.threads = 1, .isa = CpuOptions::Isa::kAvx2});
    tables.push_back (&cpu::kAvx2Kernels);
  } catch (const std::invalid_argument &) {
    // not on this host: portable alone
  }
#endif
  return tables;
}

inline std::vector<float>
random_floats (size_t count, std::mt19937 &random, float deviation = 1)
{
  std::normal_distribution<float> normal (0, deviation);
  std::vector<float> values (count);
  std::ranges::generate (values, [&] { return normal (random); });
  return values;
}

} // namespace millrace::testing
