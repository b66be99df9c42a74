#include "engine/drafting/verify_cost.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr double kNewest = 1.0 / 16; ///< what a sample weighs at least
constexpr double kOutlier = 1.5;     ///< times what was expected: as much as a sample may say

} // namespace

int
VerifyCost::index_of (int tokens)
{
  return tokens <= kSingle ? std::max (tokens, 1) - 1
                           : std::min (kSingle + (tokens - kSingle - 1) / kStep, kSingle + kCoarse - 1);
}

void
VerifyCost::learn (int tokens, double milliseconds)
{
  Entry &entry = entries_[static_cast<size_t> (index_of (tokens))];
  seen_ += entry.samples == 0;
  entry.samples = std::min (entry.samples + 1, 1 << 20);
  const double weight = std::max (1.0 / entry.samples, kNewest);
  if (entry.samples > 2)
    milliseconds = std::min (milliseconds, entry.milliseconds * kOutlier);
  entry.tokens += (tokens - entry.tokens) * weight;
  entry.milliseconds += (milliseconds - entry.milliseconds) * weight;
}

double
VerifyCost::milliseconds (int tokens) const
{
  if (seen_ == 0)
    return 0;
  // The nearest seen entries around, their times made to rise: a hundred numbers, read once a step.
  const Entry *below = nullptr, *before_below = nullptr;
  double highest = 0, before_highest = 0;
  for (const Entry &entry : entries_) {
    if (entry.samples == 0)
      continue;
    if (entry.tokens > tokens) {
      if (!below) // fewer than ever seen: less by what tokens are taken to cost
        return entry.milliseconds / (1 + kFirstShare * (entry.tokens - tokens));
      const double rise = std::max (entry.milliseconds, highest) - highest;
      return highest + rise * (tokens - below->tokens) / (entry.tokens - below->tokens);
    }
    before_below = below;
    before_highest = highest;
    below = &entry;
    highest = std::max (highest, entry.milliseconds);
  }
  const double slope = before_below ? (highest - before_highest) / (below->tokens - before_below->tokens)
                                    : kFirstShare * highest / below->tokens;
  return highest + slope * (tokens - below->tokens);
}

} // namespace millrace
