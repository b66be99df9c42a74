// The seed of a property test: random, printed, and repeated with MILLRACE_SEED=….
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

inline uint64_t
test_seed ()
{
  const char *given = std::getenv ("MILLRACE_SEED");
  const uint64_t seed = given && *given ? std::strtoull (given, nullptr, 10) : std::random_device{}();
  std::printf ("MILLRACE_SEED=%llu\n", static_cast<unsigned long long> (seed));
  return seed;
}

/// How often a property test tries: `usual`, or what the environment variable ROUNDS says.
inline int
test_rounds (int usual)
{
  const char *given = std::getenv ("ROUNDS");
  return given && *given ? std::atoi (given) : usual;
}
