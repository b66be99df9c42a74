// What this machine can do at most, measured with all threads at once: what benchmarks are held against.
//
// Virtual machines promise little: figures are the best of several passes, each between two barriers, and hold for the
// clock of that moment.
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace::bench
{

struct Roofs {
  int threads = 0;
  double read_gb_per_s = 0; ///< memory read in order, 10⁹ bytes
  /// 10⁹ multiply-adds of 8-bit integers, by the fastest instructions on vectors that there are: into 32 bits with AVX-512 and VNNI, into
  /// 16 bits with AVX2; 0: neither.
  double int8_gmac_per_s = 0;
  double int8_tiles_gmac_per_s = 0; ///< the same by AMX's products of tiles; 0: no AMX
  double float32_gmac_per_s = 0;    ///< 10⁹ fused multiply-adds of float32; 0: no AVX2
};

/// Takes a second or two and 256 MiB for each thread. Throws std::bad_alloc.
Roofs measure_roofs (int threads);

struct Int8Roof {
  uint64_t (*loop) (int64_t rounds); ///< null: not measured
  int macs;                          ///< of one round
};

/// One thread's loops. Reads `bytes` (a multiple of 4096) and returns something of what it read.
struct RoofLoops {
  uint64_t (*read) (const std::byte *data, size_t bytes);
  Int8Roof int8, int8_tiles;
  uint64_t (*float32) (int64_t rounds); ///< null: not measured
  int float32_macs;                     ///< of one round
};

#if defined(__x86_64__)
extern const RoofLoops kAvx2RoofLoops;
extern const Int8Roof kAvx512Int8Roof;
extern const Int8Roof kAmxInt8Roof;
#endif

} // namespace millrace::bench
