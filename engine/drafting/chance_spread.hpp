// How likely a drafter's guesses have been, as far as is remembered: a histogram of chances.
//
// What the next guess is worth depends on the spread and not on the mean alone: one that turns out unlikely is not
// verified. Values; no allocation.
#pragma once

#include <array>

namespace millrace
{

class ChanceSpread
{
public:
  /// Before anything is known: sure or not, half and half, as of 8 guesses.
  ChanceSpread ();

  void add (double chance, double memory); ///< which is the most that those before count as
  void scale (double weight);              ///< as much as so many guesses
  void merge (const ChanceSpread &other);
  /// Mean of the chances above `floor`, 0 when there are none, and the share of guesses that have such.
  double mean_above (double floor, double &share) const;
  double mean () const;

private:
  static constexpr int kBands = 8; ///< even in chance
  std::array<double, kBands> shares_{};
};

} // namespace millrace
