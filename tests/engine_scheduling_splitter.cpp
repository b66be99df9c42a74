// labels: unit property
// Where a stream is cut into pieces never matters to the prompts that come out.

#include "engine/scheduling/request_splitter.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <random>
#include <vector>

using namespace millrace;

namespace
{

std::vector<std::string>
split (Boundary boundary, std::string_view text, const std::vector<size_t> &cuts, size_t limit = 1000)
{
  std::vector<std::string> prompts;
  RequestSplitter splitter (boundary, limit);
  const auto emit = [&] (const RequestSplitter::Prompt &prompt) {
    prompts.push_back ((prompt.too_long ? "!" : "") + std::string (prompt.text));
  };
  size_t start = 0;
  for (size_t cut : cuts) {
    splitter.push (text.substr (start, cut - start), emit);
    start = cut;
  }
  splitter.push (text.substr (start), emit);
  splitter.finish (emit);
  return prompts;
}

using Prompts = std::vector<std::string>;

} // namespace

TEST (Splitter, LinesLoseTheirEndAndEmptyOnesAreNoPrompt)
{
  EXPECT_EQ (split (Boundary::kLine, "a\n\r\nb c\r\n\nd", {}), (Prompts{"a", "b c", "d"}));
  EXPECT_EQ (split (Boundary::kLine, "", {}), Prompts{});
  EXPECT_EQ (split (Boundary::kLine, "x\ry\n", {}), Prompts{"x\ry"});
}

TEST (Splitter, TheEndDropsOneNewline)
{
  EXPECT_EQ (split (Boundary::kEnd, "def f:\n", {}), Prompts{"def f:"});
  EXPECT_EQ (split (Boundary::kEnd, "a\n\n", {}), Prompts{"a\n"});
  EXPECT_EQ (split (Boundary::kEnd, "a\r\n", {}), Prompts{"a"});
  EXPECT_EQ (split (Boundary::kEnd, "", {}), Prompts{""});
}

TEST (Splitter, BuffersAreKeptAsTheyAre)
{
  EXPECT_EQ (split (Boundary::kBuffer, "a\nb\n", {2}), (Prompts{"a\n", "b\n"}));
}

TEST (Splitter, TooLongIsReportedAndTheNextLineIsFine)
{
  EXPECT_EQ (split (Boundary::kLine, "12345\nab\n123456789\nc", {}, 5),
             (Prompts{"12345", "ab", "!12345", "c"}));
  EXPECT_EQ (split (Boundary::kEnd, "123456", {3}, 5), Prompts{"!12345"});
  EXPECT_EQ (split (Boundary::kBuffer, "123456", {}, 5), Prompts{"!12345"});
}

TEST (Splitter, CutsDoNotMatter)
{
  const uint64_t seed = test_seed ();
  std::mt19937_64 random (seed);
  const std::string alphabet[] = {"a", "é", "漢", "\n", "\r\n", "\r", "{}", "🎈"};
  for (int round = 0; round < 5000; round++) {
    std::string text;
    for (int i = static_cast<int> (random () % 40); i > 0; i--)
      text += alphabet[random () % std::size (alphabet)];
    std::vector<size_t> cuts;
    for (size_t at = random () % 4; at < text.size (); at += 1 + random () % 5)
      cuts.push_back (at);
    for (Boundary boundary : {Boundary::kLine, Boundary::kEnd})
      ASSERT_EQ (split (boundary, text, cuts, 20), split (boundary, text, {}, 20)) << "seed " << seed;
  }
}
