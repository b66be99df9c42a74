// Random numbers that are the same with every standard library, and tokens that depend on nothing but their place.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace millrace::sim
{

/// Source: splitmix64 (Steele, Lea, Flood 2014).
inline uint64_t
mix (uint64_t value)
{
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

class Random
{
public:
  explicit Random (uint64_t seed)
      : state_ (mix (seed))
  {
  }
  uint64_t next () { return mix (state_++); }
  double uniform () { return (static_cast<double> (next () >> 11) + 0.5) * 0x1p-53; } ///< in (0, 1)
  int below (int bound) { return static_cast<int> (next () % static_cast<uint64_t> (bound)); }
  double exponential (double mean) { return -mean * std::log (uniform ()); }
  double normal ()
  {
    const double radius = std::sqrt (-2 * std::log (uniform ()));
    return radius * std::cos (2 * std::numbers::pi * uniform ());
  }
  /// Log-normal, rounded, in [1, most].
  int length (double median, double sigma, int most)
  {
    const double drawn = median * std::exp (sigma * normal ());
    return std::clamp (static_cast<int> (std::min (drawn, 1e9)), 1, most);
  }

private:
  uint64_t state_;
};

/// The i-th token of a text.
inline int32_t
token_of (uint64_t text, int i, int vocab)
{
  return static_cast<int32_t> (mix (text + static_cast<uint64_t> (i)) % static_cast<uint64_t> (vocab));
}

} // namespace millrace::sim
