// How far values are from what they should be.
#pragma once

#include <cmath>
#include <span>

namespace millrace::testing
{

/// Root of the mean square of the difference, as a part of the values' own.
inline double
relative_error (std::span<const float> expected, std::span<const float> found)
{
  double error = 0, power = 0;
  for (size_t i = 0; i < expected.size (); ++i) {
    error += (expected[i] - found[i]) * static_cast<double> (expected[i] - found[i]);
    power += expected[i] * static_cast<double> (expected[i]);
  }
  return std::sqrt (error / power);
}

} // namespace millrace::testing
