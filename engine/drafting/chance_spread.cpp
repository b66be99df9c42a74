#include "engine/drafting/chance_spread.hpp"

#include <algorithm>
#include <numeric>

namespace millrace
{

ChanceSpread::ChanceSpread ()
{
  shares_[1] = shares_[3] = shares_[6] = shares_[7] = 2;
}

void
ChanceSpread::scale (double weight)
{
  const double sum = std::accumulate (shares_.begin (), shares_.end (), 0.0);
  for (double &share : shares_)
    share *= weight / sum;
}

void
ChanceSpread::add (double chance, double memory)
{
  shares_[static_cast<size_t> (std::clamp (static_cast<int> (chance * kBands), 0, kBands - 1))] += 1;
  if (std::accumulate (shares_.begin (), shares_.end (), 0.0) > memory)
    scale (memory);
}

void
ChanceSpread::merge (const ChanceSpread &other)
{
  for (size_t band = 0; band < shares_.size (); ++band)
    shares_[band] += other.shares_[band];
}

double
ChanceSpread::mean_above (double floor, double &share) const
{
  double sum = 0, above = 0, all = 0;
  for (int band = 0; band < kBands; ++band) {
    const double chance = (band + 0.5) / kBands, weight = shares_[static_cast<size_t> (band)];
    all += weight;
    if (chance > floor) {
      above += weight;
      sum += weight * chance;
    }
  }
  share = above / all;
  return above > 0 ? sum / above : 0;
}

double
ChanceSpread::mean () const
{
  double share;
  return mean_above (-1, share);
}

} // namespace millrace
