// How long a step takes by the tokens it scores: measured, since the costs of rows are anything but linear.
//
// A table over the number of scored tokens (each of 1 … 64, then by 16s), each entry a moving average of steps without
// prefill, less what reading keys and values took. What has not been seen is interpolated between what has; beyond that
// a token costs what the last ones did, or at first `kFirstShare` of a step, which is little on purpose: to find out
// costs a few steps, and not to find out costs all that drafts might have saved. More tokens never cost less.
//
// No clock, no allocation; one thread.
#pragma once

#include <array>

namespace millrace
{

class VerifyCost
{
public:
  /// A step without prefill that scored `tokens`, whose sequences have `positions` in all, took `milliseconds`, of which
  /// `milliseconds_per_position` · positions were for keys and values.
  void learn (int tokens, double milliseconds);
  /// Of a step that scores `tokens`; 0 while nothing is known.
  double milliseconds (int tokens) const;
  bool knows_any () const { return seen_ > 0; }

private:
  static constexpr int kSingle = 64, kStep = 16, kCoarse = 60;
  static constexpr double kFirstShare = 0.12;
  struct Entry {
    double tokens = 0; ///< mean of those seen
    double milliseconds = 0;
    int samples = 0;
  };

  static int index_of (int tokens);

  std::array<Entry, kSingle + kCoarse> entries_{};
  int seen_ = 0;
};

} // namespace millrace
