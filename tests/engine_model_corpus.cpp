// The fuzz target of models' files over its corpus, and over random changes to it.
//
// labels: unit property
// timeout: 300
// soak: ROUNDS=300000
#include "tests/fuzz_corpus.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include "tests/fuzz/model_file.cpp"

#include <algorithm>
#include <random>
#include <vector>

namespace
{

void
run (const std::string &input)
{
  // A buffer of exactly this size, so that a sanitizer sees a read past it.
  const std::vector<uint8_t> exact (input.begin (), input.end ());
  LLVMFuzzerTestOneInput (exact.data (), exact.size ());
}

} // namespace

TEST (ModelCorpus, every_seed)
{
  const std::vector<std::string> seeds = millrace::fuzz::corpus ("model_file");
  EXPECT_GE (seeds.size (), 12u);
  for (const std::string &seed : seeds)
    run (seed);
}

// Bytes changed, taken out, doubled; parts of other seeds in between.
TEST (ModelCorpus, random_changes)
{
  const std::vector<std::string> seeds = millrace::fuzz::corpus ("model_file");
  std::mt19937_64 random (test_seed ());
  const auto below = [&] (size_t bound) { return static_cast<size_t> (random () % bound); };
  for (int round = test_rounds (1500); round > 0; --round) {
    std::string input = seeds[below (seeds.size ())];
    for (size_t changes = 1 + below (4); changes > 0 && input.size () > 2; --changes) {
      // Headers are at the front, and what is changed there matters most.
      const size_t at = 1 + below (below (2) ? std::min<size_t> (input.size () - 1, 400) : input.size () - 1);
      const size_t count = std::min (input.size () - at, 1 + below (below (4) ? 4 : 200));
      const std::string &other = seeds[below (seeds.size ())];
      const std::string part = other.substr (below (other.size ()), count);
      switch (below (5)) {
      case 0:
        input[at] = static_cast<char> (random ());
        break;
      case 1:
        input.erase (at, count);
        break;
      case 2:
        input.insert (at, input.substr (at, count));
        break;
      case 3:
        input.replace (at, part.size (), part);
        break;
      default:
        input.resize (at);
        break;
      }
    }
    run (input);
  }
}
