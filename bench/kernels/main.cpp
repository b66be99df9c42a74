// Speed of single kernels on one thread, against what one thread of this machine can do at most.
//
//   kernels --benchmark_filter='linear/avx2.*/q4_k'
//   kernels --benchmark_filter='openblas|linear/avx2/f32'
//   kernels --benchmark_filter='attention/.*/f16/.*depth:4096' --benchmark_repetitions=5
//
// Flags are Google Benchmark's. %read and %mac are per cent of the roofs, which are printed first: a product of few
// tokens is bound by reading weights, one of many by arithmetic.
#include "bench/kernels/kernels.hpp"
#include "engine/backend/cpu/instruction_sets.hpp"

#include <cstdio>
#include <exception>

using namespace millrace;
using namespace millrace::bench;

namespace
{

void
register_all (const cpu::KernelTable &kernels, const Roofs &roofs)
{
  register_linear (kernels, roofs);
  register_attention (kernels, roofs);
  register_rows (kernels, roofs);
}

} // namespace

int
main (int argc, char **argv)
{
  benchmark::Initialize (&argc, argv);
  if (benchmark::ReportUnrecognizedArguments (argc, argv))
    return 2;
  try {
    const Roofs roofs = measure_roofs (1);
    std::fprintf (stderr, "roofs of one thread: reading %.1f GB/s, int8 %.1f GMAC/s, float32 %.1f GMAC/s\n",
                  roofs.read_gb_per_s, roofs.int8_gmac_per_s, roofs.float32_gmac_per_s);
    const auto isas = cpu::host_isas ();
    for (auto isa = isas.rbegin (); isa != isas.rend (); ++isa)
      register_all (*cpu::kernels_of (*isa), roofs);
#ifdef MILLRACE_HAS_OPENBLAS
    register_openblas (roofs);
#endif
    benchmark::RunSpecifiedBenchmarks ();
  } catch (const std::exception &error) {
    std::fprintf (stderr, "kernels: %s\n", error.what ());
    return 2;
  }
  return 0;
}
