// What tests of kernels share: the tables this host can run, and random numbers.
#pragma once

#include "engine/backend/cpu/instruction_sets.hpp"

#include <algorithm>
#include <random>
#include <vector>

namespace millrace::testing
{

inline std::vector<const cpu::KernelTable *>
kernel_tables ()
{
  std::vector<const cpu::KernelTable *> tables;
  for (const CpuOptions::Isa isa : cpu::host_isas ())
    tables.push_back (cpu::kernels_of (isa));
#if defined(__x86_64__)
  // Each as for the other maker's processors, too, which must not change a bit.
  static const std::vector<cpu::KernelTable> others = [&] {
    std::vector<cpu::KernelTable> copies;
    for (const cpu::KernelTable *table : tables) {
      copies.push_back (*table);
      copies.back ().is_intel = !table->is_intel;
    }
    return copies;
  }();
  for (size_t i = 1; i < others.size (); ++i)
    tables.insert (tables.end () - 1, &others[i]);
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
