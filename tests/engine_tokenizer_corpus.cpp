// The fuzz targets of tokenizers over their corpora, and over random changes to them.
//
// labels: unit property
// timeout: 300
// soak: ROUNDS=300000
#include "engine/tokenizer/tokenizer_sentencepiece.hpp"
#include "tests/fuzz/tokenizer_files.hpp"
#include "tests/fuzz_corpus.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace
{

using namespace millrace;

/// Aborts when a tokenizer does what none may do.
template <typename Load>
void
run (const std::string &input, const Load &load)
{
  const std::vector<uint8_t> exact (input.begin (), input.end ());
  fuzz::load_and_check (exact.data (), exact.size (), load);
}

std::string
changed (std::string input, const std::vector<std::string> &seeds, const std::vector<std::string> &inserts,
         std::mt19937_64 &random)
{
  const auto below = [&random] (size_t n) { return static_cast<size_t> (random () % n); };
  for (size_t changes = 1 + below (3); changes > 0; changes--) {
    const size_t at = below (input.size () + 1);
    switch (below (6)) {
    case 0:
      input.insert (at, inserts[below (inserts.size ())]);
      break;
    case 1:
      input.erase (at, 1 + below (8));
      break;
    case 2:
      if (at < input.size ())
        input[at] = static_cast<char> (below (256));
      break;
    case 3:
      input.insert (at, input.substr (below (input.size () + 1), 1 + below (32)));
      break;
    case 4:
      input.resize (at);
      break;
    default: {
      const std::string &other = seeds[below (seeds.size ())];
      input = input.substr (0, at) + other.substr (below (other.size () + 1));
    }
    }
  }
  return input;
}

template <typename Load>
void
run_all (const char *name, const std::vector<std::string> &inserts, const Load &load)
{
  const std::vector<std::string> seeds = millrace::fuzz::corpus (name);
  EXPECT_GE (seeds.size (), 5u);
  for (const std::string &seed : seeds)
    run (seed, load);
  std::mt19937_64 random (test_seed ());
  const int rounds = test_rounds (1500);
  for (int round = 0; round < rounds; round++)
    run (changed (seeds[static_cast<size_t> (random () % seeds.size ())], seeds, inserts, random), load);
}

} // namespace

TEST (TokenizerCorpus, seeds_of_tokenizer_json_and_changes_to_them)
{
  run_all ("tokenizer_json",
           {"\"",      "{",    "}",   "[",        "]",    ",",        ":",      "null",  "true", "false",
            "-1",      "0",    "1e9", "\\",       "\xff", "99999999", "\"a\":", "{}",    "[]",   "\\u0000",
            "\\udc00", "\"\"", "▁",   "\\\\p{L}", "(",    ")*",       "++",     "<0x00>"},
           [] (const std::string &path) { return Tokenizer::load (path); });
}

TEST (TokenizerCorpus, seeds_of_tokenizer_model_and_changes_to_them)
{
  run_all ("tokenizer_model",
           {std::string (1, '\0'), "\xff", "\x0a\x02", "\x12\x04\x18\x02", "\x1a", "\x80\x80\x80\x80\x10",
            "▁", "\x7f\x80", "\x18\x04", "\x15\xff\xff\xff\x7f"},
           [] (const std::string &path) { return load_sentencepiece_tokenizer (path); });
}
