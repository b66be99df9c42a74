#include "bench/speculation/paired.hpp"

#include "bench/measure.hpp"

#include <cmath>

namespace millrace::bench
{

namespace
{

constexpr double kOutside = 0.025; ///< chance, on either side

/// How many of n sorted values may be left out at either end.
size_t
left_out (size_t n)
{
  double ways = std::pow (0.5, static_cast<double> (n)), outside = 0;
  size_t out = 0;
  for (size_t k = 0; k < n / 2; k++) {
    outside += ways;
    if (outside > kOutside)
      break;
    out = k;
    ways *= static_cast<double> (n - k) / static_cast<double> (k + 1);
  }
  return out;
}

} // namespace

Paired
operator/ (const Paired &paired, double by)
{
  return {paired.ratio / by, paired.low / by, paired.high / by};
}

Paired
paired_ratio (std::span<const double> these, std::span<const double> those)
{
  std::vector<double> ratios;
  for (size_t i = 0; i < std::min (these.size (), those.size ()); i++)
    ratios.push_back (these[i] / those[i]);
  if (ratios.empty ())
    return {NAN, NAN, NAN};
  std::sort (ratios.begin (), ratios.end ());
  const size_t n = ratios.size (), out = left_out (n);
  return {(ratios[n / 2] + ratios[(n - 1) / 2]) / 2, ratios[out], ratios[n - 1 - out]};
}

} // namespace millrace::bench
