#include "engine/drafting/verify_cost.hpp"

#include <algorithm>
#include <cmath>

namespace millrace
{

namespace
{

constexpr double kNewest = 1.0 / 64; ///< what a sample weighs at least
constexpr double kPaceNewest = 1.0 / 3;
constexpr double kOutlier = 2; ///< times what was expected: as much as a sample may say
constexpr double kHope = 0.5;  ///< times what the last tokens cost: what unseen ones may
constexpr int kTrusted = 8;    ///< samples after which an entry says something of the pace
constexpr int kStale = 128;    ///< steps, for each sample
constexpr double kCheaper = 0.97, kMuchCheaper = 0.9;
constexpr double kLeastPace = 0.1, kMostPace = 10;

} // namespace

int
VerifyCost::index_of (int tokens)
{
  return tokens <= kSingle ? std::max (tokens, 1) - 1
                           : std::min (kSingle + (tokens - kSingle - 1) / kStep, kSingle + kCoarse - 1);
}

/// Entries that were seen once or twice may be all noise: they are tried again sooner.
void
VerifyCost::make_cheaper_if_stale (Entry &entry)
{
  const int trust = std::min (entry.samples, kTrusted);
  if (trust == 0 || steps_ - entry.last <= static_cast<uint64_t> (kStale * trust))
    return;
  entry.milliseconds *= trust < kTrusted ? kMuchCheaper : kCheaper;
  entry.samples = trust; // and believes what comes then
  entry.last = steps_;
}

void
VerifyCost::learn (int tokens, double milliseconds)
{
  if (!std::isfinite (milliseconds) || milliseconds <= 0)
    return;
  ++steps_;
  Entry &entry = entries_[static_cast<size_t> (index_of (tokens))];
  if (entry.samples >= kTrusted) {
    const double pace = std::clamp (milliseconds / entry.milliseconds, pace_ / kOutlier, pace_ * kOutlier);
    pace_ = std::clamp (pace_ + (pace - pace_) * kPaceNewest, kLeastPace, kMostPace);
    milliseconds = std::min (milliseconds, entry.milliseconds * pace_ * kOutlier);
  }
  fewest_ = std::min (fewest_, tokens);
  entry.samples = std::min (entry.samples + 1, 1 << 20);
  entry.last = steps_;
  const double weight = std::max (1.0 / entry.samples, kNewest);
  entry.tokens += (tokens - entry.tokens) * weight;
  entry.milliseconds += (milliseconds / pace_ - entry.milliseconds) * weight;

  make_cheaper_if_stale (entries_[static_cast<size_t> (steps_ % entries_.size ())]);
  drawn_ = false;
}

/// Straight lines between the seen entries, whose times are made to rise.
void
VerifyCost::draw_curve () const
{
  int done = 0; // tokens whose time is in the curve
  double tokens = 0, highest = 0, slope = 0;
  for (const Entry &entry : entries_) {
    if (entry.samples == 0)
      continue;
    const double rise = std::max (entry.milliseconds - highest, 0.0);
    if (done == 0) // fewer tokens than ever seen
      slope = kFirstShare * entry.milliseconds / entry.tokens;
    else
      slope = rise / (entry.tokens - tokens);
    const auto last = static_cast<int> (entry.tokens);
    for (; done < std::min (last, kCurve); ++done)
      curve_[static_cast<size_t> (done + 1)] =
          static_cast<float> (highest + rise + slope * (done + 1 - entry.tokens));
    tokens = entry.tokens;
    highest += rise;
  }
  slope *= kHope;
  for (; done < kCurve; ++done)
    curve_[static_cast<size_t> (done + 1)] = static_cast<float> (highest + slope * (done + 1 - tokens));
  drawn_ = true;
}

double
VerifyCost::milliseconds (int tokens) const
{
  if (fewest_ == INT_MAX)
    return 0;
  if (!drawn_)
    draw_curve ();
  return pace_ * curve_[static_cast<size_t> (std::clamp (tokens, 1, kCurve))];
}

} // namespace millrace
