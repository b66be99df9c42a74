// The fuzz target over its corpus, and over random changes to it.
//
// labels: unit property http
// soak: ROUNDS=3000000
#include "tests/fuzz/api_request.cpp"

#include "tests/fuzz_corpus.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace
{

void
run (const std::string &input)
{
  // A buffer of exactly this size, so that a sanitizer sees a read past it.
  const std::vector<uint8_t> exact (input.begin (), input.end ());
  LLVMFuzzerTestOneInput (exact.data (), exact.size ());
}

/// The scalar after the first colon from `at` on, so that what comes out is JSON more often than not.
void
replace_value (std::string &input, size_t at, const std::string &value)
{
  const size_t colon = input.find (':', at);
  if (colon == std::string::npos)
    return;
  const size_t end = std::min (input.find_first_of (",}]", colon), input.size ());
  input.replace (colon + 1, end - colon - 1, value);
}

} // namespace

TEST (ApiCorpus, every_seed)
{
  const std::vector<std::string> seeds = millrace::fuzz::corpus ("api_request");
  EXPECT_GE (seeds.size (), 50u);
  for (const std::string &seed : seeds)
    run (seed);
}

TEST (ApiCorpus, random_changes)
{
  static const std::vector<std::string> kInserts = {"\"",
                                                    "{",
                                                    "}",
                                                    "[",
                                                    "]",
                                                    ",",
                                                    ":",
                                                    "null",
                                                    "true",
                                                    "-1",
                                                    "0",
                                                    "1e",
                                                    "\\",
                                                    "\xff",
                                                    "9999",
                                                    "1.5",
                                                    "\"a\":",
                                                    "{}",
                                                    "[]",
                                                    "\\u0000",
                                                    "\\udc00",
                                                    "\"n\":3,",
                                                    "\"stream\":true,"};
  static const std::vector<std::string> kValues = {
      "null", "true",  "false",    "0",  "1",  "-1",  "2.5",    "1e9", "18446744073709551615",
      "\"\"", "\"x\"", "\"auto\"", "[]", "{}", "[1]", "[\"a\"]"};
  std::mt19937_64 random (test_seed ());
  const auto below = [&random] (size_t n) { return static_cast<size_t> (random () % n); };
  const std::vector<std::string> seeds = millrace::fuzz::corpus ("api_request");
  const int rounds = test_rounds (200000);
  for (int round = 0; round < rounds; round++) {
    std::string input = seeds[below (seeds.size ())];
    for (size_t changes = 1 + below (4); changes > 0; changes--) {
      const size_t at = below (input.size () + 1);
      const size_t length = below (8);
      switch (below (6)) {
      case 0:
        input.insert (at, kInserts[below (kInserts.size ())]);
        break;
      case 1:
        input.erase (at, length);
        break;
      case 2:
        if (at < input.size ())
          input[at] = static_cast<char> (below (256));
        break;
      case 3:
        input.insert (at, input.substr (below (input.size () + 1), length * 4));
        break;
      case 4:
        replace_value (input, at, kValues[below (kValues.size ())]);
        break;
      default: {
        const std::string &other = seeds[below (seeds.size ())];
        input = input.substr (0, at) + other.substr (below (other.size () + 1));
      }
      }
    }
    run (input);
  }
}
