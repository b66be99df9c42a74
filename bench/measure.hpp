// Quantiles and times, for the benchmarks.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

namespace millrace::bench
{

/// The value that a share of `q` lies below.
inline double
quantile (std::vector<double> values, double q)
{
  std::sort (values.begin (), values.end ());
  return values[std::min (values.size () - 1,
                          static_cast<size_t> (q * static_cast<double> (values.size ())))];
}

inline double
median (std::vector<double> values)
{
  std::sort (values.begin (), values.end ());
  const size_t half = values.size () / 2;
  return values.size () % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

inline double
seconds_since (std::chrono::steady_clock::time_point begin)
{
  return std::chrono::duration<double> (std::chrono::steady_clock::now () - begin).count ();
}

} // namespace millrace::bench
