// How long something takes, of any number of times, in little memory: counts in buckets that grow by a twentieth.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace millrace
{

class TimeHistogram
{
public:
  void add (uint64_t ns)
  {
    count_++;
    sum_ += ns;
    least_ = std::min (least_, ns);
    most_ = std::max (most_, ns);
    buckets_[std::min (buckets_.size () - 1,
                       static_cast<size_t> (std::log1p (static_cast<double> (ns)) / kStep))]++;
  }

  uint64_t count () const { return count_; }
  uint64_t sum () const { return sum_; }
  /// The value below which `share` of the times lie, ± 2.5 %; 0: there are none.
  double quantile (double share) const
  {
    uint64_t below = 0;
    const auto rank = static_cast<uint64_t> (share * static_cast<double> (count_));
    for (size_t i = 0; i < buckets_.size (); i++) {
      below += buckets_[i];
      if (below > rank || (count_ > 0 && below == count_))
        return std::clamp (std::expm1 ((static_cast<double> (i) + 0.5) * kStep), static_cast<double> (least_),
                           static_cast<double> (most_));
    }
    return 0;
  }
  uint64_t most () const { return most_; }

private:
  static constexpr double kStep = 0.05; // of the logarithm
  std::array<uint64_t, 800> buckets_{}; // up to e^40 ns, some years
  uint64_t count_ = 0, sum_ = 0, least_ = UINT64_MAX, most_ = 0;
};

} // namespace millrace
