#include "engine/drafting/verify_cost.hpp"

#include <algorithm>
#include <cmath>

namespace millrace
{

namespace
{

constexpr double kNewest = 1.0 / 16; ///< what a sample weighs at least
constexpr double kOutlier = 1.25;    ///< times the recent median: as much as a sample may say, up and down
constexpr double kUnheardOf = 2;     ///< times what was expected: as much as a first sample may say
constexpr double kHope = 0.5;        ///< times what the last tokens cost: what unseen ones may
constexpr double kUnsure = 0.1;      ///< by so much an entry of one sample counts as dearer, of n by an n-th
constexpr int kKnown = 4;            ///< samples, whose median nothing disturbed
constexpr int kTrusted = 8;          ///< samples after which an entry says something of the pace
constexpr int kMostWeight = 64;      ///< samples, where neighbours disagree
constexpr int kStale = 96;           ///< steps, for each sample
constexpr double kCheaper = 0.97, kMuchCheaper = 0.9;
constexpr double kLeastPace = 0.1, kMostPace = 10;
constexpr double kNewestPositions = 0.25; ///< what a sample weighs in an entry's mean of positions
constexpr double kMostPriced =
    4; ///< times what was measured: the most that other positions make of it, up and down

/// `milliseconds` with `more` for other positions.
double
with_positions (double milliseconds, double more)
{
  return std::clamp (milliseconds + more, milliseconds / kMostPriced, milliseconds * kMostPriced);
}

} // namespace

void
RecentMedian::add (double value)
{
  seen_[static_cast<size_t> (next_)] = value;
  next_ = (next_ + 1) % kRecent;
  count_ = std::min (count_ + 1, kRecent);
}

double
RecentMedian::median () const
{
  std::array<double, kRecent> sorted = seen_;
  const auto end = sorted.begin () + count_;
  const auto middle = sorted.begin () + (count_ - 1) / 2;
  std::nth_element (sorted.begin (), middle, end);
  return count_ == 4 ? (*middle + *std::min_element (middle + 1, end)) / 2 : *middle;
}

void
RecentMedian::scale (double factor)
{
  for (double &value : seen_)
    value *= factor;
}

void
RecentMedian::shift (double by)
{
  for (double &value : seen_)
    value = with_positions (value, by);
}

double
VerifyCost::at_positions (const Entry &entry, double positions) const
{
  return with_positions (entry.milliseconds, (positions - entry.positions) * position_ms_);
}

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
  const double factor = trust < kTrusted ? kMuchCheaper : kCheaper;
  entry.milliseconds *= factor;
  entry.recent.scale (factor);
  entry.samples = trust; // and believes what comes then
  entry.last = steps_;
}

void
VerifyCost::learn (int tokens, double milliseconds, double positions, double position_ms)
{
  if (!std::isfinite (milliseconds) || milliseconds <= 0)
    return;
  ++steps_;
  Entry &entry = entries_[static_cast<size_t> (index_of (tokens))];
  if (entry.samples >= kTrusted) {
    paces_.add (milliseconds / at_positions (entry, positions));
    pace_ = std::clamp (paces_.median (), kLeastPace, kMostPace);
  }
  position_ms_ = position_ms / pace_;
  double sample = milliseconds / pace_;
  if (entry.samples == 0) {
    if (fewest_ <= tokens)
      sample = std::min (sample, kUnheardOf * this->milliseconds (tokens, positions) / pace_);
    entry.positions = positions;
  }
  const double moved = (positions - entry.positions) * kNewestPositions;
  entry.positions += moved;
  entry.recent.shift (moved * position_ms_);
  entry.milliseconds = with_positions (entry.milliseconds, moved * position_ms_);
  sample = with_positions (sample, (entry.positions - positions) * position_ms_);
  fewest_ = std::min (fewest_, tokens);
  entry.samples = std::min (entry.samples + 1, 1 << 20);
  entry.last = steps_;
  entry.recent.add (sample);
  const double weight = std::max (1.0 / entry.samples, kNewest);
  entry.tokens += (tokens - entry.tokens) * weight;
  // What disturbs a step makes it longer, now and then by a lot: the median says what is usual, the mean says it more exactly.
  const double median = entry.recent.median ();
  const double low = median / kOutlier, high = median * kOutlier;
  entry.milliseconds = std::clamp (
      entry.milliseconds + (std::clamp (sample, low, high) - entry.milliseconds) * weight, low, high);
  if (entry.samples < kRecent)
    entry.milliseconds = median;

  make_cheaper_if_stale (entries_[static_cast<size_t> (steps_ % entries_.size ())]);
  drawn_ = false;
}

/// The times of the seen entries, made to rise by taking means where neighbours disagree (isotonic regression by pooling
/// adjacent violators: Ayer et al. 1955), and straight lines between them.
void
VerifyCost::draw_curve (double positions) const
{
  struct Pool {
    double milliseconds, weight;
    int entries;
  };
  std::array<Pool, kSingle + kCoarse> pools;
  size_t count = 0;
  for (const Entry &entry : entries_) {
    if (entry.samples == 0)
      continue;
    // Among many lengths the one that looks cheapest is often one that was merely lucky.
    Pool pool = {at_positions (entry, positions) * (1 + kUnsure / entry.samples),
                 static_cast<double> (std::min (entry.samples, kMostWeight)), 1};
    for (; count > 0 && pools[count - 1].milliseconds > pool.milliseconds; --count) {
      const Pool &before = pools[count - 1];
      const double weight = before.weight + pool.weight;
      pool = {(before.milliseconds * before.weight + pool.milliseconds * pool.weight) / weight, weight,
              before.entries + pool.entries};
    }
    pools[count++] = pool;
  }

  int done = 0; // tokens whose time is in the curve
  double tokens = 0, highest = 0, slope = 0;
  size_t pool = 0;
  int left = pools[0].entries; // of the pool
  for (const Entry &entry : entries_) {
    if (entry.samples == 0)
      continue;
    if (left == 0)
      left = pools[++pool].entries;
    --left;
    const double milliseconds = pools[pool].milliseconds;
    if (done == 0) // fewer tokens than ever seen
      slope = kFirstShare * milliseconds / entry.tokens;
    else
      slope = (milliseconds - highest) / (entry.tokens - tokens);
    const auto last = static_cast<int> (entry.tokens);
    for (; done < std::min (last, kCurve); ++done)
      curve_[static_cast<size_t> (done + 1)] =
          static_cast<float> (milliseconds + slope * (done + 1 - entry.tokens));
    tokens = entry.tokens;
    highest = milliseconds;
  }
  slope *= kHope;
  for (; done < kCurve; ++done)
    curve_[static_cast<size_t> (done + 1)] = static_cast<float> (highest + slope * (done + 1 - tokens));
  drawn_ = true;
  drawn_positions_ = positions;
}

bool
VerifyCost::knows (int tokens) const
{
  int samples = 0;
  for (int i = 0; i <= index_of (tokens) && samples < kKnown; ++i)
    samples += entries_[static_cast<size_t> (i)].samples;
  return samples >= kKnown;
}

double
VerifyCost::milliseconds (int tokens, double positions) const
{
  if (fewest_ == INT_MAX)
    return 0;
  if (!drawn_ || positions != drawn_positions_)
    draw_curve (positions);
  return pace_ * curve_[static_cast<size_t> (std::clamp (tokens, 1, kCurve))];
}

} // namespace millrace
