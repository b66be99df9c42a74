// How long a step takes by the tokens it scores: measured, since the costs of rows are anything but linear.
//
// A table over the number of scored tokens (each of 1 … 64, then by 16s), of steps without prefill. What has not been seen is interpolated between what has; beyond that a token is hoped to cost half of
// what the last ones did, or at first `kFirstShare` of a step. That is little on purpose: to find out costs a few steps,
// not to find out costs all that drafts might have saved, and longer passes do use a machine better. More tokens never
// cost less.
//
// A machine is faster and slower by turns (its clock, its neighbours), and all entries with it. So entries hold times at an
// even pace, and the pace is learned from the last steps. And whatever disturbs a step makes it longer, now and then by a lot:
// pace and entries are medians of the last few samples (an entry's mean is kept near that), and where entries contradict each
// other, those that were seen more often win. Else one bad moment could make drafts look dear for minutes, or, when it hits a
// step without any, cheap. What was seen only a few times counts as a little dearer than it looked. An entry that has not been
// seen for a long time grows a little cheaper, again and again, until it is.
//
// Steps also read keys and values. What a position costs is known badly while all sequences are about as long, so an entry keeps
// times as they were, and with them how many positions were read: only the difference to those of another step is priced.
//
// No clock, no allocation; one thread.
#pragma once

#include <array>
#include <climits>
#include <cstdint>

namespace millrace
{

/// The median of the last few values; of two the lower one, since what disturbs makes longer.
class RecentMedian
{
public:
  void add (double value);
  double median () const; ///< of one value at least
  void scale (double factor);
  void shift (double by);

  static constexpr int kRecent = 5;

private:
  std::array<double, kRecent> seen_{};
  int next_ = 0, count_ = 0;
};

class VerifyCost
{
public:
  /// A step without prefill that scored `tokens` took so long. Its sequences had `positions` in all, each of which is believed
  /// to cost `position_ms`.
  void learn (int tokens, double milliseconds, double positions = 0, double position_ms = 0);
  /// Of a step that scores `tokens` of sequences with so many positions; 0 while nothing is known.
  /// Constant time, but for the first call after learn () or with other positions.
  double milliseconds (int tokens, double positions = 0) const;
  /// Whether steps of that many tokens, or fewer, have been seen, and not only one that may have been disturbed: before, nobody
  /// can say what more of them add.
  bool knows (int tokens) const;

private:
  static constexpr int kSingle = 64, kStep = 16, kCoarse = 60;
  static constexpr int kRecent = RecentMedian::kRecent;
  static constexpr double kFirstShare = 0.12;
  struct Entry {
    RecentMedian recent;     ///< times at pace 1 and `positions`
    double tokens = 0;       ///< mean of those seen
    double positions = 0;    ///< mean of the last few
    double milliseconds = 0; ///< at pace 1 and `positions`
    int samples = 0;
    uint64_t last = 0; ///< step in which it was seen, or made cheaper
  };

  static constexpr int kCurve = kSingle + kStep * kCoarse;

  static int index_of (int tokens);
  double at_positions (const Entry &entry, double positions) const;
  void make_cheaper_if_stale (Entry &entry);
  void draw_curve (double positions) const;

  std::array<Entry, kSingle + kCoarse> entries_{};
  int fewest_ = INT_MAX; ///< tokens of a step that was seen
  double pace_ = 1;      ///< of the machine now: times are so many times the entries'
  RecentMedian paces_;
  double position_ms_ = 0; ///< at pace 1
  uint64_t steps_ = 0;

  mutable std::array<float, kCurve + 1> curve_{}; ///< by tokens, at pace 1; drawn when it is asked for
  mutable bool drawn_ = false;
  mutable double drawn_positions_ = 0;
};

} // namespace millrace
