#include "engine/drafting/acceptance.hpp"

#include <algorithm>
#include <cmath>

namespace millrace
{

namespace
{

constexpr double kLeast = 0.001, kMost = 0.999;
constexpr double kHotTemperature = 0.7;
// The table: a belief counts as much as so many observations, and all observations as at most so many.
constexpr double kBeliefWeight = 6;
constexpr float kMostEvidence = 400;
// The track: the table's word counts as much as so many observations.
constexpr double kTableWeight = 2;
constexpr float kTrackMemory = 48;

double
clamp (double chance)
{
  return std::clamp (chance, kLeast, kMost);
}

} // namespace

SamplingKind
sampling_kind (const SamplingParams &params)
{
  return params.temperature == 0                 ? SamplingKind::kGreedy
         : params.temperature <= kHotTemperature ? SamplingKind::kCool
                                                 : SamplingKind::kHot;
}

int
AcceptanceTable::band_of (double belief)
{
  const double odds = std::log2 (clamp (belief) / (1 - clamp (belief))); // ±10
  return std::clamp (static_cast<int> (std::floor (odds)) + kBands / 2, 0, kBands - 1);
}

double
AcceptanceTable::chance (DraftSource source, SamplingKind kind, double belief) const
{
  const Band &band = bands_[static_cast<size_t> (source)][static_cast<size_t> (kind)]
                           [static_cast<size_t> (band_of (belief))];
  return clamp ((kBeliefWeight * clamp (belief) + band.right) / (kBeliefWeight + band.right + band.wrong));
}

void
AcceptanceTable::learn (DraftSource source, SamplingKind kind, double belief, bool right)
{
  Band &band = bands_[static_cast<size_t> (source)][static_cast<size_t> (kind)]
                     [static_cast<size_t> (band_of (belief))];
  (right ? band.right : band.wrong) += 1;
  const float evidence = band.right + band.wrong;
  if (evidence > kMostEvidence) {
    band.right *= kMostEvidence / evidence;
    band.wrong *= kMostEvidence / evidence;
  }
}

int
AcceptanceTrack::index_of (int depth)
{
  return depth < 4 ? depth : depth < 8 ? 4 : 5;
}

double
AcceptanceTrack::correct (double chance, int depth) const
{
  // In odds, so that a request that does better than expected comes close to 1 and not beyond.
  const Depth &seen = depths_[static_cast<size_t> (index_of (depth))];
  const double up = (seen.right + kTableWeight) / (seen.expected + kTableWeight);
  const double down = (seen.wrong + kTableWeight) / (seen.misses_expected + kTableWeight);
  const double odds = chance / (1 - chance) * up / down;
  return clamp (odds / (1 + odds));
}

void
AcceptanceTrack::learn (double chance, int depth, bool right)
{
  Depth &seen = depths_[static_cast<size_t> (index_of (depth))];
  const float keep = 1 - 1 / kTrackMemory;
  seen.expected = seen.expected * keep + static_cast<float> (chance);
  seen.misses_expected = seen.misses_expected * keep + static_cast<float> (1 - chance);
  seen.right = seen.right * keep + (right ? 1.0F : 0.0F);
  seen.wrong = seen.wrong * keep + (right ? 0.0F : 1.0F);
}

} // namespace millrace
