// The clock of schedulers and stages; benchmarks put a virtual one in its place.
#pragma once

#include <chrono>
#include <cstdint>

namespace millrace
{

/// Microseconds that only grow. Any thread.
using Clock = int64_t (*) ();

inline int64_t
steady_now_us ()
{
  using namespace std::chrono;
  return duration_cast<microseconds> (steady_clock::now ().time_since_epoch ()).count ();
}

} // namespace millrace
