#include "bench/roofs.hpp"

#include "bench/measure.hpp"
#include "engine/backend/cpu/instruction_sets.hpp"
#include "engine/tensor/thread_pool.hpp"

#include <atomic>
#include <barrier>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <sys/mman.h>
#include <thread>

namespace millrace::bench
{

namespace
{

constexpr size_t kReadBytes = size_t{256} << 20; ///< far more than any cache
constexpr size_t kHugePage = size_t{2} << 20;
constexpr int64_t kRounds = 10'000'000; ///< some 20 ms
constexpr int kPasses = 25;

uint64_t
read_portable (const std::byte *data, size_t bytes)
{
  uint64_t sums[8] = {};
  for (size_t i = 0; i < bytes; i += sizeof sums) {
    uint64_t values[8];
    std::memcpy (values, data + i, sizeof values);
    for (size_t lane = 0; lane < 8; lane++)
      sums[lane] += values[lane];
  }
  return sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7];
}

RoofLoops
loops ()
{
  RoofLoops loops = {read_portable, {}, {}, nullptr, 0};
#if defined(__x86_64__)
  if (__builtin_cpu_supports ("avx2") && __builtin_cpu_supports ("fma"))
    loops = kAvx2RoofLoops;
  if (__builtin_cpu_supports ("avx512f") && __builtin_cpu_supports ("avx512vnni"))
    loops.int8 = kAvx512Int8Roof;
  if (cpu::kernels_of (CpuOptions::Isa::kAmx))
    loops.int8_tiles = kAmxInt8Roof;
#endif
  return loops;
}

std::atomic<uint64_t> kept; ///< results go here, so that they are computed

/// The shortest time, in seconds, in which every thread ran `work (thread)` once.
double
best_seconds (int threads, FunctionRef<uint64_t (int thread)> work)
{
  std::barrier all (threads);
  double best = 0;
  const auto run = [&] (int thread) {
    for (int pass = 0; pass < kPasses; pass++) {
      all.arrive_and_wait ();
      const auto begin = std::chrono::steady_clock::now ();
      kept += work (thread);
      all.arrive_and_wait ();
      const double seconds = seconds_since (begin);
      if (thread == 0 && (pass == 0 || seconds < best))
        best = seconds;
    }
  };
  std::vector<std::jthread> others;
  for (int thread = 1; thread < threads; thread++)
    others.emplace_back (run, thread);
  run (0);
  others.clear ();
  return best;
}

struct Free {
  void operator() (std::byte *data) const { std::free (data); }
};

} // namespace

Roofs
measure_roofs (int threads)
{
  const RoofLoops best = loops ();
  Roofs roofs{.threads = threads};
  const auto count = static_cast<double> (threads);
  const auto int8_roof = [&] (const Int8Roof &int8) {
    if (!int8.loop)
      return 0.0;
    const double seconds = best_seconds (threads, [&] (int) { return int8.loop (kRounds); });
    return count * static_cast<double> (kRounds) * int8.macs / seconds / 1e9;
  };
  roofs.int8_gmac_per_s = int8_roof (best.int8);
  roofs.int8_tiles_gmac_per_s = int8_roof (best.int8_tiles);
  if (best.float32) {
    const double seconds = best_seconds (threads, [&] (int) { return best.float32 (kRounds); });
    roofs.float32_gmac_per_s = count * static_cast<double> (kRounds) * best.float32_macs / seconds / 1e9;
  }

  const size_t bytes = kReadBytes * static_cast<size_t> (threads);
  const std::unique_ptr<std::byte, Free> data (
      static_cast<std::byte *> (std::aligned_alloc (kHugePage, bytes)));
  if (!data)
    throw std::bad_alloc ();
  madvise (data.get (), bytes, MADV_HUGEPAGE);
  // Different everywhere: hosts of virtual machines merge pages that are equal.
  for (size_t i = 0; i < bytes; i += sizeof i) {
    const size_t value = i * 0x9e3779b97f4a7c15u;
    std::memcpy (data.get () + i, &value, sizeof value);
  }
  const double seconds = best_seconds (threads, [&] (int thread) {
    return best.read (data.get () + kReadBytes * static_cast<size_t> (thread), kReadBytes);
  });
  roofs.read_gb_per_s = static_cast<double> (bytes) / seconds / 1e9;
  return roofs;
}

} // namespace millrace::bench
