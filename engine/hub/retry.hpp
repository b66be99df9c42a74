// When a request to a hub is made again, and after how long.
//
// Delays double from attempt to attempt, each a random part of its half more, so that clients which failed together do not
// come back together; a server's Retry-After is kept. Pure; any thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>

namespace millrace
{

struct RetryPolicy {
  int attempts = 6; ///< in a row that bring nothing, before it is given up
  double first_delay_s = 1;
  double most_delay_s = 60;
  double most_retry_after_s = 600; ///< a server that asks for more is not waited for
};

/// Too many requests, a time-out, or trouble of the server's own.
constexpr bool
is_passing_status (unsigned status)
{
  return status == 408 || status == 425 || status == 429 || (status >= 500 && status != 501 && status != 505);
}

/// After attempt `failed` (from 0) has failed; `random` in [0, 1). None: it is not tried again.
inline std::optional<double>
retry_delay_s (const RetryPolicy &policy, int failed, double random, std::optional<double> retry_after_s)
{
  if (failed + 1 >= policy.attempts || retry_after_s.value_or (0) > policy.most_retry_after_s)
    return std::nullopt;
  const double delay =
      std::min (policy.most_delay_s, policy.first_delay_s * std::exp2 (std::min (failed, 30))) *
      (0.5 + 0.5 * random);
  return std::max (delay, retry_after_s.value_or (0));
}

} // namespace millrace
