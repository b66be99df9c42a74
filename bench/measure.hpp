// Medians, for the benchmarks.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

namespace millrace::bench
{

inline double
median (std::vector<double> values)
{
  std::sort (values.begin (), values.end ());
  return values[values.size () / 2];
}

inline double
seconds_since (std::chrono::steady_clock::time_point begin)
{
  return std::chrono::duration<double> (std::chrono::steady_clock::now () - begin).count ();
}

} // namespace millrace::bench
