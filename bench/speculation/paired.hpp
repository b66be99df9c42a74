// How much faster one of two things is, from runs of both side by side.
//
// The median of the pairs' ratios, and an interval that holds the true median in at least 95 of 100 such measurements, whatever
// the noise is like: the ratios of such ranks that fewer than that lie outside by chance (the sign test). That takes six pairs;
// of fewer it is the lowest and the highest.
#pragma once

#include <span>

namespace millrace::bench
{

struct Paired {
  double ratio = 0, low = 0, high = 0; ///< NaN: no pairs
};

Paired operator/ (const Paired &paired, double by);

/// Of as many of each.
Paired paired_ratio (std::span<const double> these, std::span<const double> those);

} // namespace millrace::bench
