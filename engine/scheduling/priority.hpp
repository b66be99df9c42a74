// Who goes first: classes of requests, and the order that waiting makes fair.
#pragma once

#include <cstdint>

namespace millrace
{

enum class Priority : uint8_t { kLow, kNormal, kHigh };

/// "low", "normal", "high".
constexpr const char *
priority_name (Priority priority)
{
  constexpr const char *kNames[] = {"low", "normal", "high"};
  return kNames[static_cast<int> (priority)];
}

constexpr int64_t kAgingUs = 5'000'000; ///< a class is worth this much of waiting

/// Smaller goes first. Settled once, on arrival.
constexpr int64_t
rank_of (int64_t submitted_us, Priority priority)
{
  return submitted_us + (static_cast<int64_t> (Priority::kHigh) - static_cast<int64_t> (priority)) * kAgingUs;
}

} // namespace millrace
